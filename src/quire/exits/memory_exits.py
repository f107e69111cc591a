"""Exits of memory accesses: EPT violations, and exceptions that the exception bitmap takes, #PF under shadow first."""

from quire.arch import ExitReason, Vector
from quire.exits.context import ExitContext
from quire.exits.next_step import RESUME, Inject, Next, StopGuest
from quire.paging.shadow import Verdict
from quire.vcpu import Event, Exit, Nested, combine

__all__ = ["ept_violation", "exception", "forbidden_access"]


def ept_violation(context: ExitContext, stop: Exit) -> Next:
    """Guest memory that is not there yet gets a host page; anything else ends the guest."""
    mapped = context.mmu.mapped
    if mapped is not None and mapped.memory_map.target(stop.gpa) is None and mapped.back(stop.gpa):
        return RESUME
    return forbidden_access(context, stop, stop)


def forbidden_access(context: ExitContext, stop: Exit, violation: Exit) -> Next:
    """Let the region deal with an access that the memory map does not allow; without its help the guest ends.

    `violation` is the access as an EPT violation, which `stop` is not under shadow. Only an instruction of the guest
    can be dealt with, not what Quire itself does for it.
    """
    regions = context.mmu.regions
    region = None if regions is None else regions.at(violation.gpa)
    if region is None or region.on_access is None or context.cpu_exit is not stop:
        return StopGuest(stop)
    found: Next = region.on_access(context, violation)
    return found


def exception(context: ExitContext, stop: Exit) -> Next:
    """Mend the gap in the shadow that a #PF met; give any other exception to the guest."""
    event, shadowed = stop.interruption, context.mmu.shadowed
    if event is None or event.vector != Vector.PF or shadowed is None:
        return give_exception(context, stop)
    found = shadowed.resolve(stop.qualification, event.error_code or 0)
    if found.verdict is Verdict.GUEST_FAULT:
        stop.interruption = Event.exception(Vector.PF, found.error)
        return give_exception(context, stop)
    if found.verdict is Verdict.NO_MEMORY:
        stop.gpa = found.gpa
        violation = Exit(ExitReason.EPT_VIOLATION, found.error, found.gpa, stop.qualification)
        return forbidden_access(context, stop, violation)
    if found.verdict is Verdict.STEP:  # one instruction passes alone while a table that it writes is watched
        context.cpu.step(shadowed.shadow.settle)
    return RESUME


def give_exception(context: ExitContext, stop: Exit) -> Next:
    """Give the guest the exception that was taken from it, or what that makes of another's delivery."""
    event: Event | None = stop.interruption
    if event is None:
        return StopGuest(stop)
    if event.vector == Vector.PF:
        context.system.cr2 = stop.qualification
    if stop.idt_vectoring is not None:
        event = combine(stop.idt_vectoring, Nested(event.vector, event.error_code))
    if event is not None:
        return Inject(event)
    context.handle_exit(Exit(ExitReason.TRIPLE_FAULT))
    return RESUME
