"""Event delivery to its end: exceptions during delivery, double and triple fault, VM exits with what they cut off.

SDM 3A §6.15 (interrupt 8) says which second exceptions are handled one after the other and which make a double
fault; SDM 3C §27.2.4 which event a VM exit reports as IDT-vectoring information. Does not model task gates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from quire.arch import RFLAGS, ExitReason, InterruptionType, Vector
from quire.vcpu.delivery import EventState, LinearMemory, Nested, deliver
from quire.vcpu.event import Event
from quire.vcpu.stop import Exit

__all__ = ["Outcome", "combine", "deliver_event"]

_CONTRIBUTORY = frozenset((Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.CP))
_PAGE_FAULTS = frozenset((Vector.PF, Vector.VE))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery ended: `delivered` is the event whose handler runs now, or `exit` is why none does.

    `cr2` is the linear address of the last page fault on the way, to be loaded into CR2 in either case; None
    if there was none.
    """

    delivered: Event | None = None
    exit: Exit | None = None
    cr2: int | None = None


def combine(first: Event, second: Nested) -> Event | None:
    """Return what to deliver after `second` occurred while `first` was delivered; None is a triple fault.

    SDM 3A §6.15, tables 6-4 and 6-5: the second exception itself, or a double fault with error code 0.
    """
    exception = first.type is InterruptionType.HARDWARE_EXCEPTION
    contributory = second.vector in _CONTRIBUTORY
    page_fault = second.vector in _PAGE_FAULTS
    if exception and first.vector == Vector.DF and (contributory or page_fault):
        return None
    if exception and (
        (first.vector in _CONTRIBUTORY and contributory)
        or (first.vector in _PAGE_FAULTS and (contributory or page_fault))
    ):
        return Event.exception(Vector.DF, 0)
    return Event.exception(second.vector, second.error_code)


def _none(_: Event) -> bool:
    return False


def deliver_event(
    event: Event, state: EventState, memory: LinearMemory, intercepted: Callable[[Event], bool] = _none
) -> Outcome:
    """Deliver `event`, or the exceptions that its delivery leads to, until a handler runs or a VM exit occurs.

    `intercepted` says whether the exception bitmap makes an exception that delivery met a VM exit; the event
    itself was asked about before. `state` is as :func:`quire.vcpu.deliver` leaves it, but for NMIs, which are
    blocked as soon as one is being delivered. Raises MisuseError as `deliver` does.
    """
    cr2: int | None = None
    if event.type is InterruptionType.NMI:
        state.nmi_blocking = True
    while True:
        stopped = deliver(event, state, memory)
        if stopped is None:
            return Outcome(delivered=event, cr2=cr2)
        if isinstance(stopped, Exit):
            return Outcome(exit=_vectoring(stopped, event), cr2=cr2)
        second = Event.exception(stopped.vector, stopped.error_code)
        # The bitmap is asked about the second exception before that becomes a double fault.
        if intercepted(second):
            return Outcome(exit=_vectoring(_exception_exit(second, stopped.cr2), event), cr2=cr2)
        cr2 = stopped.cr2 if stopped.cr2 is not None else cr2
        after = combine(event, stopped)
        if after is None:
            return Outcome(exit=Exit(ExitReason.TRIPLE_FAULT), cr2=cr2)
        # A double fault that exits is the event itself, not one met during delivery.
        if after != second and intercepted(after):
            return Outcome(exit=_exception_exit(after, None), cr2=cr2)
        if event.injected and event.fault and not after.fault:
            state.rflags &= ~RFLAGS.mask("RF")  # it was that of the fault, saved by the exit that took it
        event = after


def _vectoring(exit: Exit, event: Event) -> Exit:
    """Return `exit` with the event that it cut off and, of a software event, the instruction's length."""
    length = event.instruction_length if event.software else exit.instruction_length
    return replace(exit, idt_vectoring=event, instruction_length=length)


def _exception_exit(event: Event, cr2: int | None) -> Exit:
    """Return the VM exit of an exception; its qualification is the address of a page fault (SDM 3C §27.2.1)."""
    return Exit(ExitReason.EXCEPTION_OR_NMI, qualification=cr2 or 0, interruption=event)
