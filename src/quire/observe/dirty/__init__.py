"""Dirty logging: which guest frames were written, found in three ways behind one interface with equal results.

Contract: a page that the guest, its processor's walks or Quire itself writes is in the next harvest, at 4 KiB; a page
that nobody wrote is not, but for pages whose mapping the hypervisor changed. What is cleared is flushed. A log that
cannot be started leaves nothing behind.
"""

from quire.observe.dirty.dirty_log import DirtyLog
from quire.observe.dirty.pages import DirtyPages
from quire.observe.dirty.ring import DirtyRing, DirtyRingFull
from quire.observe.dirty.way import DirtyWay

__all__ = ["DirtyLog", "DirtyPages", "DirtyRing", "DirtyRingFull", "DirtyWay"]
