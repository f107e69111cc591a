"""A buffer of all accesses and blocks, in their order: operations that write it, and what the library's helpers add.

A block that finds less room than any block needs does not run: the buffer is emptied first. An access is entered when
it has been made; its address is written before, for the access may change the register that it came from.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.recording import EntryKind
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.cpu.soft.tcg._kernels_operations import (
    CONTEXT_ENV,
    LD,
    ST,
    add_i64,
    emit3,
    emit_call_unless,
    emit_move,
    temp_of,
)
from quire.cpu.soft.tcg._kernels_raw import ask_to_stop, load64, store64, user_at
from quire.cpu.soft.tcg._kernels_repairs import instruction_start
from quire.cpu.soft.tcg.cells import ENTRY_KIND, ENTRY_PLACE, ENTRY_SIZE, Cell, Near, Record
from quire.cpu.soft.tcg.offsets import Condition, Offset
from quire.kernels import callback, carray, kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_C = {cell: U(8 * cell) for cell in Cell}
_OFFSET, _NEAR, _NEXT, _USER = _C[Cell.NEAR_OFFSET], _C[Cell.NEAR], _C[Cell.NEXT], _C[Cell.USER]
_RECORDS, _SOON_FULL = _C[Cell.RECORDS], _C[Cell.SOON_FULL]
_LIMIT, _END = _C[Cell.ENTRIES_LIMIT], _C[Cell.ENTRIES_END]
_N_ENTRY, _N_PLACE, _N_LOST = U(Near.ENTRY), U(Near.PLACE), U(Near.LOST)
_N_BLOCK, _R_WORDS = U(Near.LAST_BLOCK), U(8 * Record.WORDS)
_P_STATE, _N_STATE, _STOP = int(Pointer.STATE), len(SoftState), int(SoftState.STOP)
_COUNT = int(SoftState.COUNT)
_S_FULL, _ARGUMENTS = U(StopCode.RECORDS_FULL), U(Offset.OP_ARGUMENTS)
_KIND, _SIZE, _PLACE = U(ENTRY_KIND), U(ENTRY_SIZE), U((1 << ENTRY_PLACE) - 1)
_BLOCK, _READ, _WRITE = U(EntryKind.BLOCK), U(EntryKind.READ), U(EntryKind.WRITE)
_LT = np.int32(Condition.LT)
_0, _1, _3, _8, _NONE = U(0), U(1), U(3), U(8), U(WORD)
_BYTES = np.int64(16)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_room(tcg, context, arguments):
    """Emit that the buffer is emptied if it is soon full."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    temp = temp_of(tcg, context, _0)
    emit3(tcg, LD, temp, env, near + _N_ENTRY)
    add_i64(tcg, temp - tcg, temp - tcg, -np.int64(load64(context + _LIMIT)))
    emit_call_unless(tcg, context, arguments, _LT, load64(context + _SOON_FULL))


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_entry(tcg, context, what):
    """Emit that an entry, whose first word is there, gets its second, `what`, and is complete."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    at, word = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    emit3(tcg, LD, at, env, near + _N_ENTRY)
    emit_move(tcg, word, what)
    emit3(tcg, ST, word, at, _8)
    add_i64(tcg, at - tcg, at - tcg, _BYTES)
    emit3(tcg, ST, at, env, near + _N_ENTRY)


@kernel(types.void(_WORD, _WORD))
def emit_block_entry(tcg, context):
    """Emit the entry of a block: its address, and its number."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    at, word = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    number = load64(context + _NEXT)
    emit3(tcg, LD, at, env, near + _N_ENTRY)
    emit_move(tcg, word, load64(load64(context + _RECORDS) + number * _R_WORDS))
    emit3(tcg, ST, word, at, _0)
    emit_entry(tcg, context, number | _BLOCK << _KIND)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_address(tcg, context, address):
    """Emit, before an access, that its address is the first word of the next entry."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    at = temp_of(tcg, context, _0)
    emit3(tcg, LD, at, env, near + _N_ENTRY)
    emit3(tcg, ST, address + tcg, at, _0)


@kernel(types.void(_WORD, _WORD, _HALF, _WORD))
def emit_access_entry(tcg, context, memop, write):
    """Emit, behind an access, that its entry is complete."""
    place = load64(instruction_start(tcg) + _ARGUMENTS) & _PLACE
    kind = _WRITE if write else _READ
    emit_entry(tcg, context, place | kind << _KIND | (U(memop) & _3) << _SIZE)


@kernel(types.void(_WORD, _WORD))
def emit_place(tcg, context):
    """Emit, before an instruction of the library's own that may access memory, where it is."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    temp = temp_of(tcg, context, _0)
    emit_move(tcg, temp, load64(instruction_start(tcg) + _ARGUMENTS))
    emit3(tcg, ST, temp, env, near + _N_PLACE)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def enter(context, gva, size_log, write):
    """Enter an access that one of the library's own instructions has made. What has no room is counted."""
    near = load64(context + _NEAR)
    at = load64(near + _N_ENTRY)
    if at >= load64(context + _END):
        store64(near + _N_LOST, load64(near + _N_LOST) + _1)
        return
    kind = _WRITE if write else _READ
    store64(at, gva)
    store64(at + _8, (load64(near + _N_PLACE) & _PLACE) | kind << _KIND | size_log << _SIZE)
    store64(near + _N_ENTRY, at + U(_BYTES))


@callback(types.void(_WORD, _HALF))
def on_soon_full(context, number):
    """Called by a block that may not find room: end the run before it, unless an instruction runs alone."""
    state = carray(user_at(load64(context + _USER))[_P_STATE], (_N_STATE,), np.uint64)
    if state[_COUNT] == _0:
        state[_STOP] = _S_FULL
        store64(load64(context + _NEAR) + _N_BLOCK, _NONE)  # the last block has run whole
        ask_to_stop(context)
