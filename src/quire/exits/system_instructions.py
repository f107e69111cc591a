"""System instructions as the processor performs them: CR and DR access, INVLPG, INVPCID, MSRs, CPUID, HLT and more.

Each is used twice: for an instruction that exited, and by a Cpu for one that the VM-execution controls let pass. An
exception that the instruction causes is injected. HLT leaves the vCPU in the HLT state, which ends the run; an external
interrupt that is injected wakes it.
"""

from quire.arch import CR4, GENERAL, LOW32, ExitReason, Vector, is_canonical
from quire.arch.cr_access import CrAccess, CrExit
from quire.arch.guest_state import ActivityState
from quire.arch.instruction_exits import INVPCID_INFORMATION, MOV_DR_QUALIFICATION
from quire.devices.msrs import Msr
from quire.exits.context import ExitContext
from quire.exits.next_step import RESUME, SKIP, Inject, Next
from quire.vcpu import Event, Exit, MemoryFault

__all__ = [
    "cpuid",
    "cr_access",
    "done_or",
    "hlt",
    "invlpg",
    "invpcid",
    "met",
    "mov_dr",
    "no_cache",
    "no_counter",
    "rdmsr",
    "rdtsc",
    "unknown_instruction",
    "wrmsr",
]

_DESCRIPTOR_BYTES = 16
_GP = Event.exception(Vector.GP, 0)


def done_or(event: Event | None) -> Next:
    """End the emulation of an instruction: inject the exception that it caused, or go on behind it."""
    return SKIP if event is None else Inject(event)


def met(context: ExitContext, fault: MemoryFault) -> Next:
    """Deal with what an access of an emulated instruction met: an exit of its own, or the guest's fault."""
    if isinstance(fault, Exit):
        context.handle_exit(fault)
        return RESUME
    if fault.cr2 is not None:
        context.system.cr2 = fault.cr2
    return Inject(Event.exception(fault.vector, fault.error_code))


def cpuid(context: ExitContext, stop: Exit) -> Next:
    """Answer CPUID with the leaf that the guest's processor has."""
    del stop
    registers = context.cpu.registers
    leaf, subleaf = registers.read_many(("rax", "rcx"))
    rax, rbx, rcx, rdx = context.cpuid(leaf & LOW32, subleaf & LOW32)
    registers.write_many({"rax": rax, "rbx": rbx, "rcx": rcx, "rdx": rdx})
    return SKIP


def hlt(context: ExitContext, stop: Exit) -> Next:
    """Leave the vCPU halted behind the instruction."""
    del stop
    context.vmcs.write("guest_activity_state", ActivityState.HLT)
    return SKIP


def unknown_instruction(context: ExitContext, stop: Exit) -> Next:
    """VMX instructions and what CPUID does not offer: #UD."""
    del context, stop
    return Inject(Event.exception(Vector.UD))


def cr_access(context: ExitContext, stop: Exit) -> Next:
    """MOV to and from a control register, CLTS, LMSW (SDM 3C §27.2.1)."""
    access, system, registers = CrExit.of(stop.qualification), context.system, context.cpu.registers
    if access.access is CrAccess.MOV_FROM:
        registers.write(GENERAL[access.gpr], system.read_cr(access.cr))
        return SKIP
    if access.access is CrAccess.MOV_TO:
        return done_or(system.write_cr(access.cr, registers.read(GENERAL[access.gpr])))
    return done_or(system.write_cr(0, access.machine_status(system.read_cr(0))))


def mov_dr(context: ExitContext, stop: Exit) -> Next:
    """MOV to and from a debug register (SDM 3B §17.2); DR4 and DR5 are other names unless CR4.DE forbids it."""
    said = MOV_DR_QUALIFICATION.decode(stop.qualification)
    system, registers = context.system, context.cpu.registers
    number, gpr = said["dr"], GENERAL[said["gpr"]]
    if number in (4, 5):
        if CR4.get(system.read_cr(4), "DE"):
            return Inject(Event.exception(Vector.UD))
        number += 2
    if said["from_dr"]:
        registers.write(gpr, system.debug[number])
        return SKIP
    value = registers.read(gpr)
    if number >= 6 and value >> 32:
        return Inject(_GP)
    system.debug[number] = value
    return SKIP


def invlpg(context: ExitContext, stop: Exit) -> Next:
    """INVLPG; of an address that is not canonical it does nothing."""
    if is_canonical(stop.qualification):
        context.system.invlpg(stop.qualification)
    return SKIP


def invpcid(context: ExitContext, stop: Exit) -> Next:
    """INVPCID: its descriptor is read as the instruction would."""
    read = context.linear_memory.read(stop.gla or 0, _DESCRIPTOR_BYTES, supervisor=False)
    if not isinstance(read, bytes):
        return met(context, read)
    register = GENERAL[INVPCID_INFORMATION.get(stop.instruction_information, "reg2")]
    kind = context.cpu.registers.read(register)
    return done_or(context.system.invpcid(kind, int.from_bytes(read, "little")))


def rdmsr(context: ExitContext, stop: Exit) -> Next:
    """RDMSR."""
    del stop
    registers = context.cpu.registers
    value = context.system.read_msr(registers.read("rcx") & LOW32)
    if isinstance(value, Event):
        return Inject(value)
    registers.write_many({"rax": value & LOW32, "rdx": value >> 32})
    return SKIP


def wrmsr(context: ExitContext, stop: Exit) -> Next:
    """WRMSR."""
    del stop
    low, high, number = (value & LOW32 for value in context.cpu.registers.read_many(("rax", "rdx", "rcx")))
    return done_or(context.system.write_msr(number, high << 32 | low))


def rdtsc(context: ExitContext, stop: Exit) -> Next:
    """RDTSC and RDTSCP."""
    registers, read = context.cpu.registers, context.system.read_msr
    value = read(Msr.TSC)
    assert isinstance(value, int)
    registers.write_many({"rax": value & LOW32, "rdx": value >> 32})
    if stop.reason is ExitReason.RDTSCP:
        number = read(Msr.TSC_AUX)
        assert isinstance(number, int)
        registers.write("rcx", number)
    return SKIP


def no_cache(context: ExitContext, stop: Exit) -> Next:
    """WBINVD and INVD: there is no cache."""
    del context, stop
    return SKIP


def no_counter(context: ExitContext, stop: Exit) -> Next:
    """RDPMC: there is no performance counter."""
    del context, stop
    return Inject(_GP)
