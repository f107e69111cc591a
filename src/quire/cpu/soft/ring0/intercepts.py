"""Intercepted instructions: a VM exit if the controls say so, else what the processor does itself.

Each method answers for one instruction: an Exit leaves the guest, an Event is an exception to be delivered, None means
done, RIP behind it. Privilege was checked by the engine before it intercepted, but for I/O and SYSCALL. Not modelled:
VM-exit instruction information, INVPCID and INS or OUTS as VMX reports their operands there.
"""

from collections.abc import Callable

from quire.arch import EFER, LOW32, RFLAGS, WORD, ExitReason, InterruptionType, Vector
from quire.arch.cr_access import CrAccess, CrExit
from quire.arch.instruction_exits import INVPCID_INFORMATION, IO_QUALIFICATION, MOV_DR_QUALIFICATION
from quire.cpu.soft.decode import Decoded
from quire.cpu.soft.ring0.codes import ALWAYS_UNDEFINED
from quire.cpu.soft.ring0.controls import ExecutionControls
from quire.cpu.soft.ring0.environment import Environment, Segment, SegmentName
from quire.cpu.soft.ring0.guest_state import CODE_RIGHTS, DATA_RIGHTS, FLAT
from quire.cpu.soft.ring0.registers import MachineRegisters
from quire.devices import Msr
from quire.exits import HANDLERS, ExitContext, Inject, Processor, Skip
from quire.mmu import WalkedMemory
from quire.vcpu import Event, Exit, MemoryFault, Nested

__all__ = ["Answer", "Intercepts"]

Answer = Exit | Event | None

_GP = Event.exception(Vector.GP, 0)
_UD = Event.exception(Vector.UD)
_IO_MAP_BASE = 0x66  # of the TSS: offset of the I/O permission bitmap (SDM 3A §7.7)
#: Instructions that exit whatever the controls say (SDM 3C §25.1.2), by Capstone's names.
_ALWAYS = {name: ExitReason[name.upper()] for name in ("cpuid", "invd", *ALWAYS_UNDEFINED)}
#: Instructions that exit if a control says so: its name, whether it is a secondary one.
_CONTROLLED = {
    "rdtsc": (ExitReason.RDTSC, "rdtsc_exiting", False),
    "rdtscp": (ExitReason.RDTSCP, "rdtsc_exiting", False),
    "rdpmc": (ExitReason.RDPMC, "rdpmc_exiting", False),
    "wbinvd": (ExitReason.WBINVD, "wbinvd_exiting", True),
}
_CR, _DR = {f"cr{n}": n for n in range(16)}, {f"dr{n}": n for n in range(16)}


class Intercepts:
    """Answers for the instructions of one vCPU. `memory` is the guest's, by linear address."""

    def __init__(
        self,
        context: ExitContext,
        processor: Processor,
        registers: MachineRegisters,
        environment: Environment,
        memory: WalkedMemory,
    ) -> None:
        self.controls = ExecutionControls(context.vmcs)
        self._context, self._vmcs = context, context.vmcs
        self._processor, self._memory = processor, memory
        self._registers, self._environment = registers, environment
        self._by_name: dict[str, Callable[[Decoded], Answer]] = {
            "mov": self._mov,
            "clts": self._status_word,
            "lmsw": self._status_word,
            "smsw": self._smsw,
            "invlpg": self._invlpg,
            "invpcid": self._invpcid,
            "hlt": self._hlt,
            "rdmsr": self._msr,
            "wrmsr": self._msr,
            "syscall": self._syscall,
            "int": self._software_interrupt,
            "int3": self._software_interrupt,
            "int1": self._software_interrupt,
            **dict.fromkeys(("in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"), self._io),
            **dict.fromkeys(_ALWAYS, self._always),
            **dict.fromkeys(_CONTROLLED, self._controlled),
        }

    def answer(self, found: Decoded) -> Answer:
        """Return what the instruction comes to; #UD for one that the guest's CPUID does not offer."""
        method = self._by_name.get(found.name)
        return _UD if method is None else method(found)

    def _perform(self, exit: Exit) -> Event | None:
        """Execute the instruction that `exit` describes and go on behind it."""
        done = HANDLERS[exit.reason](self._context, exit)
        if isinstance(done, Inject):
            return done.event
        assert isinstance(done, Skip), f"{exit.reason.name} is performed to its end, not {done}"
        self._skip(exit.instruction_length)
        return None

    def _skip(self, length: int) -> None:
        self._registers.write("rip", self._registers.read("rip") + length & WORD)

    def _always(self, found: Decoded) -> Exit:
        return Exit(_ALWAYS[found.name], instruction_length=found.length)

    def _controlled(self, found: Decoded) -> Answer:
        reason, control, secondary = _CONTROLLED[found.name]
        exit = Exit(reason, instruction_length=found.length)
        exits = self.controls.secondary(control) if secondary else self.controls.primary(control)
        return exit if exits else self._perform(exit)

    def _mov(self, found: Decoded) -> Answer:
        to, source = found.register(0), found.register(1)
        if to in _DR or source in _DR:
            return self._mov_dr(found, to, source)
        if to in _CR:
            access = CrExit(_CR[to], CrAccess.MOV_TO, found.gpr(1))
            value = self._registers.read(source)
        else:
            access, value = CrExit(_CR[source], CrAccess.MOV_FROM, found.gpr(0)), 0
        if access.cr not in (0, 2, 3, 4, 8):
            return _UD
        return self._cr_access(access, value, found.length)

    def _mov_dr(self, found: Decoded, to: str, source: str) -> Answer:
        reads = source in _DR
        number = _DR[source if reads else to]
        if number > 7:
            return _UD
        said = MOV_DR_QUALIFICATION.encode(dr=number, from_dr=reads, gpr=found.gpr(0 if reads else 1))
        exit = Exit(ExitReason.MOV_DR, said, instruction_length=found.length)
        return exit if self.controls.primary("mov_dr_exiting") else self._perform(exit)

    def _status_word(self, found: Decoded) -> Answer:
        if found.name == "clts":
            return self._cr_access(CrExit(0, CrAccess.CLTS), 0, found.length)
        if not found.is_memory(0):
            source = self._registers.read(found.register(0)) & 0xFFFF
            return self._cr_access(CrExit(0, CrAccess.LMSW, 0, source), 0, found.length)
        data = self._memory.read(found.address(0, self._registers), 2, supervisor=False)
        if not isinstance(data, bytes):
            return self._refused(data)
        access = CrExit(0, CrAccess.LMSW, 0, int.from_bytes(data, "little"), True)
        return self._cr_access(access, 0, found.length)

    def _cr_access(self, access: CrExit, value: int, length: int) -> Answer:
        exit = Exit(ExitReason.CR_ACCESS, access.qualification, instruction_length=length)
        return exit if self.controls.cr_exits(access, value) else self._perform(exit)

    def _smsw(self, found: Decoded) -> Answer:
        """SMSW never exits: it reads CR0 as the guest sees it."""
        word = self._processor.visible(0)
        if found.is_memory(0):
            data = (word & 0xFFFF).to_bytes(2, "little")
            fault = self._memory.write(found.address(0, self._registers), data, supervisor=False)
            if fault is not None:
                return self._refused(fault)
        else:
            size, name = found.operands[0].size, found.register(0)
            kept = self._registers.read(name) & ~0xFFFF if size == 2 else 0
            self._registers.write(name, kept | word & ((1 << 8 * size) - 1))
        self._skip(found.length)
        return None

    def _invlpg(self, found: Decoded) -> Answer:
        exit = Exit(ExitReason.INVLPG, found.address(0, self._registers), instruction_length=found.length)
        return exit if self.controls.primary("invlpg_exiting") else self._perform(exit)

    def _invpcid(self, found: Decoded) -> Answer:
        if self._environment.cpl:
            return _GP
        address = found.address(1, self._registers)
        if self.controls.primary("invlpg_exiting"):
            said = INVPCID_INFORMATION.encode(reg2=found.gpr(0))
            return Exit(
                ExitReason.INVPCID,
                gla=address,
                instruction_length=found.length,
                instruction_information=said,
            )
        descriptor = self._memory.read(address, 16, supervisor=False)
        if not isinstance(descriptor, bytes):
            return self._refused(descriptor)
        kind = self._registers.read(found.register(0))
        event = self._processor.invpcid(kind, int.from_bytes(descriptor, "little"))
        if event is None:
            self._skip(found.length)
        return event

    def _hlt(self, found: Decoded) -> Answer:
        exit = Exit(ExitReason.HLT, instruction_length=found.length)
        return exit if self.controls.primary("hlt_exiting") else self._perform(exit)

    def _msr(self, found: Decoded) -> Answer:
        write = found.name == "wrmsr"
        reason = ExitReason.WRMSR if write else ExitReason.RDMSR
        exit = Exit(reason, instruction_length=found.length)
        number = self._registers.read("rcx") & LOW32
        return exit if self.controls.msr_exits(number, write=write) else self._perform(exit)

    def _software_interrupt(self, found: Decoded) -> Event:
        if found.name == "int3":
            return Event(Vector.BP, InterruptionType.SOFTWARE_EXCEPTION, None, found.length)
        if found.name == "int1":
            return Event(Vector.DB, InterruptionType.PRIVILEGED_SOFTWARE_EXCEPTION, None, found.length)
        vector = found.operands[0].imm & 0xFF
        return Event(vector, InterruptionType.SOFTWARE_INTERRUPT, None, found.length)

    def _io(self, found: Decoded) -> Answer:
        string = len(found.name) > 3
        reads = found.name.startswith("in")
        port_operand = found.operands[1 if reads else 0]
        size = found.operands[0 if reads else 1].size
        immediate = not string and port_operand.type == 2  # X86_OP_IMM
        port = port_operand.imm & 0xFF if immediate else self._registers.read("rdx") & 0xFFFF
        refused = self._port_refused(port, size)
        if refused is not None:
            return refused
        said = IO_QUALIFICATION.encode(
            size=size - 1, IN=reads, string=string, REP=string and found.rep, immediate=immediate, port=port
        )
        gla = found.address(0 if reads else 1, self._registers) if string else None
        # An access that the bitmaps let pass reaches the same devices: there are no others.
        return Exit(ExitReason.IO_INSTRUCTION, said, gla=gla, instruction_length=found.length)

    def _port_refused(self, port: int, size: int) -> Answer:
        """Return #GP unless CPL <= IOPL or the TSS allows the ports (SDM 1 §18.5.2)."""
        rflags = self._registers.read("rflags")
        if self._environment.cpl <= RFLAGS.get(rflags, "IOPL"):
            return None
        tss = self._environment.segment(SegmentName.TR)
        if tss.limit < _IO_MAP_BASE + 1:
            return _GP
        base = self._memory.read(tss.base + _IO_MAP_BASE & WORD, 2, supervisor=True)
        if not isinstance(base, bytes):
            return self._refused(base)
        at = int.from_bytes(base, "little") + (port >> 3)
        if at + 1 > tss.limit:
            return _GP
        bits = self._memory.read(tss.base + at & WORD, 2, supervisor=True)
        if not isinstance(bits, bytes):
            return self._refused(bits)
        asked = ((1 << size) - 1) << (port & 7)
        return _GP if int.from_bytes(bits, "little") & asked else None

    def _syscall(self, found: Decoded) -> Answer:
        """SDM 2B §4.3, SYSCALL."""
        if not EFER.get(self._vmcs.read("guest_ia32_efer"), "SCE") or not self._environment.long_code:
            return _UD
        registers = self._registers
        rflags, star = registers.read("rflags"), registers.read("star")
        target, mask = (self._processor.read_msr(msr) for msr in (Msr.LSTAR, Msr.SFMASK))
        assert isinstance(target, int)
        assert isinstance(mask, int)
        registers.write_many(
            {"rcx": registers.read("rip") + found.length, "r11": rflags & ~RFLAGS.mask("RF")}
        )
        registers.write_many(
            {"rip": target, "rflags": rflags & ~(mask | RFLAGS.mask("RF")) | RFLAGS.mask("always_1")}
        )
        selector = star >> 32 & 0xFFFC
        self._environment.set_segment(SegmentName.CS, Segment(selector, 0, FLAT, CODE_RIGHTS))
        self._environment.set_segment(SegmentName.SS, Segment(selector + 8 & 0xFFFF, 0, FLAT, DATA_RIGHTS))
        self._environment.settle()
        return None

    def _refused(self, fault: MemoryFault) -> Answer:
        if not isinstance(fault, Nested):
            return fault
        if fault.cr2 is not None:
            self._processor.cr2 = fault.cr2
        return Event.exception(fault.vector, fault.error_code)
