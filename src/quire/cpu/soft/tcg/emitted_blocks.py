"""Blocks counted by operations in the engine's own code, and with them instructions."""

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quire.arch import WORD
from quire.cpu.soft.counts import Counts
from quire.cpu.soft.state import Emitted, Pointer, SoftState
from quire.cpu.soft.tcg import _kernels_runs, _kernels_upkeep
from quire.cpu.soft.tcg.access_buffer import AccessBuffer
from quire.cpu.soft.tcg.cells import MANY_ACCESSES, MANY_BLOCKS, MANY_STARTS, Cell, Near, Record
from quire.cpu.soft.tcg.context import Context, Stoppable
from quire.cpu.soft.tcg.interposition import turn_accesses

__all__ = ["EmittedBlocks", "Words"]

_NONE = WORD
_STOP, _UNENDED = int(SoftState.STOP), int(SoftState.UNENDED)
_SLICE, _NOT_EXECUTED, _EXECUTED = Near.SLICE // 8, Near.NOT_EXECUTED // 8, Near.EXECUTED // 8
_NEXT, _LOGGED, _STARTED = int(Cell.NEXT), int(Cell.LOGGED), int(Cell.STARTED)
Words = npt.NDArray[np.uint64]


class EmittedBlocks(Counts):
    """Counts of the engine of `context`, whose hooks share `state`. Use :meth:`make_blocks`."""

    stops_at_blocks = True

    def __init__(self, context: Context, state: Words, pointers: Words) -> None:
        self._context = context
        self._near = context.near
        self._scalars = memoryview(state)  # type: ignore[arg-type]
        self._cells = memoryview(context.cells)  # type: ignore[arg-type]
        #: Instructions, reads, writes and executions of blocks that are gone.
        self._forgotten = np.zeros(4, np.int64)
        self._buffer: AccessBuffer | None = None
        self._before: int | None = None  # instructions before those that blocks sum up themselves
        self._end = ctypes.CFUNCTYPE(None, *(ctypes.c_uint64,) * 3, ctypes.c_bool)(
            _kernels_runs.on_end_run.address or 0
        )
        self._count = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(_kernels_runs.on_count.address or 0)
        pointers[Pointer.NEAR] = context.cells[Cell.NEAR]
        state[SoftState.CELLS] = context.address
        state[SoftState.EMITTED] = Emitted.BLOCKS
        state[SoftState.SKIP_SYNC_OFFSET] = 0  # no hook is called at accesses

    @classmethod
    def make_blocks(cls, engine: Stoppable, pointers: Words, state: Words) -> "EmittedBlocks | None":
        """Return the counts of a new engine; None where its code cannot be added to."""
        context = Context.make(engine, pointers.ctypes.data, full=False)
        return None if context is None else cls(context, state, pointers)

    def end(self, rip: int, alone: bool) -> None:
        """Take off what the last block did not execute, if that is known only now; hand over what was recorded."""
        if self._scalars[_UNENDED]:
            self._scalars[_UNENDED] = 0
            self._end(self._context.address, rip, self._scalars[_STOP], alone)
        if self._buffer is not None:
            self._buffer.drain()

    def slice_cell(self) -> tuple["memoryview[int]", int]:
        """Have each block take one off a cell, and the run end in front of the first block that finds none.

        Who asks for slices often asks how many instructions were executed, too: blocks sum these up then.
        """
        self._before = self._of_counts()
        self._context.set_cells({Cell.SLICED: 1, Cell.SLICE_ENDS: _kernels_upkeep.on_slice_end.address or 0})
        return self._near, _SLICE

    def record(self, into: Callable[[npt.NDArray[np.void]], None]) -> bool:
        """Have `into` called with all accesses whenever the engine stops; return whether that can be."""
        if not turn_accesses():
            return False
        self._buffer = AccessBuffer(self._context, into)
        return True

    @property
    def wants_room(self) -> bool:
        """Whether there is little room for more blocks: the owner drops compiled code, and calls :meth:`make_room`."""
        cells = self._cells
        return cells[_NEXT] > MANY_BLOCKS or cells[_LOGGED] > MANY_ACCESSES or cells[_STARTED] > MANY_STARTS

    def make_room(self) -> None:
        """Compiled code is gone; blocks are numbered anew."""
        self._forgotten += self._of_blocks()
        self._context.counts[: self._cells[_NEXT]] = 0
        self._cells[_NEXT] = self._cells[_LOGGED] = self._cells[_STARTED] = 0

    def events(self) -> dict[str, int]:
        """Return blocks and instructions."""
        instructions, reads, writes, blocks = (self._forgotten + self._of_blocks()).tolist()
        found = {"blocks": blocks, "instructions": instructions - self._near[_NOT_EXECUTED]}
        return found | self._accesses(reads, writes)

    def instructions(self) -> int:
        """Return how many instructions were executed, sooner than :meth:`events` does."""
        before = self._before
        executed = self._of_counts() if before is None else before + self._near[_EXECUTED]
        return executed - self._near[_NOT_EXECUTED]

    def close(self) -> None:
        """Give the context back."""
        self._context.close()

    def _of_counts(self) -> int:
        """Return the instructions of all blocks, as often as each has begun."""
        counted: int = self._count(self._context.address)
        return int(self._forgotten[0]) + counted

    def _accesses(self, reads: int, writes: int) -> dict[str, int]:
        """Return what is counted of accesses, of which blocks made so many."""
        del reads, writes
        return {}

    def _of_blocks(self) -> npt.NDArray[np.int64]:
        """Return instructions, reads, writes and executions of all blocks."""
        number = self._cells[_NEXT]
        records = self._context.records[:number].astype(np.int64)
        writes = records[:, Record.WRITES]
        each = (records[:, Record.INSTRUCTIONS], records[:, Record.ACCESSES] - writes, writes)
        times = self._context.counts[:number].astype(np.int64)
        return np.array([*(int(times @ one) for one in each), int(times.sum())], np.int64)
