"""Exceptions of the processor: their vectors, the page-fault error code, and the kinds of access.

Models what a fault is called and what its error code says. Does not decide whether an access faults; the walk
does. Fails with MisuseError for an error code with reserved bits set, which no processor delivers.
"""

from enum import IntEnum

from quire.arch.layout import Layout, bit, reserved
from quire.errors import MisuseError

__all__ = ["PF_ERROR", "Access", "Vector", "describe_page_fault", "fault_access"]


class Access(IntEnum):
    """What an instruction does to the memory it names.

    The numbers are Quire's own, the same in kernels and traces; the manual has none.
    """

    READ = 0
    WRITE = 1
    FETCH = 2
    SHADOW_READ = 3  #: of a shadow stack, with CR4.CET: RET, RSTORSSP
    SHADOW_WRITE = 4  #: of a shadow stack, with CR4.CET: CALL, WRSS


class Vector(IntEnum):
    """Vectors of the architecture's exceptions (SDM 3A §6.3.1). 9, 15 and 22 to 31 are not assigned."""

    DE = 0  #: divide error
    DB = 1  #: debug
    NMI = 2  #: non-maskable interrupt: not an exception, but it has a vector
    BP = 3  #: breakpoint
    OF = 4  #: overflow
    BR = 5  #: BOUND range exceeded
    UD = 6  #: invalid opcode
    NM = 7  #: device not available
    DF = 8  #: double fault
    TS = 10  #: invalid TSS
    NP = 11  #: segment not present
    SS = 12  #: stack-segment fault
    GP = 13  #: general protection
    PF = 14  #: page fault
    MF = 16  #: x87 floating-point error
    AC = 17  #: alignment check
    MC = 18  #: machine check
    XM = 19  #: SIMD floating-point exception
    VE = 20  #: virtualization exception
    CP = 21  #: control protection


PF_ERROR = Layout(
    "PF_ERROR",
    32,
    "SDM 3A §4.7",
    (
        bit(0, "P", "the page was present: the access broke a rule; 0, a not-present entry"),
        bit(1, "W", "the access was a write"),
        bit(2, "U", "the access was a user-mode access"),
        bit(3, "RSVD", "a reserved bit was set in an entry"),
        bit(4, "ID", "the access was an instruction fetch"),
        bit(5, "PK", "protection keys forbade the access"),
        bit(6, "SS", "the access was a shadow-stack access"),
        bit(7, "HLAT", "the fault occurred during HLAT paging"),
        reserved(8, 14),
        bit(15, "SGX", "SGX access control forbade the access"),
        reserved(16, 31),
    ),
)


def describe_page_fault(error_code: int) -> str:
    """Return `error_code` in words: ``user write: page not present``.

    SDM 3A §4.7. Raises MisuseError if it does not fit in 32 bits or has reserved bits set.
    """
    said = PF_ERROR.decode(error_code)
    stray = error_code & PF_ERROR.reserved_mask
    if stray:
        raise MisuseError(
            f"Page-fault error code {error_code:#x} has reserved bits {stray:#x} set: "
            "pass the code that the fault delivered"
        )
    who = "user" if said["U"] else "supervisor"
    what = "instruction fetch" if said["ID"] else "write" if said["W"] else "read"
    how = " to a shadow stack" if said["SS"] else ""
    where = ", during HLAT paging" if said["HLAT"] else ""
    return f"{who} {what}{how}: {_cause(said)}{where}"


def fault_access(error_code: int) -> Access:
    """Return the access that faulted with `error_code` (SDM 3A §4.7): a shadow-stack access is one of its own."""
    said = PF_ERROR.decode(error_code)
    if said["SS"]:
        return Access.SHADOW_WRITE if said["W"] else Access.SHADOW_READ
    return Access.FETCH if said["ID"] else Access.WRITE if said["W"] else Access.READ


def _cause(said: dict[str, int]) -> str:
    """Say which rule the access broke; of several flags the one that the walk meets first."""
    if not said["P"]:
        return "page not present"
    if said["RSVD"]:
        return "reserved bit set in a paging-structure entry"
    if said["PK"]:
        return "forbidden by protection key"
    if said["SGX"]:
        return "forbidden by SGX access control"
    return "forbidden by access rights"
