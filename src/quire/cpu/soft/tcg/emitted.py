"""Counts by operations in the engine's own code: what Python has to do around each run."""

import ctypes
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quire.arch import WORD
from quire.cpu.soft.blocks import count_instructions
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.cpu.soft.tcg import _kernels_upkeep
from quire.cpu.soft.tcg.cells import BLOCKS, LOG_BYTES, Cell, Near, Record
from quire.cpu.soft.tcg.context import Context, Stoppable
from quire.cpu.soft.tcg.first_level import first_level
from quire.kernels import Callback
from quire.tlb import Tlb, TlbState

__all__ = ["EmittedCounts"]

_NONE = WORD
_STOP, _FILLS_LEFT = int(SoftState.STOP), int(SoftState.FILLS_LEFT)
#: Stops between two blocks, of which the last has run whole.
_BETWEEN = frozenset((StopCode.INTERRUPTED, StopCode.SLICE_ENDS))
_CLOCK, _FETCH, _BLOCK = Near.CLOCK // 8, Near.LAST_FETCH // 8, Near.LAST_BLOCK // 8
_DONE, _READS, _WRITES = Near.DONE // 8, Near.READS // 8, Near.WRITES // 8


class EmittedCounts:
    """Counts of the engine of `context`, and its part of `tlb`. Use :meth:`make`."""

    stops_at_blocks = True

    def __init__(
        self,
        context: Context,
        state: npt.NDArray[np.uint64],
        tlb: Tlb,
        code: Callable[[int, int], bytes],
    ) -> None:
        self._context, self._tlb, self._code = context, tlb, code
        self._scalars = memoryview(state)  # type: ignore[arg-type]
        self._tlb_state = memoryview(tlb.state)  # type: ignore[arg-type]
        self._near = context.near
        #: Instructions, reads, writes: of blocks that are forgotten, less those of blocks that did not run whole.
        self._before = np.zeros(4, np.int64)
        self._lengths: dict[tuple[int, int], int] = {}
        self._stale = False
        self._spaces = (0, 0)
        tlb.observers.append(lambda *_: self._model_changed())
        tlb.before_reading.append(self._note_uses)
        context.make_heads(tlb.capacity)
        call = ctypes.CFUNCTYPE(None, ctypes.c_uint64)
        self._note = call(_kernels_upkeep.note_uses.address)
        self._free = call(_kernels_upkeep.free_slots.address)
        self._free_stale = call(_kernels_upkeep.free_stale_slots.address)

    @classmethod
    def make(
        cls,
        engine: Stoppable,
        pointers: npt.NDArray[np.uint64],
        state: npt.NDArray[np.uint64],
        tlb: Tlb,
        code: Callable[[int, int], bytes],
        before_walks: Callback | None,
    ) -> "EmittedCounts | None":
        """Return the counts of a new engine; None where its code cannot be added to."""
        context = Context.make(engine, pointers.ctypes.data, first_level(tlb))
        if context is None:
            return None
        pointers[Pointer.NEAR] = context.cells[Cell.NEAR]
        context.cells[Cell.PRIVILEGE] = 0 if before_walks is None else before_walks.address
        state[SoftState.EMITTED] = 1
        state[SoftState.SKIP_SYNC_OFFSET] = 0  # no hook is called at accesses
        return cls(context, state, tlb, code)

    def add_hooks(self) -> None:
        """Do nothing: the engine's code counts."""

    def begin(self) -> None:
        """No block has run, no page been fetched from; what the model let go of, the engine has no longer."""
        near, state = self._near, self._tlb_state
        near[_FETCH] = near[_BLOCK] = _NONE
        spaces = (state[TlbState.SPACE], state[TlbState.GLOBAL_SPACE])
        if self._stale or spaces != self._spaces:
            self._stale, self._spaces = False, spaces
            self._free_stale(self._context.address)
        near[_CLOCK] = state[TlbState.CLOCK]

    def end(self, rip: int, alone: bool) -> None:
        """Take off what the last block did not execute."""
        near, code = self._near, self._scalars[_STOP]
        number = near[_BLOCK]
        if number != _NONE and (code or alone) and code not in _BETWEEN:
            record = self._context.records[number]
            if int(record[Record.PC]) <= rip < int(record[Record.PC]) + int(record[Record.SIZE]):
                self._leave_out(number, record, rip)
        self._tlb_state[TlbState.CLOCK] = near[_CLOCK]

    @property
    def wants_room(self) -> bool:
        """Whether there is little room for more blocks: the owner drops compiled code, and calls :meth:`make_room`."""
        cells = self._context.cells
        return bool(cells[Cell.NEXT] > BLOCKS * 3 // 4 or cells[Cell.LOGGED] > LOG_BYTES * 3 // 4)

    def make_room(self) -> None:
        """Compiled code is gone; blocks are numbered anew."""
        self._before += self._of_blocks()
        self._lengths.clear()
        self._context.counts[: int(self._context.cells[Cell.NEXT])] = 0
        self._context.cells[Cell.NEXT] = self._context.cells[Cell.LOGGED] = 0

    def code_changes(self) -> None:
        """Do nothing: other code is another block."""

    def tlb_moves(self) -> None:
        """Have the engine's TLB hold nothing of the model's."""
        self._free(self._context.address)

    def tlb_moved(self) -> None:
        """Have room for its entries."""
        self._context.make_heads(self._tlb.capacity)

    def events(self) -> dict[str, int]:
        """Return accesses, blocks, instructions and misses."""
        instructions, reads, writes, blocks = (self._before + self._of_blocks()).tolist()
        return {
            "reads": reads + self._near[_READS],
            "writes": writes + self._near[_WRITES],
            "blocks": blocks,
            "instructions": instructions,
        } | self._tlb.misses()

    def close(self) -> None:
        """Give the context back."""
        self._note_uses()
        self._tlb.before_reading.remove(self._note_uses)
        self._context.close()

    def _leave_out(self, number: int, record: npt.NDArray[np.uint64], rip: int) -> None:
        """Take off the instructions of a block from `rip` on, and the accesses behind the last that was made."""
        pc, begin, accesses = int(record[Record.PC]), int(record[Record.LOG]), int(record[Record.ACCESSES])
        done = self._near[_DONE]
        executed = self._lengths.get((number, rip))
        if executed is None:
            executed = self._lengths[number, rip] = count_instructions(self._code(pc, rip - pc))
        writes = int(np.count_nonzero(self._context.log[begin + done : begin + accesses]))
        instructions = int(record[Record.INSTRUCTIONS]) - executed
        self._before -= (instructions, accesses - done - writes, writes, 0)
        self._near[_CLOCK] -= accesses - done

    def _of_blocks(self) -> npt.NDArray[np.int64]:
        """Return instructions, reads, writes and executions of all blocks."""
        number = int(self._context.cells[Cell.NEXT])
        records = self._context.records[:number].astype(np.int64)
        writes = records[:, Record.WRITES]
        each = (records[:, Record.INSTRUCTIONS], records[:, Record.ACCESSES] - writes, writes)
        times = self._context.counts[:number].astype(np.int64)
        return np.array([*(int(times @ one) for one in each), int(times.sum())], np.int64)

    def _model_changed(self) -> None:
        self._stale = True

    def _note_uses(self) -> None:
        self._note(self._context.address)
