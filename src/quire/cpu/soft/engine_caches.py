"""What one engine keeps of its guest, translations and compiled code, and what of it goes before the engine runs again.

A page and the code of a frame can be dropped alone where the engine's library is known; elsewhere everything goes.
"""

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SHIFT, WORD
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.fill_budget import FillBudget
from quire.cpu.soft.frame_cells import (
    CODE,
    EPOCH_SHIFT,
    EPOCHS,
    GIVEN_PAGES,
    INBOX_FRAMES,
    LARGE_BITS,
    PAGE,
    SEVERAL,
    SIGN,
    FrameCell,
)
from quire.cpu.soft.shared_frames import SharedFrames

__all__ = ["EngineCaches"]

#: Pages and frames that are dropped one by one: many are more work than to fill the TLB, or to compile, again.
_MOST_PAGES, _MOST_FRAMES = 32, 64
_RUNS, _STORES, _EPOCH = int(FrameCell.RUNS), int(FrameCell.STORES), int(FrameCell.EPOCH)
_FETCHED, _ALIASED, _GIVEN = int(FrameCell.FETCHED), int(FrameCell.ALIASED), int(FrameCell.GIVEN)
_LARGE, _HUGE = int(FrameCell.LARGE), int(FrameCell.LARGE) + LARGE_BITS // 64
_LARGE_SHIFT, _HUGE_SHIFT = 21, 30


class EngineCaches:
    """Of `engine`, whose guest has a memory of `frames` frames; `budget` hears of each flush of the whole TLB."""

    def __init__(self, engine: Engine, frames: int, budget: FillBudget) -> None:
        self._engine, self._budget = engine, budget
        self._runs: npt.NDArray[np.uint64] = np.zeros(frames, np.uint64)
        self._stores: npt.NDArray[np.uint64] = np.zeros(frames, np.uint64)
        self.cells: npt.NDArray[np.uint64] = np.zeros(FrameCell.CELLS, np.uint64)
        self.cells[_RUNS], self.cells[_STORES] = self._runs.ctypes.data, self._stores.ctypes.data
        for cell, address in zip(
            (FrameCell.CPU, FrameCell.ENGINE, FrameCell.DROP_PAGE, FrameCell.DROP_CODE),
            engine.droppers(),
            strict=False,
        ):
            self.cells[cell] = address
        self._one_by_one = bool(self.cells[FrameCell.CPU])
        self._words, self._run_words = memoryview(self.cells), memoryview(self._runs)  # type: ignore[arg-type]
        self._inbox: memoryview[int] | None = None
        self._begun: int | None = None  # of the instruction that ran alone last, if it is still next
        self._pages: list[int] = []
        self._frames: list[int] = []
        self._whole_tlb = self._whole_code = False

    def share(self, number: int, frames: SharedFrames) -> None:
        """Have the same memory as other engines of the machine, of which this is the engine `number`."""
        self._shared = frames  # whose arrays compiled code has the addresses of
        self._inbox = memoryview(frames.inboxes[number])
        self.cells[FrameCell.SHARED], self.cells[FrameCell.NUMBER] = 1, number
        self.cells[FrameCell.RUNNERS] = frames.runners.ctypes.data
        self.cells[FrameCell.WRITERS] = frames.writers.ctypes.data
        self.cells[FrameCell.INBOXES] = frames.inboxes.ctypes.data
        self.forget_everything()

    def forget_translations(self) -> None:
        """Drop every translation."""
        self._whole_tlb = True

    def forget_page(self, gva: int) -> None:
        """Drop the translations of the page at `gva`, of whatever size, as INVLPG does."""
        if not self._one_by_one or self._whole_tlb or len(self._pages) == _MOST_PAGES or self._is_large(gva):
            self._whole_tlb = True
        else:
            self._pages.append(gva)

    def forget_code(self) -> None:
        """Drop all compiled code."""
        self._whole_code = True

    def forget_everything(self) -> None:
        """Drop all compiled code and every translation."""
        self._whole_code = self._whole_tlb = True

    def forget_bytes(self, hpa: int, length: int) -> bool:
        """Bytes of host memory change: drop code compiled from their frames. Return whether there may be any."""
        first, last = hpa >> PAGE_SHIFT, (hpa + length - 1) >> PAGE_SHIFT
        # One frame is what a page fault changes: a scalar costs a tenth of an array operation.
        if first == last:
            found = [first] if self._run_words[first] & CODE else []
        else:
            found = (np.flatnonzero(self._runs[first : last + 1] & np.uint64(CODE)) + first).tolist()
        if found:
            if not self._one_by_one or len(self._frames) + len(found) > _MOST_FRAMES:
                self._whole_code = True
            else:
                self._frames += found
        return bool(found)

    def begin_alone(self, rip: int) -> int:
        """The instruction at `rip` is to run alone, though it may be in the midst of a compiled block.

        Return how many instructions the engine is to count: one that changes its own block is begun twice.
        """
        if self._one_by_one:
            self._pages.append(rip)  # so that its fetch is seen, which drops the block
            return 1
        self._whole_code = True
        again, self._begun = rip == self._begun, rip
        return 2 if again else 1

    def end_alone(self, rip: int, table: int) -> None:
        """An instruction ran alone, up to `rip`: its code is of no use; what it touched may be there under an alias.

        `table`: linear page + 1 that it was let reach with a supervisor's rights, 0 for none.
        """
        if rip != self._begun:
            self._begun = None
        words, given = self._words, self._words[_GIVEN]
        if not self._one_by_one or words[_ALIASED] or given > GIVEN_PAGES:
            self.forget_everything()
        else:
            self._pages += words[_GIVEN + 1 : _GIVEN + 1 + given].tolist()
            if table:
                self._pages.append(table - 1 << PAGE_SHIFT)
            if words[_FETCHED]:
                self._frames.append(words[_FETCHED] - 1)
        words[_FETCHED] = words[_ALIASED] = words[_GIVEN] = 0

    def settle(self) -> None:
        """Drop what is to go. The engine is about to run."""
        if self._inbox is not None and self._inbox[0]:
            self._read_inbox(self._inbox)
        if self._whole_code:
            self._engine.drop_code()
            self._whole_code = False
            self._frames.clear()
        elif self._frames:
            for frame in self._frames:
                self._engine.drop_code_of(frame << PAGE_SHIFT)
            self._frames.clear()
        if self._whole_tlb:
            self._flush()
        elif self._pages:
            for page in self._pages:
                self._engine.drop_page(page)
            self._pages.clear()

    def _read_inbox(self, inbox: memoryview) -> None:
        """Drop what other engines left here, about frames that they store to, or have code of, by now."""
        count, inbox[0] = inbox[0], 0
        if count > INBOX_FRAMES:
            self.forget_everything()
            return
        epoch = self._words[_EPOCH]
        for frame in set(inbox[1 : 1 + count].tolist()):
            for words in (self._runs, self._stores):
                word = int(words[frame])
                if word & CODE:
                    self._frames.append(frame)
                if word & PAGE and word >> EPOCH_SHIFT & EPOCHS - 1 == epoch:
                    self._whole_tlb |= bool(word & SEVERAL)
                    address = (word & PAGE) - 1 << PAGE_SHIFT
                    self._pages.append((address ^ SIGN) - SIGN & WORD)
                words[frame] = 0

    def _is_large(self, gva: int) -> bool:
        """Whether the TLB may have parts of a page beyond 4 KiB that `gva` is in."""
        words = self._words
        large, huge = (gva >> shift & LARGE_BITS - 1 for shift in (_LARGE_SHIFT, _HUGE_SHIFT))
        return bool(
            words[_LARGE + (large >> 6)] >> (large & 63) & 1 or words[_HUGE + (huge >> 6)] >> (huge & 63) & 1
        )

    def _flush(self) -> None:
        """Drop every translation now."""
        self._engine.flush_tlb()
        self._whole_tlb = False
        self._pages.clear()
        self._words[_EPOCH] = epoch = (self._words[_EPOCH] + 1) % EPOCHS
        if not epoch:  # words of an epoch so named before must not be taken for those of this one
            self._runs &= np.uint64(CODE)
            self._stores.fill(0)
        self.cells[_LARGE:].fill(0)
        self._budget.renew()
