"""Which operation invalidates what: the manual's rules as one table (SDM 3A §4.10.4, SDM 3C §28.4.3).

Each row says which classes of mappings an operation reaches, which tags must be equal, whether it takes one page or
all, and which paging-structure-cache entries go. What a row does not name stays. Kernels, the Python interface,
documentation and tests read these rows; :meth:`quire.tlb.Tlb.invalidate` is the one entry point.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

__all__ = ["MappingClass", "Operand", "Operation", "Rule", "Structures"]


class MappingClass(StrEnum):
    """What a processor may cache (SDM 3C §28.4.1)."""

    LINEAR = "linear"
    GUEST_PHYSICAL = "guest-physical"
    COMBINED = "combined"


class Structures(StrEnum):
    """Which entries of paging-structure caches go with an operation that names one page."""

    ADDRESS = "address"  #: those that translate the page's address
    ALL = "all"  #: of the named tags, whatever their address


@dataclass(frozen=True, slots=True)
class Operand:
    """What an operation is applied to: tags and addresses; what its rule does not name is ignored."""

    vpid: int = 0
    pcid: int = 0
    ep4ta: int | None = None
    gva: int = 0
    gpa: int = 0


_ALL = frozenset(MappingClass)
_GUEST = frozenset((MappingClass.LINEAR, MappingClass.COMBINED))
_EPT = frozenset((MappingClass.GUEST_PHYSICAL, MappingClass.COMBINED))
_COMBINED = frozenset((MappingClass.COMBINED,))


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `when` says when it is executed, `section` where the manual says what it does.

    `classes` are reached, none of them where nothing is required. `vpid`, `pcid`, `ep4ta`: the tag must be the
    operand's (guest-physical mappings have only EP4TA). `page`: only what translates the operand's address, and of
    paging-structure caches what `structures` says. `global_pages`: they too. `spare_vpid_0`: those of VPID 0 stay.
    """

    when: str
    section: str
    classes: frozenset[MappingClass] = _GUEST
    vpid: bool = True
    pcid: bool = False
    ep4ta: bool = False
    page: bool = False
    structures: Structures = Structures.ADDRESS
    global_pages: bool = True
    spare_vpid_0: bool = False


def _nothing(when: str, section: str) -> Rule:
    return Rule(when, section, classes=frozenset())


_CR = "SDM 3A §4.10.4.1"
_VMX = "SDM 3C §28.4.3.1"


class Operation(Enum):
    """Everything that invalidates cached mappings, or might be thought to, each with its rule."""

    INVLPG = Rule("INVLPG", _CR, pcid=True, page=True, structures=Structures.ALL)
    PAGE_FAULT = Rule("#PF", f"{_CR} (page faults)", pcid=True, page=True)
    INVPCID_ADDRESS = Rule("INVPCID, type 0", _CR, pcid=True, page=True, global_pages=False)
    INVPCID_CONTEXT = Rule("INVPCID, type 1", _CR, pcid=True, global_pages=False)
    INVPCID_ALL = Rule("INVPCID, type 2", _CR)
    INVPCID_ALL_RETAINING_GLOBALS = Rule("INVPCID, type 3", _CR, global_pages=False)
    MOV_CR0_PG = Rule("MOV to CR0, PG 1 to 0", _CR)
    MOV_CR0_OTHER = _nothing("MOV to CR0, any other change", _CR)
    MOV_CR3 = Rule("MOV to CR3, CR4.PCIDE = 0 or bit 63 = 0", _CR, pcid=True, global_pages=False)
    MOV_CR3_KEEP = _nothing("MOV to CR3, CR4.PCIDE = 1 and bit 63 = 1", _CR)
    MOV_CR4_PGE = Rule("MOV to CR4, PGE changed", _CR)
    MOV_CR4_PCIDE = Rule("MOV to CR4, PCIDE 1 to 0", _CR)
    MOV_CR4_PAE = Rule("MOV to CR4, PAE changed", _CR, pcid=True)
    MOV_CR4_SMEP = Rule("MOV to CR4, SMEP 0 to 1", _CR, pcid=True)
    MOV_CR4_OTHER = _nothing("MOV to CR4, any other change", _CR)
    TASK_SWITCH = Rule("task switch that loads CR3", _CR, pcid=True, global_pages=False)
    EPT_VIOLATION = Rule("EPT violation", _VMX, classes=_EPT, pcid=True, ep4ta=True, page=True)
    INVVPID_ADDRESS = Rule("INVVPID, type 0", _VMX, page=True)
    INVVPID_CONTEXT = Rule("INVVPID, type 1", _VMX)
    INVVPID_ALL = Rule("INVVPID, type 2", _VMX, vpid=False, spare_vpid_0=True)
    INVVPID_RETAINING_GLOBALS = Rule("INVVPID, type 3", _VMX, global_pages=False)
    INVEPT_CONTEXT = Rule("INVEPT, type 1", _VMX, classes=_EPT, vpid=False, ep4ta=True)
    INVEPT_ALL = Rule("INVEPT, type 2", _VMX, classes=_EPT, vpid=False)
    VM_ENTRY_VPID_0 = Rule("VM entry, VPIDs off", _VMX)
    VM_EXIT_VPID_0 = Rule("VM exit, VPIDs off", _VMX)
    VM_ENTRY_VPID = _nothing("VM entry, VPIDs on", _VMX)
    VM_EXIT_VPID = _nothing("VM exit, VPIDs on", _VMX)
    VMFUNC_VPID_0 = Rule("VMFUNC, EPTP switching, VPIDs off", "SDM 3C §25.5.6.3", classes=_COMBINED)
    VMFUNC_VPID = _nothing("VMFUNC, EPTP switching, VPIDs on", "SDM 3C §25.5.6.3")
