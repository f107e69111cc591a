"""Why a Cpu stopped, as values: a VM exit, a trap into the guest's kernel, a system call, an interruption.

Under EPT neither a guest page fault nor SYSCALL leaves the guest: they are the guest kernel's, which Quire plays
for process guests. So a stop is either an exit (recorded in the VMCS, dealt with by the exit handlers) or an
entry to the guest's kernel. Stops are values that nobody changes; those made at every fault are not frozen, because
that takes four times as long to make.
"""

from dataclasses import dataclass
from enum import Enum

from quire.arch import ExitReason
from quire.vcpu.event import Event

__all__ = ["Exit", "Interrupted", "Stop", "Syscall", "Trap", "TrapKind"]


class TrapKind(Enum):
    """Hardware exceptions as the guest's kernel tells them apart."""

    PAGE_FAULT = "page fault"
    EXCEPTION = "exception"
    SOFTWARE_INTERRUPT = "software interrupt"


@dataclass(slots=True, unsafe_hash=True)
class Exit:
    """A VM exit: basic reason, qualification, and the addresses of an EPT violation (SDM 3C §27.2).

    `interruption` is the event that exited; `idt_vectoring` the one whose delivery the exit cut off. `passes`: the Cpu
    goes on behind the instruction of itself, or no instruction of the guest's is at RIP.
    """

    reason: ExitReason
    qualification: int = 0
    gpa: int = 0
    gla: int | None = None
    instruction_length: int = 0
    instruction_information: int = 0
    interruption: Event | None = None
    idt_vectoring: Event | None = None
    passes: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Trap:
    """An exception for the guest's kernel; `gva` is CR2 of a page fault. RIP is where the processor reports it.

    A software interrupt is INT n or INT3 before its gate is looked at: RIP is behind it. The error code of a #DB is
    what it adds to DR6: BS for a single step, nothing for INT1.
    """

    kind: TrapKind
    vector: int
    error_code: int = 0
    gva: int = 0


@dataclass(frozen=True, slots=True)
class Syscall:
    """The guest executed SYSCALL; RIP is behind it."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody called :meth:`Cpu.interrupt`; the guest is between two instructions."""


Stop = Exit | Trap | Syscall | Interrupted
