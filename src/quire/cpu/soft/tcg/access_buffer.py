"""All accesses of one engine and the blocks that they are in, handed over whenever the engine stops."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quire.cpu.recording import RECORDED, EntryKind
from quire.cpu.soft.tcg import _kernels_recording
from quire.cpu.soft.tcg.cells import ENTRY_KIND, ENTRY_PLACE, ENTRY_SIZE, Cell, Near, Record
from quire.cpu.soft.tcg.context import Context

__all__ = ["AccessBuffer"]

#: Entries of two words: what fits before the buffer is emptied, and what one block may add to that.
_ENTRIES, _MOST_OF_A_BLOCK = 1 << 17, 1 << 16
_ENTRY, _LOST = Near.ENTRY // 8, Near.LOST // 8


class AccessBuffer:
    """The buffer of the engine of `context`; `into` gets the entries since, in the order of the guest, as RECORDED."""

    def __init__(self, context: Context, into: Callable[[npt.NDArray[np.void]], None]) -> None:
        self._context, self._into = context, into
        self._near = context.near
        self._words: npt.NDArray[np.uint64] = np.zeros((_ENTRIES, 2), np.uint64)
        self._begin = self._words.ctypes.data
        self._near[_ENTRY] = self._begin
        context.set_cells(
            {
                Cell.RECORDING: 1,
                Cell.ENTRIES_LIMIT: self._begin + 16 * (_ENTRIES - _MOST_OF_A_BLOCK),
                Cell.ENTRIES_END: self._begin + 16 * _ENTRIES,
                Cell.SOON_FULL: _kernels_recording.on_soon_full.address,
            }
        )

    def drain(self) -> None:
        """Hand over what was entered since. The engine does not run."""
        count = (self._near[_ENTRY] - self._begin) // 16
        assert not self._near[_LOST], "a block has made more accesses than the buffer keeps room for"
        if count:
            self._near[_ENTRY] = self._begin
            self._into(self._decoded(self._words[:count]))

    def _decoded(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
        """Return entries as RECORDED."""
        linear, what = words[:, 0], words[:, 1]
        made: npt.NDArray[np.void] = np.empty(len(words), RECORDED)
        kind = what >> np.uint64(ENTRY_KIND) & np.uint64(3)
        place = what & np.uint64((1 << ENTRY_PLACE) - 1)
        made["kind"], made["linear"] = kind, linear
        made["size"] = np.uint64(1) << (what >> np.uint64(ENTRY_SIZE) & np.uint64(3))
        # A place has 48 bits, the top one its sign; a block's is its address, and the entry has its number instead.
        made["place"] = (place.view(np.int64) << 16 >> 16).view(np.uint64)
        blocks = kind == EntryKind.BLOCK
        records = self._context.records[place[blocks].astype(np.int64)]
        made["place"][blocks] = linear[blocks]
        made["size"][blocks] = records[:, Record.SIZE]
        made["instructions"] = 0
        made["instructions"][blocks] = records[:, Record.INSTRUCTIONS]
        return made
