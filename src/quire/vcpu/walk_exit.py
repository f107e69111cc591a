"""The VM exit that a failed walk is: one mapping for the Cpu, for event delivery and for software accesses."""

import numpy as np
import numpy.typing as npt

from quire.arch import EPT_VIOLATION_QUALIFICATION, ExitReason
from quire.paging import Result, Status
from quire.vcpu.stop import Exit

__all__ = ["exit_of_walk"]

_PAGE_OFFSET = 0xFFF
_REASONS = {
    Status.EPT_VIOLATION: ExitReason.EPT_VIOLATION,
    Status.EPT_MISCONFIGURATION: ExitReason.EPT_MISCONFIGURATION,
    Status.LOG_FULL: ExitReason.PAGE_MODIFICATION_LOG_FULL,
    Status.SPP_EVENT: ExitReason.SPP_RELATED_EVENT,
}


def exit_of_walk(result: npt.NDArray[np.uint64], gva: int) -> Exit | None:
    """Return the exit of a walk of exactly `gva` that left `result`, or None when it is no exit (SDM 3C §27.2.1).

    The kernel walks pages; the offset of the access is put into the guest-physical address of its final page.
    """
    status = Status(int(result[Result.STATUS]))
    reason = _REASONS.get(status)
    if reason is None:
        return None
    gpa, error = int(result[Result.FAULT_GPA]), int(result[Result.ERROR])
    if status is Status.EPT_MISCONFIGURATION:
        return Exit(reason, gpa=gpa)
    if status is Status.EPT_VIOLATION and error & EPT_VIOLATION_QUALIFICATION.mask("final"):
        gpa |= gva & _PAGE_OFFSET
    return Exit(reason, error, gpa, gva)
