"""Accesses counted and looked up by operations in the engine's own code: what Python has to do around each run."""

from quire.arch import WORD
from quire.cpu.soft.state import Emitted, SoftState
from quire.cpu.soft.tcg.cells import Near, Record
from quire.cpu.soft.tcg.context import Context, Stoppable
from quire.cpu.soft.tcg.emitted_blocks import EmittedBlocks, Words
from quire.cpu.soft.tcg.page_slots import PageSlots
from quire.kernels import Callback
from quire.tlb import Tlb, TlbState

__all__ = ["EmittedCounts"]

_NONE = WORD
_CLOCK, _FETCH = Near.CLOCK // 8, Near.LAST_FETCH // 8
_DONE, _READS, _WRITES = Near.DONE // 8, Near.READS // 8, Near.WRITES // 8


class EmittedCounts(EmittedBlocks):
    """Counts of the engine of `context`, and its part of `tlb`. Use :meth:`make`."""

    limits_fills = False  # the engine's TLB has what the modelled first level has, and never much

    def __init__(
        self, context: Context, state: Words, pointers: Words, tlb: Tlb, before_walks: Callback | None
    ) -> None:
        super().__init__(context, state, pointers)
        state[SoftState.EMITTED] = Emitted.ACCESSES
        self._tlb = tlb
        self._tlb_state = memoryview(tlb.state)  # type: ignore[arg-type]
        self._slots = PageSlots(context, tlb, before_walks)
        self._log = memoryview(self._slots.log)  # type: ignore[arg-type]
        self._not_read = self._not_written = 0  # accesses of blocks that did not run whole
        #: Of the model when slots were looked through last: entries dropped, address spaces.
        self._seen = (tlb.drops, 0, 0)
        tlb.before_reading.append(self._slots.note_uses)

    @classmethod
    def make(
        cls, engine: Stoppable, pointers: Words, state: Words, tlb: Tlb, before_walks: Callback | None
    ) -> "EmittedCounts | None":
        """Return the counts of a new engine; None where its code cannot be added to."""
        context = Context.make(engine, pointers.ctypes.data, full=True)
        return None if context is None else cls(context, state, pointers, tlb, before_walks)

    def begin(self) -> None:
        """No page has been fetched from; what the model let go of, the engine has no longer."""
        super().begin()
        state = self._tlb_state
        self._near[_FETCH] = _NONE
        now = (self._tlb.drops, state[TlbState.SPACE], state[TlbState.GLOBAL_SPACE])
        if now != self._seen:
            self._seen = now
            self._slots.free_stale()
        self._near[_CLOCK] = state[TlbState.CLOCK]

    def end(self, rip: int, alone: bool) -> None:
        """Take off what the last block did not do."""
        super().end(rip, alone)
        self._tlb_state[TlbState.CLOCK] = self._near[_CLOCK]

    def tlb_moves(self) -> None:
        """Have the engine's TLB hold nothing of the model's."""
        self._slots.free()

    def tlb_moved(self) -> None:
        """Have room for its entries."""
        self._slots.make_heads(self._tlb.capacity)

    def close(self) -> None:
        """Give the context back; the model keeps what slots knew."""
        if self._slots.note_uses in self._tlb.before_reading:  # not closed before
            self._slots.note_uses()
            self._tlb.before_reading.remove(self._slots.note_uses)
        super().close()

    def _accesses(self, reads: int, writes: int) -> dict[str, int]:
        found = {
            "reads": reads - self._not_read + self._near[_READS],
            "writes": writes - self._not_written + self._near[_WRITES],
        }
        return found | self._tlb.misses()

    def _take_off(self, record: list[int]) -> None:
        done, accesses, begin = self._near[_DONE], record[Record.ACCESSES], record[Record.LOG]
        writes = sum(self._log[begin + done : begin + accesses])
        self._not_read += accesses - done - writes
        self._not_written += writes
        self._near[_CLOCK] -= accesses - done
