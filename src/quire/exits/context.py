"""What a handler may ask of the vCPU whose exit it deals with: the consumer's side of that interface."""

from collections.abc import Callable
from typing import Protocol

from quire.devices.ports import Ports
from quire.exits.next_step import Next
from quire.exits.processor import Processor
from quire.mmu.paged import PagedMmu
from quire.vcpu import Cpu, Event, Exit, MemoryFault, Vmcs

__all__ = ["EmulatedMemory", "ExitContext", "Handler", "SystemRegisters"]


class SystemRegisters(Protocol):
    """Control, debug and model-specific registers, and the instructions that flush: the guest's, or a played kernel's.

    What the guest does wrong is a value, the exception that it gets.
    """

    cr2: int
    debug: list[int]

    def read_cr(self, number: int) -> int:
        """Return control register `number` as MOV from CR reads it."""
        ...

    def write_cr(self, number: int, value: int) -> Event | None:
        """Write control register `number` as MOV to CR does."""
        ...

    def read_msr(self, number: int) -> int | Event:
        """Return MSR `number`, or the #GP for one that does not exist."""
        ...

    def write_msr(self, number: int, value: int) -> Event | None:
        """Write MSR `number`; return the #GP for one that cannot be written so."""
        ...

    def invlpg(self, gva: int) -> None:
        """Execute INVLPG of the page at `gva`."""
        ...

    def invpcid(self, kind: int, descriptor: int) -> Event | None:
        """Execute INVPCID of type `kind` with the 128-bit `descriptor`."""
        ...


class EmulatedMemory(Protocol):
    """The guest's memory by linear address, as an emulated instruction reaches it."""

    def read(self, gva: int, size: int, *, supervisor: bool) -> bytes | MemoryFault:
        """Return `size` bytes from `gva`, or why not."""
        ...

    def write(self, gva: int, data: bytes, *, supervisor: bool) -> MemoryFault | None:
        """Write `data` at `gva`; return None, or why not."""
        ...


class ExitContext(Protocol):
    """The vCPU that exited; a :class:`quire.machine.Vcpu` is one."""

    @property
    def cpu(self) -> Cpu:
        """What executes the guest, with its registers."""
        ...

    @property
    def mmu(self) -> PagedMmu:
        """How the guest's addresses are translated."""
        ...

    @property
    def vmcs(self) -> Vmcs:
        """The VMCS, in which the exit is complete."""
        ...

    @property
    def system(self) -> SystemRegisters:
        """The guest's system registers."""
        ...

    @property
    def processor(self) -> Processor:
        """The same, of a guest with a kernel of its own."""
        ...

    @property
    def linear_memory(self) -> EmulatedMemory:
        """The memory of a guest with a kernel of its own."""
        ...

    @property
    def ports(self) -> Ports:
        """What is attached to the machine's I/O ports."""
        ...

    @property
    def cpu_exit(self) -> Exit | None:
        """The last exit that an instruction of the guest caused, not Quire for it."""
        ...

    @property
    def cpuid(self) -> Callable[[int, int], tuple[int, int, int, int]]:
        """Returns EAX, EBX, ECX and EDX of a leaf and subleaf."""
        ...

    def handle_exit(self, stop: Exit) -> None:
        """Deal with an exit that emulating the instruction has met."""
        ...


#: Deals with an exit and says what happens next.
Handler = Callable[[ExitContext, Exit], Next]
