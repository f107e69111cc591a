"""Exit handlers by exit reason: a table that users may change.

A handler gets the hypervisor and the exit; it mends what caused the exit and returns, or raises GuestStopped to end
the guest. The exit is in the VMCS by then.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from quire.arch import ExitReason, cpuid, describe_exit
from quire.vcpu import Exit

if TYPE_CHECKING:
    from quire.machine.hypervisor import Hypervisor

__all__ = ["DEFAULT_HANDLERS", "GuestStopped", "Handler", "forbidden_access"]

Handler = Callable[["Hypervisor", Exit], None]


class GuestStopped(Exception):
    """The guest cannot go on: an exit that nothing mends."""

    def __init__(self, stop: Exit) -> None:
        vector = None if stop.interruption is None else stop.interruption.vector
        words = describe_exit(stop.reason, stop.qualification, vector)
        at_gpa = stop.gpa or stop.reason in (ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIGURATION)
        super().__init__(f"{words}; GPA {stop.gpa:#x}" if at_gpa else words)
        self.exit = stop


def ept_violation(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Guest memory that is not there yet gets a host page; anything else ends the guest."""
    mmu, gpa = hypervisor.ept_mmu, stop.gpa
    if mmu.ept.target(gpa) is not None or not mmu.back(gpa):
        forbidden_access(hypervisor, stop, stop)


def forbidden_access(hypervisor: "Hypervisor", stop: Exit, violation: Exit) -> None:
    """Let the region deal with an access that the memory map does not allow; without its help the guest ends.

    `violation` is the access as an EPT violation, which `stop` is not under shadow. Only an instruction of the guest
    can be dealt with, not what Quire itself does for it.
    """
    regions = hypervisor.mmu.regions
    region = None if regions is None else regions.at(violation.gpa)
    if region is None or region.on_access is None or hypervisor.cpu_exit is not stop:
        raise GuestStopped(stop)
    region.on_access(hypervisor, violation)


def cpuid_exit(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Answer CPUID with the profile's leaf; RIP is advanced by the Cpu."""
    del stop
    registers = hypervisor.cpu.registers
    leaf, subleaf = registers.read_many(("rax", "rcx"))
    rax, rbx, rcx, rdx = cpuid(hypervisor.vcpu.profile, leaf & 0xFFFFFFFF, subleaf & 0xFFFFFFFF)
    registers.write_many({"rax": rax, "rbx": rbx, "rcx": rcx, "rdx": rdx})


#: What a hypervisor starts with; it copies the table, so that one guest's changes are its own.
DEFAULT_HANDLERS: dict[ExitReason, Handler] = {
    ExitReason.EPT_VIOLATION: ept_violation,
    ExitReason.CPUID: cpuid_exit,
}
