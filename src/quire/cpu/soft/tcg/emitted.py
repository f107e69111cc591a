"""Accesses counted and looked up by operations in the engine's own code: what Python has to do around each run."""

from quire.cpu.soft.state import Emitted, SoftState
from quire.cpu.soft.tcg.cells import Cell, Near
from quire.cpu.soft.tcg.context import Context, Stoppable
from quire.cpu.soft.tcg.emitted_blocks import EmittedBlocks, Words
from quire.cpu.soft.tcg.page_slots import PageSlots
from quire.kernels import Callback
from quire.tlb import Tlb

__all__ = ["EmittedCounts"]

_READS, _WRITES = Near.READS // 8, Near.WRITES // 8
_NOT_READ, _NOT_WRITTEN = Near.NOT_READ // 8, Near.NOT_WRITTEN // 8


class EmittedCounts(EmittedBlocks):
    """Counts of the engine of `context`, and its part of `tlb`. Use :meth:`make`."""

    limits_fills = False  # the engine's TLB has what the modelled first level has, and never much

    def __init__(
        self, context: Context, state: Words, pointers: Words, tlb: Tlb, before_walks: Callback | None
    ) -> None:
        super().__init__(context, state, pointers)
        state[SoftState.EMITTED] = Emitted.ACCESSES
        self._tlb = tlb
        self._slots = PageSlots(context, tlb, before_walks)
        context.set_cells({Cell.SEEN_DROPS: tlb.drops})
        tlb.before_reading.append(self._slots.note_uses)

    @classmethod
    def make(
        cls, engine: Stoppable, pointers: Words, state: Words, tlb: Tlb, before_walks: Callback | None
    ) -> "EmittedCounts | None":
        """Return the counts of a new engine; None where its code cannot be added to."""
        context = Context.make(engine, pointers.ctypes.data, full=True)
        return None if context is None else cls(context, state, pointers, tlb, before_walks)

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
            "reads": reads - self._near[_NOT_READ] + self._near[_READS],
            "writes": writes - self._near[_NOT_WRITTEN] + self._near[_WRITES],
        }
        return found | self._tlb.misses()
