"""What is due before and behind each run of an engine whose blocks count, and how much has run: no Python for it."""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import words
from quire.cpu.soft.state import Pointer, StopCode
from quire.cpu.soft.tcg._kernels_raw import load8, load16, load64, store64, user_at
from quire.cpu.soft.tcg._kernels_upkeep import free_stale
from quire.cpu.soft.tcg.cells import Cell, Near, Record
from quire.kernels import callback, kernel, types
from quire.tlb import TlbState

U = np.uint64
_WORD = types.uint64

_C = {cell: U(8 * cell) for cell in Cell}
_USER, _NEAR, _FULL, _RECORDS = _C[Cell.USER], _C[Cell.NEAR], _C[Cell.FULL], _C[Cell.RECORDS]
_STARTS, _LOG = _C[Cell.STARTS], _C[Cell.LOG]
_SEEN, _SEEN_SPACE, _SEEN_GLOBAL = _C[Cell.SEEN_DROPS], _C[Cell.SEEN_SPACE], _C[Cell.SEEN_GLOBAL]
_N_BLOCK, _N_FETCH, _N_CLOCK, _N_DONE = (
    U(one) for one in (Near.LAST_BLOCK, Near.LAST_FETCH, Near.CLOCK, Near.DONE)
)
_COUNTS, _RECORDED = U(Near.COUNTS), _C[Cell.NEXT]
_N_NOT_EXECUTED, _N_NOT_READ, _N_NOT_WRITTEN = U(Near.NOT_EXECUTED), U(Near.NOT_READ), U(Near.NOT_WRITTEN)
_R = {word: U(8 * word) for word in Record}
_R_WORDS, _R_SIZE, _R_INSTRUCTIONS = U(8 * Record.WORDS), _R[Record.SIZE], _R[Record.INSTRUCTIONS]
_R_ACCESSES, _R_LOG, _R_STARTS = _R[Record.ACCESSES], _R[Record.LOG], _R[Record.STARTS]
_P_TLB_STATE = int(Pointer.TLB_STATE)
_CLOCK, _DROPS = int(TlbState.CLOCK), int(TlbState.DROPS)
_SPACE, _GLOBAL_SPACE = int(TlbState.SPACE), int(TlbState.GLOBAL_SPACE)
_NONE, _0, _1, _3 = U(WORD), U(0), U(1), U(3)
#: Stops between two blocks: the last one has run whole, whatever is executed next.
_S_INTERRUPTED, _S_SLICE_ENDS, _S_RECORDS_FULL = (
    U(one) for one in (StopCode.INTERRUPTED, StopCode.SLICE_ENDS, StopCode.RECORDS_FULL)
)


@kernel(types.void(_WORD))
def begin_run(context):
    """No block has run, no page was fetched from; what the model let go of, the engine has no longer."""
    near = load64(context + _NEAR)
    store64(near + _N_BLOCK, _NONE)
    if load64(context + _FULL) == _0:
        return
    store64(near + _N_FETCH, _NONE)
    state = words(user_at(load64(context + _USER))[_P_TLB_STATE])
    drops, space, shared = state[_DROPS], state[_SPACE], state[_GLOBAL_SPACE]
    if (
        load64(context + _SEEN) != drops
        or load64(context + _SEEN_SPACE) != space
        or load64(context + _SEEN_GLOBAL) != shared
    ):
        store64(context + _SEEN, drops)
        store64(context + _SEEN_SPACE, space)
        store64(context + _SEEN_GLOBAL, shared)
        free_stale(context)
    store64(near + _N_CLOCK, state[_CLOCK])


@kernel(types.void(_WORD, _WORD), inline="always")
def add(at, amount):
    """Let the word at `at` grow."""
    store64(at, load64(at) + amount)


@kernel(types.void(_WORD, _WORD))
def take_off(context, record):
    """Take off accesses of a block that it has not made."""
    near = load64(context + _NEAR)
    done, accesses = load64(near + _N_DONE), load64(record + _R_ACCESSES)
    log, writes = load64(context + _LOG) + load64(record + _R_LOG), _0
    for number in range(done, accesses):
        writes += U(load8(log + U(number)))
    add(near + _N_NOT_READ, accesses - done - writes)
    add(near + _N_NOT_WRITTEN, writes)
    add(near + _N_CLOCK, done - accesses)


@kernel(types.void(_WORD, _WORD, _WORD, types.boolean))
def end_run(context, rip, code, alone):
    """Take off what the last block did not do, if the run stopped with `code` at `rip`, within it."""
    near = load64(context + _NEAR)
    number = load64(near + _N_BLOCK)
    between = code in (_S_INTERRUPTED, _S_SLICE_ENDS, _S_RECORDS_FULL)
    if number != _NONE and (code != _0 or alone) and not between:
        record = load64(context + _RECORDS) + number * _R_WORDS
        offset = rip - load64(record)
        if offset < load64(record + _R_SIZE):
            starts, left = load64(context + _STARTS) + (load64(record + _R_STARTS) << _1), _0
            for instruction in range(load64(record + _R_INSTRUCTIONS)):
                left += _1 if U(load16(starts + (U(instruction) << _1))) >= offset else _0
            add(near + _N_NOT_EXECUTED, left)
            if load64(context + _FULL):
                take_off(context, record)
    if load64(context + _FULL):
        words(user_at(load64(context + _USER))[_P_TLB_STATE])[_CLOCK] = load64(near + _N_CLOCK)


@callback(types.void(_WORD, _WORD, _WORD, types.boolean))
def on_end_run(context, rip, code, alone):
    """Do what :func:`end_run` does, once it is known where the run stopped."""
    end_run(context, rip, code, alone)


@callback(_WORD(_WORD))
def on_count(context):
    """Return the instructions of all blocks, of which each has run as often as its count says."""
    counts, record, total = load64(context + _NEAR) + _COUNTS, load64(context + _RECORDS), _0
    for number in range(load64(context + _RECORDED)):
        total += load64(counts + (U(number) << _3)) * load64(record + _R_INSTRUCTIONS)
        record += _R_WORDS
    return total
