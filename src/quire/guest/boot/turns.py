"""The vCPUs of a machine guest take turns: each runs a number of blocks, in order, so that a run is deterministic.

Before its turn a vCPU takes the interrupt that its local APIC has for it, if RFLAGS.IF lets it; a halted one sleeps
until then. An interrupt that it cannot take yet ends the turn soon, and is looked at again. Where a guest has devices
with a sense of time, turns end when the next of them is due, and a guest that has nothing to do jumps there.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from quire.arch import RFLAGS, ExitReason, InterruptionType, Vector
from quire.arch.guest_state import ActivityState
from quire.machine import Vcpu
from quire.vcpu import Event, Exit, Sliced, sliced

__all__ = ["SLICE", "Timing", "Turns"]

#: Blocks of instructions in a turn.
SLICE = 500
#: The same while an interrupt waits that cannot be taken yet.
_SOON = 20
_FOR_EVER = 1 << 62
_ACTIVE, _WAITS = int(ActivityState.ACTIVE), int(ActivityState.WAIT_FOR_SIPI)
_POINTERS = ("rip", "rsp", "rflags")
_IF = RFLAGS.mask("IF")


class Timing(Protocol):
    """Devices with a sense of time."""

    def begin_turn(self, number: int, at_work: int) -> None:
        """vCPU `number` is about to run, one of so many that are `at_work`; what is due by now happens first."""
        ...

    def blocks_left(self) -> int:
        """Return after about how many blocks something is due, at least 1."""
        ...

    def idle(self) -> bool:
        """Nobody has anything to do: wait for what is due; return False if nothing ever is."""
        ...


class Turns:
    """The vCPUs of a guest and the order in which they run, until `ended` says that the guest has ended.

    One vCPU alone runs without end, unless `timing` says when; several change after `slice_blocks` blocks.
    """

    def __init__(
        self,
        vcpus: Sequence[Vcpu],
        slice_blocks: int,
        ended: Callable[[], bool],
        timing: Timing | None = None,
    ) -> None:
        self._vcpus = vcpus
        self._timing = timing
        self._slice = slice_blocks if len(vcpus) > 1 else _FOR_EVER
        several = timing is not None or len(vcpus) > 1
        self._sliced = [sliced(one.cpu) if several else None for one in vcpus]
        self.ended = ended
        self.interrupted = False  #: from outside, since the last run has ended
        self.stopped = False  #: whether the last run ended for that
        self._running: Vcpu | None = None

    def run(self) -> None:
        """Run until the guest ends, :meth:`interrupt`, or every vCPU is halted. Raises what running a vCPU raises."""
        try:
            while self._round():
                pass
        finally:
            self.stopped, self.interrupted = self.interrupted, False

    def step(self, one: Vcpu) -> None:
        """Have `one` execute one instruction, and no other anything; a halted one stays where it is."""
        if self._timing is not None:
            self._timing.begin_turn(one.number, 1)
        if self.ended() or not self._wakes(one):
            return
        one.cpu.step(one.cpu.interrupt)
        one.enter(*one.cpu.registers.read_many(_POINTERS))
        one.run(_Turn(one, self, None))
        self.interrupted = False

    def interrupt(self) -> None:
        """End this :meth:`run`, or the next if none is on. Any thread may call."""
        self.interrupted = True
        running = self._running
        if running is not None:
            running.cpu.interrupt()

    def _round(self) -> bool:
        """Let each vCPU have its turn; return whether there is another round."""
        ran, timing = False, self._timing
        at_work = sum(not _halted(one) for one in self._vcpus)
        try:
            for one, cpu in zip(self._vcpus, self._sliced, strict=True):
                self._running = one  # before the flag is looked at: who sets it later finds whom to interrupt
                if self.interrupted or self.ended():
                    return False
                if timing is not None:
                    timing.begin_turn(one.number, at_work)
                if self._wakes(one):
                    ran = True
                    if cpu is not None:
                        cpu.begin_slice(self._length(one))
                    one.enter(*one.cpu.registers.read_many(_POINTERS))
                    one.run(_Turn(one, self, cpu))
        finally:
            self._running = None
        return ran or (timing is not None and self._may_wake() and timing.idle())

    def _may_wake(self) -> bool:
        """Whether a vCPU that is halted takes interrupts: a guest that has none of these has halted for good."""
        return any(one.cpu.registers.read("rflags") & _IF for one in self._vcpus)

    def _length(self, one: Vcpu) -> int:
        """Return how many blocks the turn of `one` has."""
        apic = one.processor.apic
        waits = apic is not None and apic.next_vector() is not None
        blocks = min(self._slice, _SOON) if waits else self._slice
        return blocks if self._timing is None else min(blocks, self._timing.blocks_left())

    def _wakes(self, one: Vcpu) -> bool:
        """Give `one` the interrupt that it can take; return whether it has anything to do."""
        self._start(one)
        if one.vmcs.read("guest_activity_state") == _WAITS:
            return False
        if one.vmx.injection is not None:
            return True
        event = self._next_event(one)
        if event is not None:
            one.vmx.inject(event)
            one.vmcs.write("guest_activity_state", _ACTIVE)
        return event is not None or not _halted(one)

    def _start(self, one: Vcpu) -> None:
        """Reset `one`, or start it, if it was sent a message that says so."""
        apic = one.processor.apic
        if apic is None:
            return
        if apic.init:
            apic.init = False
            apic.reset()
            one.handle_exit(Exit(ExitReason.INIT_SIGNAL))
        if apic.startup is not None:
            one.handle_exit(Exit(ExitReason.STARTUP_IPI, apic.startup))
            apic.startup = None

    def _next_event(self, one: Vcpu) -> Event | None:
        """Return what the local APIC of `one` delivers now, taken from it."""
        apic = one.processor.apic
        if apic is None:
            return None
        if apic.nmi:
            apic.nmi = False
            return Event(Vector.NMI, InterruptionType.NMI)
        open_to_them = one.cpu.registers.read("rflags") & _IF and not one.vmx.in_shadow
        vector = apic.next_vector() if open_to_them else None
        if vector is None:
            return None
        apic.accept(vector)
        return Event(vector, InterruptionType.EXTERNAL_INTERRUPT)


class _Turn:
    """One vCPU's turn, as the vCPU's loop sees it: its kernel is the guest's own."""

    def __init__(self, vcpu: Vcpu, turns: Turns, cpu: Sliced | None) -> None:
        self._vcpu, self._cpu = vcpu, cpu
        self._turns = turns
        self._over = False

    @property
    def finished(self) -> bool:
        return self._over or _halted(self._vcpu) or self._turns.ended()

    def syscall(self) -> None:
        raise AssertionError("SYSCALL of a machine guest is executed by its Cpu")

    def page_fault(self, gva: int, error_code: int) -> None:
        raise AssertionError(f"#PF at {gva:#x} ({error_code:#x}) is delivered by the Cpu")

    def exception(self, vector: int, error_code: int) -> None:
        raise AssertionError(f"exception {vector:#x} ({error_code:#x}) is delivered by the Cpu")

    def software_interrupt(self, vector: int) -> None:
        raise AssertionError(f"INT {vector:#x} is delivered by the Cpu")

    def interrupted(self) -> None:
        self._over = True
        if not _halted(self._vcpu) and not (self._cpu is not None and self._cpu.slice_over):
            self._turns.interrupted = True


def _halted(vcpu: Vcpu) -> bool:
    return vcpu.vmcs.read("guest_activity_state") != _ACTIVE
