"""Exit handlers under shadow paging: page faults, and what a guest's kernel does to its TLB.

A #PF is mended, given to the guest, or lets one instruction pass alone while a table that it writes is watched.
"""

from typing import TYPE_CHECKING

from quire.arch import ExitReason, Vector
from quire.arch.instruction_exits import INVPCID_INFORMATION
from quire.exits.handlers import Handler, forbidden_access
from quire.exits.machine_handlers import exception, finish
from quire.exits.processor import GENERAL
from quire.paging.shadow import Verdict
from quire.vcpu import Event, Exit

if TYPE_CHECKING:
    from quire.machine.hypervisor import Hypervisor

__all__ = ["MACHINE_SHADOW_HANDLERS", "SHADOW_HANDLERS"]

_DESCRIPTOR_BYTES = 16


def page_fault(hypervisor: "Hypervisor", stop: Exit) -> None:
    """Mend the gap in the shadow that a #PF met, or inject the #PF that is the guest's own."""
    event = stop.interruption
    if event is None or event.vector != Vector.PF:
        exception(hypervisor, stop)
        return
    mmu = hypervisor.shadow_mmu
    found = mmu.resolve(stop.qualification, event.error_code or 0)
    if found.verdict is Verdict.GUEST_FAULT:
        stop.interruption = Event.exception(Vector.PF, found.error)
        exception(hypervisor, stop)
    elif found.verdict is Verdict.NO_MEMORY:
        stop.gpa = found.gpa
        violation = Exit(ExitReason.EPT_VIOLATION, found.error, found.gpa, stop.qualification)
        forbidden_access(hypervisor, stop, violation)
    elif found.verdict is Verdict.STEP:
        hypervisor.cpu.step(mmu.shadow.settle)


def invlpg(hypervisor: "Hypervisor", stop: Exit) -> None:
    """INVLPG of the kernel that Quire plays."""
    hypervisor.shadow_mmu.perform_invalidation(stop.qualification)


def mov_to_cr3(hypervisor: "Hypervisor", stop: Exit) -> None:
    """MOV to CR3 of the kernel that Quire plays: the same value, for its flush."""
    del stop
    hypervisor.shadow_mmu.perform_invalidation(None)


def invpcid(hypervisor: "Hypervisor", stop: Exit) -> None:
    """INVPCID of a machine guest: its descriptor is read as the instruction would."""
    read = hypervisor.linear_memory.read(stop.gla or 0, _DESCRIPTOR_BYTES, supervisor=False)
    if isinstance(read, bytes):
        register = GENERAL[INVPCID_INFORMATION.get(stop.instruction_information, "reg2")]
        kind = hypervisor.cpu.registers.read(register)
        event = hypervisor.processor.invpcid(kind, int.from_bytes(read, "little"))
        finish(hypervisor, stop, event)
    elif isinstance(read, Exit):
        hypervisor.handle_exit(read)
    else:
        if read.cr2 is not None:
            hypervisor.processor.cr2 = read.cr2
        hypervisor.inject(Event.exception(read.vector, read.error_code))


#: What a hypervisor has under shadow besides :data:`quire.hypervisor.DEFAULT_HANDLERS`.
SHADOW_HANDLERS: dict[ExitReason, Handler] = {
    ExitReason.EXCEPTION_OR_NMI: page_fault,
    ExitReason.INVLPG: invlpg,
    ExitReason.CR_ACCESS: mov_to_cr3,
}

#: And of a machine guest besides :data:`quire.hypervisor.MACHINE_HANDLERS`, which perform its other instructions.
MACHINE_SHADOW_HANDLERS: dict[ExitReason, Handler] = {
    ExitReason.EXCEPTION_OR_NMI: page_fault,
    ExitReason.INVPCID: invpcid,
}
