"""One run of the engine as one compiled call, from the reset of what hooks leave to the registers that stops need.

Contract: the engine starts at the RIP among the values that it reads when it has stopped: RIP, RSP and RFLAGS.
Each call of the library from Python costs as much as a level of interpretation, so that the four that a stop needs
are made here. Called through ctypes, which lets other threads run meanwhile: hooks may call Python.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import HANDLE, USER, emu_stop
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.cpu.soft.tcg._kernels_runs import begin_run, end_run
from quire.kernels import callback, carray, types

_P_STATE, _P_ENGINE = int(Pointer.STATE), int(Pointer.ENGINE)
_P_NUMBERS, _P_CELLS = int(Pointer.REGISTER_NUMBERS), int(Pointer.REGISTER_CELLS)
_P_VALUES = int(Pointer.REGISTER_VALUES)
_N_STATE = len(SoftState)
_STOP, _LAST_FETCH = int(SoftState.STOP), int(SoftState.LAST_FETCH)
_LAST_SIZE, _SYNC = int(SoftState.LAST_BLOCK_SIZE), int(SoftState.SKIP_SYNC)
_END, _COUNT, _PASS_ALIASES = int(SoftState.END), int(SoftState.COUNT), int(SoftState.PASS_ALIASES)
_0, _1, _NONE = np.uint64(0), np.uint64(1), np.uint64(WORD)
_REGISTERS = np.int32(3)
_SIGN = np.uint64(63)
_AT_ADDRESS, _INTERRUPTED = np.uint64(StopCode.AT_ADDRESS), np.uint64(StopCode.INTERRUPTED)
_INTERRUPT, _SLICE = int(SoftState.INTERRUPT), int(SoftState.SLICE)
_SLICE_ENDS = np.uint64(StopCode.SLICE_ENDS)
_CELLS, _UNPLACED, _UNENDED = int(SoftState.CELLS), int(SoftState.UNPLACED), int(SoftState.UNENDED)
_LEFT, _LAST_COUNTED = int(SoftState.LEFT), int(SoftState.LAST_COUNTED)

_emu_start = types.ExternalFunction(
    "uc_emu_start", types.int32(types.voidptr, types.uint64, types.uint64, types.uint64, types.uint64)
)
_read_batch = types.ExternalFunction(
    "uc_reg_read_batch", types.int32(types.voidptr, types.voidptr, types.voidptr, types.int32)
)


@callback(types.int32(USER))
def run(user):
    """Run the engine from the first value, RIP, until END or for COUNT instructions; return its error number."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    values = carray(user[_P_VALUES], (3,), np.uint64)
    state[_STOP] = _0
    state[_LAST_FETCH] = _NONE
    state[_LAST_SIZE] = _0
    state[_SYNC] = _1
    alone, context = state[_COUNT] != _0, state[_CELLS]
    if context:
        begin_run(context)
    error = np.int32(0)
    if state[_INTERRUPT]:  # asked for by this thread, since it looked for that
        state[_STOP] = _INTERRUPTED
    else:
        error = _emu_start(user[_P_ENGINE], values[0], state[_END], _0, state[_COUNT])
    state[_END] = _0
    state[_COUNT] = _0
    state[_PASS_ALIASES] = _0
    _read_batch(user[_P_ENGINE], user[_P_NUMBERS], user[_P_CELLS], _REGISTERS)
    if context:
        state[_UNENDED] = state[_UNPLACED]
        if state[_UNPLACED] == _0:
            end_run(context, values[0], state[_STOP], alone)
    return error


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_block(handle, gva, size, user):
    """UC_HOOK_BLOCK of a run that counts no blocks: stop in front of the block if somebody asked for it."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_INTERRUPT]:
        state[_STOP] = _INTERRUPTED
        emu_stop(user[_P_ENGINE])


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_block_of_slice(handle, gva, size, user):
    """UC_HOOK_BLOCK of a Cpu that runs in slices: stop in front of the block when the slice is used up.

    An instruction that runs alone is not kept from it.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_SLICE] > _0:
        state[_SLICE] -= _1
    elif state[_COUNT] == _0:
        state[_STOP], state[_LAST_SIZE] = _SLICE_ENDS, _0  # the last block has run whole
        emu_stop(user[_P_ENGINE])


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_address(handle, gva, size, user):
    """UC_HOOK_CODE of one address: end the run before its instruction."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    state[_STOP] = _AT_ADDRESS
    emu_stop(user[_P_ENGINE])


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_instruction(handle, gva, size, user):
    """UC_HOOK_CODE of every address: count the instruction, or end the run before it if none is left.

    Before the next iteration of a repeated instruction it is counted too, below 0: whoever finds the instruction still
    next takes one back, and could not tell the iteration that was executed from the one that was not.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    over = state[_LEFT] == _0 or state[_LEFT] >> _SIGN == _1
    if over:
        state[_STOP] = _AT_ADDRESS
        emu_stop(user[_P_ENGINE])
    if not over or state[_LAST_COUNTED] == gva:
        state[_LEFT] -= _1
        state[_LAST_COUNTED] = gva
