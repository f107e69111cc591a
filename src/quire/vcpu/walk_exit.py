"""The VM exit that a failed walk is: one mapping for the Cpu, for event delivery and for software accesses."""

import numpy as np
import numpy.typing as npt

from quire.arch import EPT_VIOLATION_QUALIFICATION, PAGE_SIZE, ExitReason
from quire.paging import Result, Status
from quire.vcpu.stop import Exit

__all__ = ["exit_of_walk"]

#: A result array, or a view of it that yields Python integers.
Words = npt.NDArray[np.uint64] | memoryview

_PAGE_OFFSET = PAGE_SIZE - 1
_STATUS, _ERROR, _FAULT_GPA = int(Result.STATUS), int(Result.ERROR), int(Result.FAULT_GPA)
_VIOLATION, _MISCONFIGURATION = int(Status.EPT_VIOLATION), int(Status.EPT_MISCONFIGURATION)
_FINAL = EPT_VIOLATION_QUALIFICATION.mask("final")
_REASONS: dict[int, ExitReason] = {
    Status.EPT_VIOLATION: ExitReason.EPT_VIOLATION,
    Status.EPT_MISCONFIGURATION: ExitReason.EPT_MISCONFIGURATION,
    Status.LOG_FULL: ExitReason.PAGE_MODIFICATION_LOG_FULL,
    Status.SPP_EVENT: ExitReason.SPP_RELATED_EVENT,
}


def exit_of_walk(result: Words, gva: int) -> Exit | None:
    """Return the exit of a walk of exactly `gva` that left `result`, or None when it is no exit (SDM 3C §27.2.1).

    The kernel walks pages; the offset of the access is put into the guest-physical address of its final page.
    """
    status = int(result[_STATUS])
    reason = _REASONS.get(status)
    if reason is None:
        return None
    gpa, error = int(result[_FAULT_GPA]), int(result[_ERROR])
    if status == _MISCONFIGURATION:
        return Exit(reason, gpa=gpa)
    if status == _VIOLATION and error & _FINAL:
        gpa |= gva & _PAGE_OFFSET
    return Exit(reason, error, gpa, gva)
