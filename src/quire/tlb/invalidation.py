"""Which operation invalidates what: the manual's rules as one table (SDM 3A §4.10.4, SDM 3C §28.4.3).

Each row says which tags an operation matches and whether it takes one page or all. INVVPID and INVEPT are the
hypervisor's, the rest the guest's; a guest operation reaches all EP4TAs of its VPID. :meth:`Tlb.invalidate` is
the one entry point. Guest-physical mappings and paging-structure caches are not modelled yet, so INVEPT and an
EPT violation act on combined mappings alone.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["Operation", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Tags that must be equal to the operand's (`vpid`, `pcid`, `ep4ta`), and the extent.

    `page`: only the page that holds the operand's linear address. `global_pages`: they too. `spare_vpid_0`:
    mappings of VPID 0 stay. `linear`: mappings made without EPT too. `section`: where the manual says so.
    """

    section: str
    vpid: bool = False
    pcid: bool = False
    ep4ta: bool = False
    page: bool = False
    global_pages: bool = True
    spare_vpid_0: bool = False
    linear: bool = True


class Operation(Enum):
    """Everything that invalidates TLB entries, each with its rule."""

    INVLPG = Rule("SDM 3A §4.10.4.1", vpid=True, pcid=True, page=True)
    PAGE_FAULT = Rule("SDM 3A §4.10.4.1 (page faults)", vpid=True, pcid=True, page=True)
    INVPCID_ADDRESS = Rule("SDM 3A §4.10.4.1 (type 0)", vpid=True, pcid=True, page=True, global_pages=False)
    INVPCID_CONTEXT = Rule("SDM 3A §4.10.4.1 (type 1)", vpid=True, pcid=True, global_pages=False)
    INVPCID_ALL = Rule("SDM 3A §4.10.4.1 (type 2)", vpid=True)
    INVPCID_ALL_RETAINING_GLOBALS = Rule("SDM 3A §4.10.4.1 (type 3)", vpid=True, global_pages=False)
    MOV_CR3 = Rule("SDM 3A §4.10.4.1 (MOV to CR3)", vpid=True, pcid=True, global_pages=False)
    MOV_CR4_PGE = Rule("SDM 3A §4.10.4.1 (CR4.PGE changed)", vpid=True)
    EPT_VIOLATION = Rule("SDM 3C §28.4.3.1", vpid=True, pcid=True, ep4ta=True, page=True, linear=False)
    INVVPID_ADDRESS = Rule("SDM 3C §28.4.3.1 (type 0)", vpid=True, page=True)
    INVVPID_CONTEXT = Rule("SDM 3C §28.4.3.1 (type 1)", vpid=True)
    INVVPID_ALL = Rule("SDM 3C §28.4.3.1 (type 2)", spare_vpid_0=True)
    INVVPID_RETAINING_GLOBALS = Rule("SDM 3C §28.4.3.1 (type 3)", vpid=True, global_pages=False)
    INVEPT_CONTEXT = Rule("SDM 3C §28.4.3.1 (type 1)", ep4ta=True, linear=False)
    INVEPT_ALL = Rule("SDM 3C §28.4.3.1 (type 2)", linear=False)
    VM_ENTRY_VPID_0 = Rule("SDM 3C §28.4.3.1 (VPIDs off)", vpid=True)
