"""The hooks that process guests have beside those of every soft Cpu: I/O instructions, and the descriptor table.

Unicorn lets every IN and OUT pass and has no hook before them; but from within their hooks its own function raises the
exception, and longjmps out (found by experiment, Unicorn 2.1.4).
"""

import numpy as np

from quire.arch import Vector
from quire.cpu.soft._kernels_casts import HANDLE, USER
from quire.cpu.soft.descriptors import TABLE, TABLE_HPA
from quire.cpu.soft.state import Pointer, SoftState
from quire.kernels import callback, carray, kernel, types
from quire.paging import Rights

_P_STATE, _P_ENVIRONMENT = int(Pointer.STATE), int(Pointer.ENVIRONMENT)
_N_STATE = len(SoftState)
_IMPLICIT_PAGE, _SYNC_OFFSET = int(SoftState.IMPLICIT_PAGE), int(SoftState.SKIP_SYNC_OFFSET)
_UNPLACED = int(SoftState.UNPLACED)
_PAGE = np.uint64((TABLE >> 12) + 1)
_HPA = np.uint64(TABLE_HPA)
_TABLE_RIGHTS = np.uint64(Rights.READ | Rights.WRITE)
_0, _1, _12 = np.uint64(0), np.uint64(1), np.uint64(12)
_GP, _NO_CODE = np.int32(Vector.GP), np.int32(0)

_raise = types.ExternalFunction(
    "raise_exception_err_ra_x86_64", types.void(types.voidptr, types.int32, types.int32, types.uint64)
)


@callback(types.boolean(HANDLE, types.uint64, types.int32, types.CPointer(types.uint64), USER))
def on_fill_table(handle, gva, kind, entry, user):
    """UC_HOOK_TLB_FILL, before the one that walks: the descriptor table, for an instruction that may read it."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_IMPLICIT_PAGE] == _0 or (gva >> _12) + _1 != _PAGE:
        return False
    entry[0] = _HPA
    carray(entry, (2,))[1] = _TABLE_RIGHTS
    return True


@kernel(types.void(HANDLE, USER))
def refuse_port(handle, user):
    """Raise #GP(0): a program's IOPL is 0, and it has no I/O permission bitmap (SDM 1 §19.5)."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_SYNC_OFFSET] and handle[state[_SYNC_OFFSET]]:
        state[_UNPLACED] = _1  # the engine was told not to compute RIP for hooks
    _raise(user[_P_ENVIRONMENT], _GP, _NO_CODE, _0)


@callback(types.uint32(HANDLE, types.uint32, types.int32, USER))
def on_in(handle, port, size, user):
    """UC_HOOK_INSN for IN and INS."""
    refuse_port(handle, user)
    return np.uint32(0)


@callback(types.void(HANDLE, types.uint32, types.int32, types.uint32, USER))
def on_out(handle, port, size, value, user):
    """UC_HOOK_INSN for OUT and OUTS."""
    refuse_port(handle, user)
