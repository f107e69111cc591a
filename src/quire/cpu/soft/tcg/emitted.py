"""One engine that counts and stamps in its own code: its context, and what Python does with it around each run."""

import ctypes
import weakref
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import WORD, Side
from quire.cpu.soft.state import SoftState
from quire.cpu.soft.tcg import _kernels_access, _kernels_upkeep, interposition
from quire.cpu.soft.tcg.cells import (
    BLOCKS,
    LOG_BYTES,
    PAIRS,
    PATCHES,
    SIDE_SLOTS,
    SLOTS,
    Cell,
    Near,
    Record,
    Saved,
)
from quire.cpu.soft.tcg.offsets import Offset
from quire.tlb import Shape, Shapes, Tlb, TlbState
from quire.tlb.layout import KIND_SHIFTS, LEVELS, SIDE_NUMBERS, SIZES, Keeping

__all__ = ["EmittedCounts"]

#: In the order of Access.
_SIDES = (Side.LOAD, Side.STORE, Side.FETCH)
_NONE = WORD
_Words = npt.NDArray[np.uint64]


class HasHandle(Protocol):
    """An engine."""

    handle: ctypes.c_void_p


def first_level(tlb: Tlb) -> tuple[dict[Side, set[int]], list[list[int]]]:
    """Return, by side of data, the rows of its nearest structures; and by access what its look-ups may change of them.

    That is pairs of a row and a size, as log2 of the bytes, packed as Cell.PAIRS has them.
    """
    shapes = tlb.shapes

    def rows(side: Side, level: int) -> list[tuple[int, int]]:
        at = (SIDE_NUMBERS[side] * LEVELS + level) * SIZES
        numbers = [int(shapes[at + size]) for size in range(SIZES)]
        return [(Shapes.ROWS + n * len(Shape), KIND_SHIFTS[size]) for size, n in enumerate(numbers) if n >= 0]

    nearest = {side: {row for row, _ in rows(side, 0)} for side in (Side.LOAD, Side.STORE)}
    watched = nearest[Side.LOAD] | nearest[Side.STORE]
    pairs = []
    for side in _SIDES:
        found = {pair for level in range(LEVELS) for pair in rows(side, level)}
        kept = sorted(p for p in found if p[0] in watched and shapes[p[0] + Shape.POLICY] != Keeping.UNBOUNDED)
        pairs.append([row << 8 | shift for row, shift in kept])
    return nearest, pairs


class EmittedCounts:
    """Counts of the engine with `handle`, whose hooks get `user`, and its part of `tlb`.

    Use :meth:`make`, which returns None where this cannot be.
    """

    def __init__(self, engine: HasHandle, user: int, state: _Words, tlb: Tlb, env: int, near: int) -> None:
        self._tlb, self._env, self._state = tlb, env, state
        self._cells = np.zeros(Cell.CELLS, np.uint64)
        self._records = np.zeros((BLOCKS, Record.WORDS), np.uint64)
        self._log = np.zeros(LOG_BYTES, np.uint8)
        self._saved = np.zeros(SIDE_SLOTS * Saved.WORDS, np.uint64)
        self._patches = np.zeros(2 * PATCHES, np.uint64)
        self._slots = np.full((4, 2 * SLOTS), _NONE, np.uint64)
        self._pairs = np.full((3, PAIRS), _NONE, np.uint64)
        nearest, pairs = first_level(tlb)
        for access, found in enumerate(pairs):
            self._pairs[access, : len(found)] = found
        split = nearest[Side.LOAD] != nearest[Side.STORE]
        self._near = np.frombuffer((ctypes.c_uint64 * (Near.END // 8)).from_address(near), np.uint64)
        self._counts = self._near[Near.COUNTS // 8 :]
        self._near_words = memoryview(self._near[: Near.STAMPS // 8])  # type: ignore[arg-type]
        self._taken_off = np.zeros(3, np.int64)  # instructions, reads, writes of blocks that were not executed whole
        self._drained = np.zeros(4, np.int64)
        self._changed = False
        self._spaces = (0, 0)
        self._before: dict[tuple[int, int], int] = {}
        tlb.observers.append(lambda *_: self.changed())
        self._context = self._cells.ctypes.data
        library = interposition.library_with_contexts()
        assert library is not None
        for cell, value in (
            (Cell.USER, user),
            (Cell.ENV, env),
            (Cell.NEAR, near),
            (Cell.NEAR_OFFSET, near - env & WORD),
            (Cell.FULL, int(__import__("os").environ.get("EMIT_FULL","1"))),
            (Cell.RECORDS, self._records.ctypes.data),
            (Cell.LOG, self._log.ctypes.data),
            (Cell.SAVED, self._saved.ctypes.data),
            (Cell.EPOCH, 1),
            (Cell.PATCHES, self._patches.ctypes.data),
            (Cell.SPLIT, split),
            (Cell.PAIRS, self._pairs.ctypes.data),
            (Cell.OWNERS, self._slots[0].ctypes.data),
            (Cell.ENTRIES, self._slots[1].ctypes.data),
            (Cell.TAGS, self._slots[2].ctypes.data),
            (Cell.FOLLOWERS, self._slots[3].ctypes.data),
            (Cell.LOOK_UP, _kernels_access.on_look_up.address),
            (Cell.FETCH, _kernels_access.on_fetch.address),
            (Cell.CHECK, library.address("helper_check_exit_request_x86_64")),
            (Cell.PURE_ALL, library.address("helper_cc_compute_all_x86_64")),
            (Cell.PURE_CARRY, library.address("helper_cc_compute_c_x86_64")),
            (Cell.PURE_NEXT, library.address("helper_lookup_tb_ptr_x86_64")),
        ):
            self._cells[cell] = value
        self._make_heads()
        self._note = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(_kernels_upkeep.note_uses.address)
        self._free = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(_kernels_upkeep.free_slots.address)
        self._free_stale = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(_kernels_upkeep.free_stale_slots.address)

    @classmethod
    def make(cls, engine: HasHandle, user: int, state: _Words, tlb: Tlb) -> "EmittedCounts | None":
        """Return the counts of an engine that has not run yet; None where its library, or memory, does not allow it."""
        if interposition.library_with_contexts() is None:
            return None
        cpu = ctypes.c_uint64.from_address((engine.handle.value or 0) + Offset.UC_CPU).value
        env = ctypes.c_uint64.from_address(cpu + Offset.CPU_ENV).value
        near = interposition.map_near(env, Near.END)
        if not near:
            return None
        made = cls(engine, user, state, tlb, env, near)
        if not interposition.register(env, made._context):
            interposition.unmap(near, Near.END)
            return None
        made._close = weakref.finalize(made, _close, env, near)
        return made

    def changed(self) -> None:
        """The model has dropped something: look before the next run."""
        self._changed = True

    def begin(self) -> None:
        """Before the engine runs: no block has run, no page been fetched from."""
        near = self._near_words
        near[Near.LAST_FETCH // 8] = near[Near.LAST_BLOCK // 8] = _NONE
        state = self._tlb.state
        spaces = (int(state[TlbState.SPACE]), int(state[TlbState.GLOBAL_SPACE]))
        if self._changed or spaces != self._spaces:
            self._changed, self._spaces = False, spaces
            self._free_stale(self._context)
        near[Near.CLOCK // 8] = int(state[TlbState.CLOCK])

    def last_block(self) -> tuple[int, int] | None:
        """Return the address and size of the block that ran last, None if none has."""
        number = self._near_words[Near.LAST_BLOCK // 8]
        if number == _NONE:
            return None
        record = self._records[number]
        return int(record[Record.PC]), int(record[Record.SIZE])

    def end(self) -> None:
        """Behind a run: the model's clock is that of the accesses made."""
        self._tlb.state[TlbState.CLOCK] = self._near_words[Near.CLOCK // 8]

    def leave_out(self, instructions: int) -> None:
        """Take off what the last block did not do: all but its first `instructions`, and accesses behind the last made."""
        number = self._near_words[Near.LAST_BLOCK // 8]
        record = self._records[number]
        done, accesses = self._near_words[Near.DONE // 8], int(record[Record.ACCESSES])
        begin = int(record[Record.LOG])
        writes = int(self._log[begin + done : begin + accesses].sum())
        left = (int(record[Record.INSTRUCTIONS]) - instructions, accesses - done - writes, writes)
        self._taken_off += left
        self._near_words[Near.CLOCK // 8] -= accesses - done

    def totals(self) -> dict[str, int]:
        """Return what was counted."""
        instructions, reads, writes, blocks = (self._drained + self._undrained()).tolist()
        off = self._taken_off.tolist()
        near = self._near_words
        return {
            "reads": reads - off[1] + near[Near.READS // 8],
            "writes": writes - off[2] + near[Near.WRITES // 8],
            "blocks": blocks,
            "instructions": instructions - off[0],
        }

    def note_uses(self) -> None:
        """Bring the model's stamps up to date, for somebody who looks at them."""
        self._note(self._context)

    def free_slots(self) -> None:
        """Let the engine's TLB have nothing of the model's: entries are about to move."""
        self._free(self._context)

    def moved(self) -> None:
        """The model's entries have moved."""
        self._make_heads()

    @property
    def full(self) -> bool:
        """Whether there is little room for more blocks: drop all compiled code, then :meth:`forget_blocks`."""
        limits = ((Cell.NEXT, BLOCKS), (Cell.LOGGED, LOG_BYTES))
        return any(int(self._cells[cell]) > limit * 3 // 4 for cell, limit in limits)

    def forget_blocks(self) -> None:
        """Compiled code is gone, and numbers blocks anew."""
        self._drained += self._undrained()
        self._counts[: int(self._cells[Cell.NEXT])] = 0
        self._cells[Cell.NEXT] = self._cells[Cell.LOGGED] = 0

    def close(self) -> None:
        """Give everything back."""
        self._close()

    def _undrained(self) -> npt.NDArray[np.int64]:
        number = int(self._cells[Cell.NEXT])
        counts = self._counts[:number].astype(np.int64)
        records = self._records[:number].astype(np.int64)
        writes = records[:, Record.WRITES]
        reads = records[:, Record.ACCESSES] - writes
        return np.array(
            [(counts * part).sum() for part in (records[:, Record.INSTRUCTIONS], reads, writes)] + [counts.sum()],
            np.int64,
        )

    def _make_heads(self) -> None:
        self._heads = np.full(self._tlb.capacity, _NONE, np.uint64)
        self._cells[Cell.HEADS] = self._heads.ctypes.data

    _close: weakref.finalize  # type: ignore[type-arg]


def _close(env: int, near: int) -> None:
    interposition.unregister(env)
    interposition.unmap(near, Near.END)
