"""Guest state between the engine and the VMCS: segments on every stop, whatever a handler changed on every entry.

The VMCS is the truth while Python is in control, the engine while it runs. Nothing is copied that did not change.
"""

from quire.arch import ACCESS_RIGHTS, INTERRUPTIBILITY, LOW32, RFLAGS
from quire.cpu.soft.ring0.environment import SEGMENT_BYTES, Environment, Segment, SegmentName
from quire.cpu.soft.ring0.registers import MachineRegisters
from quire.vcpu import SHADOW, DescriptorTable, EventState, Vmcs

__all__ = ["CODE_RIGHTS", "DATA_RIGHTS", "FLAT", "GuestState"]

#: Rights and limit of the flat segments that SYSCALL loads (SDM 2B §4.3).
CODE_RIGHTS = ACCESS_RIGHTS.encode(type=11, S=1, P=1, L=1, G=1)
DATA_RIGHTS = ACCESS_RIGHTS.encode(type=3, S=1, P=1, DB=1, G=1)
FLAT = LOW32
_TABLES = (SegmentName.GDTR, SegmentName.IDTR)
_UNUSABLE = ACCESS_RIGHTS.mask("unusable")
_ACCESSED = 1  # of a code or data segment's type
_AVAILABLE_TSS, _BUSY_TSS = 9, 11


class GuestState:
    """Copies segments, CR0 and CR4 between `environment` and `vmcs`."""

    def __init__(self, environment: Environment, registers: MachineRegisters, vmcs: Vmcs) -> None:
        self._environment, self._registers, self._vmcs = environment, registers, vmcs
        self._generation = -1
        self._saved = b""
        self._in_shadow = False

    def load(self) -> bool:
        """Give the engine what the VMCS holds, if a field changed since; return whether one did."""
        vmcs = self._vmcs
        if self._generation == vmcs.generation:
            return False
        read, environment = vmcs.read, self._environment
        for name in SegmentName:
            prefix = f"guest_{name.name.lower()}"
            base, limit = read(f"{prefix}_base"), read(f"{prefix}_limit")
            if name in _TABLES:
                environment.set_segment(name, Segment(0, base, limit, 0))
                continue
            rights = read(f"{prefix}_access_rights")
            if rights & _UNUSABLE:
                rights &= ~ACCESS_RIGHTS.mask("P")
            environment.set_segment(name, Segment(read(f"{prefix}_selector"), base, limit, rights))
        environment.set_control(read("guest_cr0"), read("guest_cr4"))
        environment.set_efer(read("guest_ia32_efer"))
        environment.settle()
        environment.in_shadow = self._in_shadow = bool(read("guest_interruptibility_state") & SHADOW)
        self._generation = vmcs.generation
        self._saved = environment.segments()
        return True

    def outdated(self) -> None:
        """Say that what was loaded last was not taken over: the next :meth:`load` loads it again."""
        self._generation = -1

    def save(self) -> None:
        """Bring the VMCS up to date with segments that the engine changed, and the shadow of STI and MOV SS."""
        now, before, in_shadow = self._environment.segments(), self._saved, self._environment.in_shadow
        if now == before and in_shadow is self._in_shadow:
            return
        self._saved = now
        generation, vmcs = self._vmcs.generation, self._vmcs
        if in_shadow is not self._in_shadow:
            self._in_shadow = in_shadow
            self._save_shadow()
        for name in SegmentName:
            part = slice(name * SEGMENT_BYTES, (name + 1) * SEGMENT_BYTES)
            if now[part] != before[part]:
                self._save_segment(name)
        if self._generation == generation:
            self._generation = vmcs.generation  # the engine knows of these changes

    def _save_shadow(self) -> None:
        """Say what blocks events: the engine does not know which of both, but STI has left RFLAGS.IF = 1."""
        kept = self._vmcs.read("guest_interruptibility_state") & ~SHADOW
        by_sti = RFLAGS.get(self._registers.read("rflags"), "IF")
        blocking = INTERRUPTIBILITY.mask("blocking_by_sti" if by_sti else "blocking_by_mov_ss")
        self._vmcs.write("guest_interruptibility_state", kept | (blocking if self._in_shadow else 0))

    def _save_segment(self, name: SegmentName) -> None:
        write, segment = self._vmcs.write, self._environment.segment(name)
        prefix = f"guest_{name.name.lower()}"
        write(f"{prefix}_base", segment.base)
        write(f"{prefix}_limit", segment.limit)
        if name not in _TABLES:
            write(f"{prefix}_selector", segment.selector)
            write(f"{prefix}_access_rights", _rights(name, segment))

    def event_state(self) -> EventState:
        """Return the state that event delivery starts from."""
        environment, read = self._environment, self._vmcs.read
        code, stack, task, local = (
            environment.segment(name)
            for name in (SegmentName.CS, SegmentName.SS, SegmentName.TR, SegmentName.LDTR)
        )
        interrupt_table, global_table = (
            environment.segment(name) for name in (SegmentName.IDTR, SegmentName.GDTR)
        )
        rip, rsp, rflags = self._registers.read_many(("rip", "rsp", "rflags"))
        return EventState(
            rip=rip,
            rsp=rsp,
            rflags=rflags,
            cs=code.selector,
            ss=stack.selector,
            cpl=environment.cpl,
            idtr=DescriptorTable(interrupt_table.base, interrupt_table.limit),
            gdtr=DescriptorTable(global_table.base, global_table.limit),
            tr=task.selector,
            tss=DescriptorTable(task.base, task.limit),
            cr4=read("guest_cr4"),
            efer=read("guest_ia32_efer"),
            ldtr=None if local.rights & _UNUSABLE else DescriptorTable(local.base, local.limit),
            cs_access_rights=code.rights,
            ss_access_rights=stack.rights,
        )

    def commit(self, state: EventState) -> None:
        """Load what delivery changed: a 64-bit code segment, perhaps a null stack segment, RIP, RSP, RFLAGS."""
        environment = self._environment
        environment.set_segment(SegmentName.CS, Segment(state.cs, 0, FLAT, state.cs_access_rights))
        stack = environment.segment(SegmentName.SS)
        environment.set_segment(
            SegmentName.SS, Segment(state.ss, stack.base, stack.limit, state.ss_access_rights)
        )
        environment.settle()
        environment.in_shadow = False
        self._registers.write_many(
            {"rip": state.rip, "rsp": state.rsp, "rflags": state.rflags | RFLAGS.mask("always_1")}
        )


def _rights(name: SegmentName, segment: Segment) -> int:
    """Return access rights as the VMCS keeps them: the engine leaves a loaded TSS available, and does not set the
    accessed flag of a code segment that a far transfer loads (SDM 3A §3.4.5.1).
    """
    if name is SegmentName.TR and ACCESS_RIGHTS.get(segment.rights, "type") == _AVAILABLE_TSS:
        return segment.rights | _BUSY_TSS
    return segment.rights | _ACCESSED if ACCESS_RIGHTS.get(segment.rights, "S") else segment.rights
