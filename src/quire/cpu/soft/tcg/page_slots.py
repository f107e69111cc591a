"""The slots of one engine: pages of the modelled first level, and what is kept of the engine's own TLB."""

import ctypes

import numpy as np
import numpy.typing as npt

from quire.arch import WORD
from quire.cpu.soft.tcg import _kernels_access, _kernels_upkeep
from quire.cpu.soft.tcg.cells import LOG_BYTES, PATCHES, SIDE_SLOTS, SLOTS, Cell, Saved
from quire.cpu.soft.tcg.context import Context
from quire.cpu.soft.tcg.first_level import first_level
from quire.kernels import Callback
from quire.tlb import Tlb

__all__ = ["PageSlots"]

_NONE = WORD
_Words = npt.NDArray[np.uint64]


class PageSlots:
    """Of the engine of `context`, whose accesses are looked up in `tlb`; `before_walks` tells walks their privilege."""

    def __init__(self, context: Context, tlb: Tlb, before_walks: Callback | None) -> None:
        self._context = context
        level = first_level(tlb)
        self.log: npt.NDArray[np.uint8] = np.zeros(LOG_BYTES, np.uint8)
        self._saved: _Words = np.zeros(SIDE_SLOTS * Saved.WORDS, np.uint64)
        self._patches: _Words = np.zeros(2 * PATCHES, np.uint64)
        self._slots: _Words = np.full((4, 2 * SLOTS), _NONE, np.uint64)
        self._pairs = level.pairs
        owners, entries, tags, followers = (row.ctypes.data for row in self._slots)
        context.set_cells(
            {
                Cell.FULL: 1,
                Cell.LOG: self.log.ctypes.data,
                Cell.SAVED: self._saved.ctypes.data,
                Cell.EPOCH: 1,
                Cell.PATCHES: self._patches.ctypes.data,
                Cell.SPLIT: level.split,
                Cell.UNBOUNDED: level.unbounded,
                Cell.PAIRS: self._pairs.ctypes.data,
                Cell.OWNERS: owners,
                Cell.ENTRIES: entries,
                Cell.TAGS: tags,
                Cell.FOLLOWERS: followers,
                Cell.LOOK_UP: _kernels_access.on_look_up.address,
                Cell.FETCH: _kernels_access.on_fetch.address,
                Cell.PRIVILEGE: 0 if before_walks is None else before_walks.address,
            }
        )
        self.make_heads(tlb.capacity)
        call = ctypes.CFUNCTYPE(None, ctypes.c_uint64)
        self._note = call(_kernels_upkeep.note_uses.address)
        self._free = call(_kernels_upkeep.free_slots.address)

    def make_heads(self, entries: int) -> None:
        """Have room for so many entries of the modelled TLB, no slot of which is anybody's."""
        self._heads: _Words = np.full(entries, _NONE, np.uint64)
        self._context.cells[Cell.HEADS] = self._heads.ctypes.data

    def note_uses(self) -> None:
        """Bring the model's stamps up to date, for somebody who looks at them."""
        self._note(self._context.address)

    def free(self) -> None:
        """Free all slots: the engine's TLB has nothing then that the model does not see."""
        self._free(self._context.address)
