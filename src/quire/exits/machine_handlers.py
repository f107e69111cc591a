"""Exit handlers of machine guests: each does what the instruction would, and the guest goes on behind it.

An exception that the instruction causes is injected by the next VM entry. HLT leaves the vCPU in the HLT state,
which ends the run; an external interrupt that is injected wakes it.
"""

from typing import TYPE_CHECKING

from quire.arch import ExitReason, Vector, machine_cpuid
from quire.arch.guest_state import ActivityState
from quire.arch.instruction_exits import IO_QUALIFICATION
from quire.exits.handlers import GuestStopped, Handler
from quire.vcpu import Event, Exit, Nested, combine

if TYPE_CHECKING:
    from quire.machine.hypervisor import Hypervisor

__all__ = ["MACHINE_HANDLERS"]

_MOST_STRING_BYTES = 4096  # of one REP INS or OUTS an exit; the rest exits again
_DIRECTION = 1 << 10  # RFLAGS.DF
_WORD = (1 << 64) - 1


def skip(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Go on behind the instruction that exited."""
    registers = hypervisor.cpu.registers
    registers.write("rip", registers.read("rip") + stop.instruction_length & _WORD)


def finish(hypervisor: "Hypervisor", stop: Exit, event: Event | None) -> None:
    """End the emulation of an instruction: inject the exception that it caused, or go on behind it."""
    if event is None:
        skip(hypervisor, stop)
    else:
        hypervisor.inject(event)


def system_instruction(hypervisor: "Hypervisor", stop: Exit) -> None:
    """CR and DR access, INVLPG, MSRs, time stamps, caches: what the processor itself would do."""
    finish(hypervisor, stop, hypervisor.processor.perform(stop))


def cpuid_exit(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Answer CPUID with the profile's leaf for a machine guest."""
    registers = hypervisor.cpu.registers
    leaf, subleaf = registers.read_many(("rax", "rcx"))
    rax, rbx, rcx, rdx = machine_cpuid(hypervisor.vcpu.profile, leaf & 0xFFFFFFFF, subleaf & 0xFFFFFFFF)
    registers.write_many({"rax": rax, "rbx": rbx, "rcx": rcx, "rdx": rdx})
    skip(hypervisor, stop)


def hlt(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Leave the vCPU halted behind the instruction."""
    skip(hypervisor, stop)
    hypervisor.vcpu.vmcs.write("guest_activity_state", ActivityState.HLT)


def unknown_instruction(hypervisor: "Hypervisor", stop: Exit) -> None:
    """VMX instructions and what CPUID does not offer: #UD."""
    del stop
    hypervisor.inject(Event.exception(Vector.UD))


def exception(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Give the guest the exception that the exception bitmap took from it, or what that makes of another's delivery."""
    event: Event | None = stop.interruption
    if event is None:
        raise GuestStopped(stop)
    if event.vector == Vector.PF and hypervisor.config.kind == "machine":
        hypervisor.processor.cr2 = stop.qualification
    if stop.idt_vectoring is not None:
        event = combine(stop.idt_vectoring, Nested(event.vector, event.error_code))
    if event is None:
        hypervisor.handle_exit(Exit(ExitReason.TRIPLE_FAULT))
    else:
        hypervisor.inject(event)


def io_instruction(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Carry out IN, OUT, INS or OUTS on the machine's ports."""
    said = IO_QUALIFICATION.decode(stop.qualification)
    registers, size = hypervisor.cpu.registers, said["size"] + 1
    if said["string"]:
        _string(hypervisor, stop, said, size)
        return
    every = (1 << 8 * size) - 1
    rax = registers.read("rax")
    if said["IN"]:
        value = hypervisor.ports.read(said["port"], size)
        registers.write("rax", value if size == 4 else rax & ~every | value)
    else:
        hypervisor.ports.write(said["port"], rax & every, size)
    skip(hypervisor, stop)


def _string(hypervisor: "Hypervisor", stop: Exit, said: dict[str, int], size: int) -> None:
    """INS and OUTS: elements one by one, each with its own translation, a page at most before it exits again."""
    registers, memory = hypervisor.cpu.registers, hypervisor.linear_memory
    pointer = "rdi" if said["IN"] else "rsi"
    step = -size if registers.read("rflags") & _DIRECTION else size
    left = registers.read("rcx") if said["REP"] else 1
    address = stop.gla or 0
    for _ in range(min(left, _MOST_STRING_BYTES // size)):
        if said["IN"]:
            data = hypervisor.ports.read(said["port"], size).to_bytes(size, "little")
            fault = memory.write(address, data, supervisor=False)
        else:
            read = memory.read(address, size, supervisor=False)
            fault = None if isinstance(read, bytes) else read
            if isinstance(read, bytes):
                hypervisor.ports.write(said["port"], int.from_bytes(read, "little"), size)
        if isinstance(fault, Exit):
            hypervisor.handle_exit(fault)
            return
        if fault is not None:
            if fault.cr2 is not None:
                hypervisor.processor.cr2 = fault.cr2
            hypervisor.inject(Event.exception(fault.vector, fault.error_code))
            return
        address = address + step & _WORD
        registers.write(pointer, registers.read(pointer) + step & _WORD)
        if said["REP"]:
            left -= 1
            registers.write("rcx", left)
    if not said["REP"] or not left:
        skip(hypervisor, stop)


#: What a machine guest's hypervisor has besides :data:`quire.hypervisor.DEFAULT_HANDLERS`.
MACHINE_HANDLERS: dict[ExitReason, Handler] = {
    ExitReason.EXCEPTION_OR_NMI: exception,
    ExitReason.CPUID: cpuid_exit,
    ExitReason.HLT: hlt,
    ExitReason.IO_INSTRUCTION: io_instruction,
    **dict.fromkeys(
        (
            *(ExitReason.CR_ACCESS, ExitReason.MOV_DR, ExitReason.INVLPG, ExitReason.RDMSR, ExitReason.WRMSR),
            *(ExitReason.RDTSC, ExitReason.RDTSCP, ExitReason.RDPMC, ExitReason.WBINVD, ExitReason.INVD),
        ),
        system_instruction,
    ),
    **dict.fromkeys(
        (
            *(
                ExitReason.VMCALL,
                ExitReason.VMCLEAR,
                ExitReason.VMLAUNCH,
                ExitReason.VMPTRLD,
                ExitReason.VMPTRST,
            ),
            *(
                ExitReason.VMREAD,
                ExitReason.VMRESUME,
                ExitReason.VMWRITE,
                ExitReason.VMXOFF,
                ExitReason.VMXON,
            ),
            *(ExitReason.INVEPT, ExitReason.INVVPID, ExitReason.GETSEC, ExitReason.XSETBV),
        ),
        unknown_instruction,
    ),
}
