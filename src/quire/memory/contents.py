"""What free frames contain: holes and poison, so that a write after free is found and zeroed memory is really
zero.

Models: for each frame one `Content`. Freed small blocks are filled with 0x5A, freed large blocks (2 MiB and
more) are given back to the kernel; either way the next allocation proves that nobody wrote in between. Does
not model: reads after free (they find 0x5A5A5A5A5A5A5A5A, no canonical address and no valid table entry, or
zero, not present). Fails: a frame written while free raises UseAfterFree; BackendError when the kernel
refuses to discard what is to be given out as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from types import SimpleNamespace
from typing import Final

import numpy as np
import numpy.typing as npt

from quire.errors import BackendError, InternalError
from quire.memory.blocks import BuddyBlocks
from quire.memory.host import FRAME_SHIFT, FRAME_SIZE, WORDS_PER_FRAME, HostMemory
from quire.memory.layout import ALLOCATED_BYTE, FREED_BYTE, Content, Handling

LARGE_ORDER: Final = 9  # 2 MiB: from here on memory is discarded instead of filled

_FREED_WORD: Final = int.from_bytes(bytes([FREED_BYTE]) * 8, "little")
_ALLOCATED_WORD: Final = int.from_bytes(bytes([ALLOCATED_BYTE]) * 8, "little")
_COMPARE_FRAMES: Final = 512  # compare 2 MiB at a time: bounded temporary memory


_NUMBERS: Final = SimpleNamespace(words=np.empty(0, np.uint64))


class Fill(Enum):
    """What a new block contains: POISON (0xA5, to catch dangling references) or ZERO."""

    POISON = "poison"
    ZERO = "zero"


_FRESH, _POISONED, _DISCARDED = int(Content.FRESH), int(Content.POISONED), int(Content.DISCARDED)
_STALE, _LIVE = int(Content.STALE), int(Content.LIVE)


class UseAfterFree(InternalError):
    """A frame changed while it was free.

    Data: ``hfn``, ``offset`` of the first wrong 8-byte word (bytes), its ``value``, the value ``expected``.
    """

    def __init__(self, hfn: int, offset: int, value: int, expected: int) -> None:
        super().__init__(
            f"frame {hfn:#x} was written while it was free: the word at offset {offset:#x} is {value:#x}, "
            f"not {expected:#x}; look for a mapping or a view of the frame that outlived its free()."
        )
        self.hfn, self.offset, self.value, self.expected = hfn, offset, value, expected

    def __reduce__(self) -> tuple[type[UseAfterFree], tuple[int, int, int, int]]:
        return UseAfterFree, (self.hfn, self.offset, self.value, self.expected)  # crosses to worker processes


class Contents:
    """The contents of the frames of one pool; frame ``index`` is host frame ``base_hfn + index``.

    Without ``host`` only the states are kept. Without ``poison`` nothing is filled on free or by Fill.POISON
    (which then leaves what was there), and only holes are verified; Fill.ZERO is always exact. Frames whose
    state and contents are as expected are the kernels' affair: `backing` and the ways are for them.
    """

    def __init__(self, host: HostMemory | None, blocks: BuddyBlocks, base_hfn: int, poison: bool) -> None:
        self.states = blocks.states
        self._states = self.states.data
        self._blocks = blocks
        self._host = host
        self._base_hfn = base_hfn
        self._poison = poison
        #: what has the words of host memory as kernels take them: none without a host, none when it is closed
        self.backing: HostMemory | SimpleNamespace = _NUMBERS if host is None else host
        #: what kernels do with a frame that is given out with Fill.ZERO, with Fill.POISON, and that becomes free
        self.way_zero = int(Handling.NUMBERS if host is None else Handling.ZERO)
        self.way_poison = int(
            Handling.NUMBERS if host is None else Handling.POISON if poison else Handling.LEAVE
        )

    def prepare(self, index: int, order: int, fill: Fill) -> None:
        """Verify that the free block was not written, fill it as ``fill`` says, mark it LIVE.

        UseAfterFree or BackendError leave the block as free as before.
        """
        host = self._host
        if host is not None:
            self._verify(host, index, 1 << order)
            self._fill(host, index, order, fill)
        self._mark(index, order, _LIVE)

    def retire(self, index: int, order: int) -> None:
        """Poison or discard a block that becomes free.

        A large block that the kernel refuses to discard keeps what it contains, known as STALE: who frees it has
        let go of it already.
        """
        host = self._host
        state = _STALE
        if host is not None:
            hfn = self._base_hfn + index
            if order >= LARGE_ORDER:
                with suppress(BackendError):
                    host.discard(hfn, 1 << order)
                    state = _DISCARDED
            elif self._poison:
                host.fill(hfn, 1 << order, FREED_BYTE)
                state = _POISONED
        self._mark(index, order, state)

    def prepare_many(
        self,
        starts: npt.NDArray[np.int64],
        order: int,
        fill: Fill,
    ) -> None:
        """Do what ``prepare`` does for all blocks at ``starts``, or for none.

        UseAfterFree or BackendError leave all blocks as free as before.
        """
        host, frames = self._host, _frames(starts, order)
        if host is not None:
            host.read(0, 0)  # says so when the memory is closed: kernels take no notice
            self._verify_many(host, frames)
            if order >= LARGE_ORDER:
                for index in starts.tolist():
                    self._fill(host, index, order, fill)
            elif fill is Fill.ZERO:
                states = self.states[frames]
                self._write(host, frames[(states == _POISONED) | (states == _STALE)], 0)
            elif self._poison:
                self._write(host, frames, _ALLOCATED_WORD)
        self.states[frames] = _LIVE

    def retire_many(self, starts: npt.NDArray[np.int64], order: int) -> None:
        """Do what ``retire`` does for all blocks at ``starts``."""
        host, frames, state = self._host, _frames(starts, order), _STALE
        if host is not None and order >= LARGE_ORDER:
            for index in starts.tolist():
                self.retire(index, order)
            return
        if host is not None and self._poison:
            host.read(0, 0)  # says so when the memory is closed
            self._write(host, frames, _FREED_WORD)
            state = _POISONED
        self.states[frames] = state

    def was_allocated(self, index: int) -> bool:
        """True when the frame is allocated or ever was."""
        return self._states[index] != _FRESH

    # Filling a large block would make up to 1 GiB of a sparse host resident, so POISON leaves it zero: a
    # table or a pointer read from it is "not present" or null, which is caught nearly as well, and costs
    # nothing.
    def _fill(self, host: HostMemory, index: int, order: int, fill: Fill) -> None:
        hfn, count = self._base_hfn + index, 1 << order
        if fill is Fill.POISON and not self._poison:
            return
        if order < LARGE_ORDER and fill is Fill.POISON:
            host.fill(hfn, count, ALLOCATED_BYTE)
            return
        filled = [
            (at, length) for at, length, state in self._runs(index, count) if state in (_POISONED, _STALE)
        ]
        if filled and order >= LARGE_ORDER:
            host.discard(hfn, count)
            self._mark(index, order, _DISCARDED)
            return
        for at, length in filled:
            host.fill(self._base_hfn + at, length, 0)

    # Prove that free frames contain what their state says: poison word by word, holes by asking the kernel.
    def _verify(self, host: HostMemory, index: int, count: int) -> None:
        for at, length, state in self._runs(index, count):
            if state == _POISONED:
                self._verify_poison(host, self._base_hfn + at, length)
            elif state in (_FRESH, _DISCARDED):
                _verify_hole(host, self._base_hfn + at, length)

    # The same for frames here and there, in the order of their numbers: each run of holes is asked for at once.
    def _verify_many(
        self,
        host: HostMemory,
        frames: npt.NDArray[np.int64],
    ) -> None:
        ordered = np.sort(frames)
        states = self.states[ordered]
        holes = ordered[(states == _FRESH) | (states == _DISCARDED)]
        cuts = (np.flatnonzero(np.diff(holes) != 1) + 1).tolist()
        for start, stop in zip([0, *cuts], [*cuts, holes.size], strict=True):
            _verify_hole(host, self._base_hfn + int(holes[start]) if holes.size else 0, stop - start)
        poisoned = ordered[states == _POISONED]
        written = self._blocks.batches.first_written(self._blocks.records, host.words, poisoned)
        if written >= 0:
            self._verify_poison(host, self._base_hfn + int(poisoned[written]), 1)

    def _write(self, host: HostMemory, frames: npt.NDArray[np.int64], word: int) -> None:
        self._blocks.batches.fill_frames(self._blocks.records, host.words, frames, np.uint64(word))

    def _verify_poison(self, host: HostMemory, hfn: int, count: int) -> None:
        for start in range(hfn, hfn + count, _COMPARE_FRAMES):
            stop = min(start + _COMPARE_FRAMES, hfn + count)
            words = host.words[start * WORDS_PER_FRAME : stop * WORDS_PER_FRAME]
            wrong = np.flatnonzero(words != np.uint64(_FREED_WORD))
            if wrong.size:
                hpa = (start << FRAME_SHIFT) + int(wrong[0]) * 8
                raise UseAfterFree(hpa >> FRAME_SHIFT, hpa & (FRAME_SIZE - 1), host.load(hpa), _FREED_WORD)

    # (first index, length, state) of the stretches of equal state, lowest first; nearly always one.
    def _runs(self, index: int, count: int) -> Iterator[tuple[int, int, int]]:
        if count == 1:  # a page's first touch
            yield index, 1, self._states[index]
            return
        states = self.states[index : index + count]
        cuts = (np.flatnonzero(states[1:] != states[:-1]) + 1).tolist()
        for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
            yield index + start, stop - start, int(states[start])

    def _mark(self, index: int, order: int, state: int) -> None:
        self.states[index : index + (1 << order)] = state


def _verify_hole(host: HostMemory, hfn: int, count: int) -> None:
    if not host.is_hole(hfn, count):
        hpa = host.find_data(hfn, count)  # a page that was only read is zero: no harm
        if hpa is not None:
            raise UseAfterFree(hpa >> FRAME_SHIFT, hpa & (FRAME_SIZE - 1), host.load(hpa), 0)


# The indices of all frames of the blocks of ``order`` at ``starts``.
def _frames(starts: npt.NDArray[np.int64], order: int) -> npt.NDArray[np.int64]:
    if order == 0:
        return starts
    return (starts[:, np.newaxis] + np.arange(1 << order)).ravel()
