"""What watches a machine from outside: dirty logs, access tracking, the flush check, the host's audit.

Contract: each asks machines only for what its own protocol names, changes nothing that a guest can see, and leaves
nothing behind when it is closed.
"""

from quire.observe.access_tracking import AccessTracker, WorkingSet
from quire.observe.audit import HostAudit, audit_host
from quire.observe.dirty.dirty_log import DirtyLog
from quire.observe.dirty.pages import DirtyPages
from quire.observe.dirty.ring import DirtyRing, DirtyRingFull
from quire.observe.dirty.way import DirtyWay

__all__ = [
    "AccessTracker",
    "DirtyLog",
    "DirtyPages",
    "DirtyRing",
    "DirtyRingFull",
    "DirtyWay",
    "HostAudit",
    "WorkingSet",
    "audit_host",
]
