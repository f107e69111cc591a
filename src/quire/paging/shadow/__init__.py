"""Shadow paging: tables in host frames that equal, for hardware, the guest's tables composed with the memory map.

Contract: at every moment each present entry is justified by the guest's tables and the memory map, or by what they
were when the guest last had to flush; the guest notices nothing but time. :class:`Shadow` says what a #PF exit comes
to and follows what the guest does; :func:`audit` proves the contract. Names and rules are those of KVM's mmu.rst.
"""

from quire.paging.shadow.audit import Breach, audit
from quire.paging.shadow.devices import DeviceRange
from quire.paging.shadow.page import LEAST_PAGES, FrameSource, ShadowPage
from quire.paging.shadow.role import Role
from quire.paging.shadow.shadow import Resolution, Shadow, Verdict

__all__ = [
    "LEAST_PAGES",
    "Breach",
    "DeviceRange",
    "FrameSource",
    "Resolution",
    "Role",
    "Shadow",
    "ShadowPage",
    "Verdict",
    "audit",
]
