"""What a walk is told and what it says, as flat arrays: the records that every walker shares.

A walk reads one ``uint64`` array of :class:`Context` fields (control registers, privilege, the size of memory)
and fills one of :class:`Result` fields. The kernel and its slow twin use the same two records, so that a test
can compare them byte for byte, and a compiled caller needs no Python object.
"""

from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SIZE, PAT_RESET, CpuProfile, PagingMode, physical_reserved, pse36_reserved
from quire.arch.profile import EPT_VPID_CAP
from quire.errors import MisuseError

__all__ = [
    "MAX_REFERENCES",
    "MEMO_SLOTS",
    "MEMO_WORDS",
    "RESULT_WORDS",
    "Context",
    "Dimension",
    "Memo",
    "Result",
    "Rights",
    "Status",
    "new_context",
]

Words = npt.NDArray[np.uint64]


class Status(IntEnum):
    """How a walk ended. A fault is a value: only OK yields a host-physical address."""

    OK = 0
    PAGE_FAULT = 1  #: #PF for the guest; ERROR holds its error code
    EPT_VIOLATION = 2  #: ERROR holds the exit qualification, FAULT_GPA the address
    EPT_MISCONFIGURATION = 3  #: FAULT_GPA holds the address; there is no qualification
    NON_CANONICAL = 4  #: #GP(0), or #SS(0) of a stack access: the linear address has no translation
    BUS_ERROR = 5  #: a table or page lies outside physical memory; FAULT_GPA holds the address
    VIRTUALIZATION_EXCEPTION = 6  #: #VE for the guest instead of an EPT violation; fields as of one
    LOG_FULL = 7  #: page-modification log full; FAULT_GPA holds the address, nothing was set
    SPP_EVENT = 8  #: SPPT miss (ERROR bit 11) or misconfiguration; FAULT_GPA holds the address
    PDPTE_FAULT = 9  #: #GP(0): a reserved bit in a PDPTE that was being loaded into its register


class Dimension(IntEnum):
    """Whose table a reference reads: the guest's own, or the hypervisor's EPT."""

    GUEST = 0
    HOST = 1


class Rights(IntFlag):
    """What a translation allows; the three low bits are those of an EPT entry and of an exit qualification."""

    READ = 1
    WRITE = 2
    EXECUTE = 4  #: with mode-based execute control in an EPT entry: from supervisor-mode addresses
    USER_EXECUTE = 8  #: bit 10 of an EPT entry, with mode-based execute control


class Context(IntEnum):
    """Index of each field in a context array: the part of the vCPU's state that a walk depends on."""

    CR3 = 0  #: guest CR3: GPA of the PML4 (HPA in one dimension), PCID and cache bits in 11:0
    EPTP = 1  #: EPT pointer, 0 when guest-physical is host-physical
    MEMORY_BYTES = 2  #: size of host-physical memory; no reference may reach it
    RESERVED = 3  #: mask of address bits 51:MAXPHYADDR
    NXE = 4  #: EFER.NXE
    WP = 5  #: CR0.WP
    SMEP = 6  #: CR4.SMEP
    SMAP = 7  #: CR4.SMAP
    USER = 8  #: CPL = 3
    PAGE_1G = 9  #: the processor has 1 GiB guest pages
    EPT_EXECUTE_ONLY = 10  #: IA32_VMX_EPT_VPID_CAP bit 0
    EPT_2M = 11  #: IA32_VMX_EPT_VPID_CAP bit 16
    EPT_1G = 12  #: IA32_VMX_EPT_VPID_CAP bit 17
    UPDATE = 13  #: 1: set accessed and dirty flags; 0: look only
    ADVANCED = 14  #: IA32_VMX_EPT_VPID_CAP bit 22: qualification bits 11:9 are reported
    VERSION = (
        15  #: of the tables and controls: grows when a mapping goes or changes, and makes every memo stale
    )
    MODE = 16  #: :class:`quire.arch.PagingMode`
    AC = 17  #: RFLAGS.AC: lets explicit supervisor accesses pass SMAP
    IMPLICIT = 18  #: the access is an implicit supervisor access (descriptor table, TSS), whatever USER says
    STACK = 19  #: the access is to the stack: #SS instead of #GP
    PSE = 20  #: CR4.PSE, of 32-bit paging
    PSE_RESERVED = 21  #: reserved bits of a 4 MiB PDE, see :func:`quire.arch.pse36_reserved`
    PKE = 22  #: CR4.PKE
    PKRU = 23
    PKS = 24  #: CR4.PKS
    PKRS = 25  #: IA32_PKRS
    CD = 26  #: CR0.CD: every access is uncacheable
    PAT = 27  #: IA32_PAT
    PDPTE0 = 28  #: the four PDPTE registers of PAE paging
    PDPTE1 = 29
    PDPTE2 = 30
    PDPTE3 = 31
    MBEC = 32  #: mode-based execute control for EPT
    PAGING_WRITE = 33  #: EPT paging-write control
    VERIFY_PAGING = 34  #: guest-paging verification
    SPP = 35  #: sub-page write permissions for EPT
    SPPTP = 36  #: HPA of the root of the sub-page-permission table
    PML = 37  #: page-modification logging
    PML_ADDRESS = 38  #: HPA of the log
    PML_INDEX = 39  #: of the next log entry, counting down; 16 bits
    VE = 40  #: EPT-violation #VE is on, CR0.PE = 1 and no event is being delivered
    VE_INFO = 41  #: HPA of the virtualization-exception information area
    EPTP_INDEX = 42  #: what a #VE reports
    PGE = 43  #: CR4.PGE: G of a leaf makes its page global
    # What only the explained walk models; a walk kernel takes them for 0.
    LAM_SUP = 44  #: CR4.LAM_SUP: supervisor pointers carry metadata
    LASS = 45  #: CR4.LASS: bit 63 of an address parts user and supervisor
    HLAT = 46  #: the control "enable HLAT"
    HLATP = 47  #: the HLAT pointer, GPA of the root that hypervisor-managed translation begins at
    HLAT_PREFIX = 48  #: how many of the highest address bits must be 1 for it; 0: none need be


class Result(IntEnum):
    """Index of each field in a result array."""

    STATUS = 0
    HPA = 1
    GPA = 2
    GUEST_SHIFT = 3  #: log2 of the guest page's size
    HOST_SHIFT = 4  #: log2 of the EPT page's size; equal to GUEST_SHIFT in one dimension
    RIGHTS = 5  #: allowed accesses at this privilege, both dimensions (:class:`Rights`)
    DIRTY = 6  #: 1 when a write needs no further walk: every dirty flag it would set is set
    GLOBAL = 7  #: G of the guest leaf, if CR4.PGE = 1
    ERROR = 8  #: page-fault error code or exit qualification
    FAULT_GPA = 9
    FAULT_LEVEL = 10
    FAULT_DIMENSION = 11
    GUEST_REFERENCES = 12  #: entries read from guest tables
    HOST_REFERENCES = 13  #: entries read from EPT tables
    VECTOR = 14  #: of the exception that the guest gets, 0 when it is an exit or none
    GVA = 15  #: the linear address walked
    REFERENCES = 16  #: first of the entry addresses (HPA), in the order they were read
    GUEST_ENTRY = 52  #: the guest leaf as it is after the walk; 0 without paging
    HOST_ENTRY = 53  #: the EPT leaf of the last guest-physical address translated; 0 in one dimension
    COMBINED = 54  #: RW, US and XD of a PTE, over all levels of the guest's tables
    EPT_RIGHTS = 55  #: over all levels of EPT (:class:`Rights`), of the page; all of them in one dimension


class Memo(IntEnum):
    """Words of a slot in a memo of walks, the last of guest slots alone."""

    KEY = 0  #: the region of 2 MiB, and above it the version
    TABLE = 1  #: HPA of its page table
    RIGHTS = 2  #: what the entries above the leaf allow, as bits of a leaf
    TABLE_GPA = 3  #: of its page table


#: (5 + 1) * (5 + 1) - 1 of a 5x5 walk.
MAX_REFERENCES = 35
RESULT_WORDS = 64
#: Regions of 2 MiB that a memo of walks holds in each dimension, and words of a slot.
MEMO_SLOTS = 4096
MEMO_WORDS = 2 * MEMO_SLOTS * len(Memo)


def new_context(profile: CpuProfile, memory_bytes: int) -> Words:
    """Return a context for a user-mode vCPU of `profile` over `memory_bytes` of host-physical memory.

    CR3 and EPTP are 0 and for the caller to set; 4-level paging with NXE, WP and PGE, all other controls off, PAT as
    after reset, flags are updated.
    Raises MisuseError when memory is not a positive multiple of the page size.
    """
    if memory_bytes <= 0 or memory_bytes % PAGE_SIZE:
        raise MisuseError(
            f"Memory of {memory_bytes:#x} bytes cannot be walked: give a positive multiple of {PAGE_SIZE:#x}"
        )
    context = np.zeros(len(Context), np.uint64)
    for field, value in (
        (Context.MEMORY_BYTES, memory_bytes),
        (Context.RESERVED, physical_reserved(profile.maxphyaddr)),
        (Context.NXE, 1),
        (Context.WP, 1),
        (Context.USER, 1),
        (Context.PAGE_1G, int(profile.page_1g)),
        (Context.EPT_EXECUTE_ONLY, EPT_VPID_CAP.get(profile.ept_caps, "execute_only")),
        (Context.EPT_2M, EPT_VPID_CAP.get(profile.ept_caps, "page_2m")),
        (Context.EPT_1G, EPT_VPID_CAP.get(profile.ept_caps, "page_1g")),
        (Context.UPDATE, 1),
        (Context.VERSION, 1),
        (Context.ADVANCED, EPT_VPID_CAP.get(profile.ept_caps, "advanced_exit_info")),
        (Context.MODE, PagingMode.LEVEL_4),
        (Context.PSE_RESERVED, pse36_reserved(profile.maxphyaddr, pse36=True)),
        (Context.PAT, PAT_RESET),
        (Context.PGE, 1),
    ):
        context[field] = value
    return context
