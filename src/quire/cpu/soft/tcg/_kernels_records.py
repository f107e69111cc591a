"""What is known of each block that the library compiles: what it has, and constants that show at its end only."""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft.tcg._kernels_raw import ask_to_stop, context_of, load8, load16, load64, store16, store64
from quire.cpu.soft.tcg.cells import (
    MANY_ACCESSES,
    MANY_BLOCKS,
    MANY_STARTS,
    SIDE_SLOTS,
    STARTS,
    Cell,
    Record,
    Saved,
)
from quire.cpu.soft.tcg.offsets import Offset, Opcode
from quire.kernels import callback, kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_generate = types.ExternalFunction("gen_intermediate_code_x86_64", types.void(_WORD, _WORD, _HALF))

_C = {cell: U(8 * cell) for cell in Cell}
_FULL, _NEXT, _RECORDS, _LOGGED = _C[Cell.FULL], _C[Cell.NEXT], _C[Cell.RECORDS], _C[Cell.LOGGED]
_COUNTS = _C[Cell.COUNTS]
_SAVED, _STARTS, _STARTED, _TCG = _C[Cell.SAVED], _C[Cell.STARTS], _C[Cell.STARTED], _C[Cell.TCG]
_BEGUN, _LABELLED, _ACCESSES = _C[Cell.BEGUN], _C[Cell.LABELLED], _C[Cell.ACCESSES]
_WRITES, _TEMPS, _SUM_MOVE = _C[Cell.WRITES], _C[Cell.TEMPS], _C[Cell.SUM_MOVE]
_MOVE, _PATCHED, _PATCHES = _C[Cell.PAGE_MOVE], _C[Cell.PATCHED], _C[Cell.PATCHES]
_R = {word: U(8 * word) for word in Record}
_R_WORDS = U(8 * Record.WORDS)
_R_SIZE, _R_INSTRUCTIONS, _R_ACCESSES = _R[Record.SIZE], _R[Record.INSTRUCTIONS], _R[Record.ACCESSES]
_R_WRITES, _R_LOG, _R_STARTS = _R[Record.WRITES], _R[Record.LOG], _R[Record.STARTS]
_S_WORDS, _S_MASK = U(8 * Saved.WORDS), U(SIDE_SLOTS - 1)
_CPU_ENV, _ARGUMENTS, _LINK = U(Offset.CPU_ENV), U(Offset.OP_ARGUMENTS), U(Offset.OP_LINK)
_TB_SIZE, _TB_INSTRUCTIONS = U(Offset.TB_SIZE), U(Offset.TB_INSTRUCTIONS)
_INSN_START, _CONTEXT_OPS = np.uint8(Opcode.INSN_START), U(Offset.CONTEXT_OPS)
_0, _1, _8, _12, _16 = (U(n) for n in (0, 1, 8, 12, 16))
_NONE, _IMPOSSIBLE, _LOW16 = U(WORD), U(WORD - 1), U(0xFFFF)
_MANY_BLOCKS, _MANY_ACCESSES, _MANY_STARTS = U(MANY_BLOCKS), U(MANY_ACCESSES), U(MANY_STARTS)
_LAST_START = U(STARTS - 1)


@kernel(types.void(_WORD, _WORD, _WORD))
def forget_saved(context, first, last):
    """Drop what was kept of the engine's TLB for two pages: a store to them is to be seen from now on."""
    saved = load64(context + _SAVED)
    store64(saved + (first & _S_MASK) * _S_WORDS, _NONE)
    store64(saved + (last & _S_MASK) * _S_WORDS, _NONE)


@kernel(types.void(_WORD))
def apply_patches(context):
    """Give the block's operations the constants that depend on how many accesses it makes."""
    accesses = load64(context + _ACCESSES)
    at = load64(context + _PATCHES)
    for _ in range(load64(context + _PATCHED)):
        op, done = load64(at), load64(at + _8)
        store64(op + _ARGUMENTS + _8, accesses if done == _NONE else done - accesses)
        at += _16


@kernel(types.void(_WORD, _WORD))
def note_starts(context, record):
    """Note where each instruction of the block begins, which the generator says by operations that emit nothing."""
    number, starts = load64(context + _STARTED), load64(context + _STARTS)
    store64(record + _R_STARTS, number)
    pc, op = load64(record), load64(load64(context + _TCG) + _CONTEXT_OPS)
    while op:
        if load8(op) == _INSN_START and number < _LAST_START:
            store16(starts + (number << _1), np.uint16((load64(op + _ARGUMENTS) - pc) & _LOW16))
            number += _1
        op = load64(op + _LINK)
    store64(context + _STARTED, number)


@callback(types.void(_WORD, _WORD, _HALF))
def on_generate(cpu, tb, most):
    """gen_intermediate_code: a record for the block; one that the library leaves by a jump is the next block's."""
    context = context_of(load64(cpu + _CPU_ENV))
    if context == _0 or load64(context + _COUNTS) == _0:
        _generate(cpu, tb, most)
        return
    number, pc = load64(context + _NEXT), load64(tb)
    record = load64(context + _RECORDS) + number * _R_WORDS
    store64(record, pc)
    for cell in (_BEGUN, _LABELLED, _ACCESSES, _WRITES, _MOVE, _PATCHED, _SUM_MOVE):
        store64(context + cell, _0)
    for cell in (_TEMPS, _TEMPS + _8, _TEMPS + _16):
        store64(context + cell, _0)
    logged = load64(context + _LOGGED)
    _generate(cpu, tb, most)
    size = U(load16(tb + _TB_SIZE))
    store64(record + _R_SIZE, size)
    instructions = U(load16(tb + _TB_INSTRUCTIONS))
    store64(record + _R_INSTRUCTIONS, instructions)
    if load64(context + _SUM_MOVE):
        store64(load64(context + _SUM_MOVE) + _ARGUMENTS + _8, instructions)
    accesses = load64(context + _ACCESSES)
    store64(record + _R_ACCESSES, accesses)
    store64(record + _R_WRITES, load64(context + _WRITES))
    store64(record + _R_LOG, logged)
    store64(context + _LOGGED, logged + accesses)
    store64(context + _NEXT, number + _1)
    note_starts(context, record)
    started = load64(context + _STARTED)
    if number >= _MANY_BLOCKS or logged + accesses >= _MANY_ACCESSES or started >= _MANY_STARTS:
        ask_to_stop(context)  # to make room
    if load64(context + _FULL) == _0:
        return
    apply_patches(context)
    last = (pc + size - _1) >> _12
    forget_saved(context, pc >> _12, last)
    move = load64(context + _MOVE)
    if last != pc >> _12 and move:
        store64(move + _ARGUMENTS + _8, _IMPOSSIBLE)  # two pages: looked up each time
