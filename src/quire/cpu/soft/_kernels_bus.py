"""Data that are devices': a walk that failed for want of memory, where there may be devices, ends at the bus."""

import numpy as np

from quire.arch import Access
from quire.cpu.soft._kernels_casts import USER, words
from quire.cpu.soft.state import BUS_END, DEVICES, Pointer, SoftState
from quire.kernels import carray, kernel, types
from quire.paging import RESULT_WORDS, Result, Rights, Status

U = np.uint64
_P_STATE, _P_RESULT, _BUS = int(Pointer.STATE), int(Pointer.RESULT), int(SoftState.BUS)
_BASE = int(SoftState.BUS_BASE)
_R_FAULT_GPA, _R_GPA = int(Result.FAULT_GPA), int(Result.GPA)
_BUS_ERROR, _EPT_VIOLATION = np.int64(Status.BUS_ERROR), np.int64(Status.EPT_VIOLATION)
_FETCH, _WRITE = U(Access.FETCH), U(Access.WRITE)
_DEVICES, _BUS_END, _PAGE = U(DEVICES), U(BUS_END), U(0xFFF)
_LOAD, _BOTH, _0 = U(Rights.READ), U(Rights.READ | Rights.WRITE), U(0)


@kernel(types.boolean(USER, types.uint64, types.int64, types.CPointer(types.uint64)))
def fill_device(user, access, status, entry):
    """Give the engine the page of a device, whose accesses Python answers; False if the walk did not end at one.

    A table that lies there is none: the walk knows the page's own address only where it came to data.
    """
    state, result = words(user[_P_STATE]), carray(user[_P_RESULT], (RESULT_WORDS,), np.uint64)
    gpa = result[_R_FAULT_GPA] - state[_BASE]
    if state[_BUS] == _0 or gpa < state[_BUS] or gpa >= _BUS_END or access == _FETCH:
        return False
    if result[_R_GPA] != result[_R_FAULT_GPA] or (status != _BUS_ERROR and status != _EPT_VIOLATION):
        return False
    entry[0] = _DEVICES + (gpa & ~_PAGE)
    carray(entry, (2,))[1] = _BOTH if access == _WRITE else _LOAD
    return True
