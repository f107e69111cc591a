"""What free frames contain: holes and poison, so that a write after free is found and zeroed memory is really
zero.

Models: for each frame one `Content`. Freed small blocks are filled with 0x5A, freed large blocks (2 MiB and
more) are given back to the kernel; either way the next allocation proves that nobody wrote in between. Does
not model: reads after free (they find 0x5A5A5A5A5A5A5A5A, no canonical address and no valid table entry, or
zero, not present). Fails: a frame written while free raises UseAfterFree; BackendError when the kernel
refuses to discard.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from quire.errors import InternalError
from quire.memory.host import FRAME_SHIFT, FRAME_SIZE, WORDS_PER_FRAME, HostMemory
from quire.memory.records import lazy_zeros

ALLOCATED_BYTE: Final = 0xA5
FREED_BYTE: Final = 0x5A
LARGE_ORDER: Final = 9  # 2 MiB: from here on memory is discarded instead of filled

_FREED_WORD: Final = int.from_bytes(bytes([FREED_BYTE]) * 8, "little")
_FREED_PAGE: Final = bytes([FREED_BYTE]) * FRAME_SIZE
_ALLOCATED_PAGE: Final = bytes([ALLOCATED_BYTE]) * FRAME_SIZE
_ZERO_PAGE: Final = bytes(FRAME_SIZE)
_COMPARE_FRAMES: Final = 512  # compare 2 MiB at a time: bounded temporary memory


class Fill(Enum):
    """What a new block contains: POISON (0xA5, to catch dangling references) or ZERO."""

    POISON = "poison"
    ZERO = "zero"


_ZERO: Final = Fill.ZERO


class Content(IntEnum):
    """What a frame contains as far as the pool knows. FRESH is 0: untouched records describe a new pool."""

    FRESH = 0  # never allocated: a hole
    POISONED = 1  # free, every byte 0x5A
    DISCARDED = 2  # free, a hole again
    STALE = 3  # free, whatever its last owner left (no memory, or poisoning switched off)
    LIVE = 4  # allocated


_FRESH, _POISONED, _DISCARDED, _STALE, _LIVE = (int(content) for content in Content)


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
    (which then leaves what was there), and only holes are verified; Fill.ZERO is always exact.
    """

    def __init__(self, host: HostMemory | None, base_hfn: int, frame_count: int, poison: bool) -> None:
        self.states: npt.NDArray[np.uint8] = lazy_zeros(frame_count, np.uint8)
        self._states = self.states.data
        self._host = host
        self._base_hfn = base_hfn
        self._poison = poison

    def prepare(self, index: int, order: int, fill: Fill) -> None:
        """Verify that the free block was not written, fill it as ``fill`` says, mark it LIVE.

        UseAfterFree or BackendError leave the block as free as before.
        """
        host = self._host
        if order == 0:
            if host is not None:
                self._prepare_frame(host, index, fill)
            self._states[index] = _LIVE
            return
        if host is not None:
            self._verify(host, index, 1 << order)
            self._fill(host, index, order, fill)
        self._mark(index, order, _LIVE)

    def retire(self, index: int, order: int) -> None:
        """Poison or discard a block that becomes free. BackendError when the kernel refuses to discard."""
        host = self._host
        state = _STALE
        if host is not None:
            hfn = self._base_hfn + index
            if order >= LARGE_ORDER:
                host.discard(hfn, 1 << order)
                state = _DISCARDED
            elif self._poison:
                if order == 0:
                    host.write(hfn << FRAME_SHIFT, _FREED_PAGE)
                else:
                    host.fill(hfn, 1 << order, FREED_BYTE)
                state = _POISONED
        self._mark(index, order, state)

    def was_allocated(self, index: int) -> bool:
        """True when the frame is allocated or ever was."""
        return self._states[index] != _FRESH

    # The page-fault path: one frame. Comparing bytes objects is a memcmp, far faster than an array; a hole
    # needs no zeroing and is not even touched.
    def _prepare_frame(self, host: HostMemory, index: int, fill: Fill) -> None:
        state, hfn = self._states[index], self._base_hfn + index
        if state == _POISONED:
            intact = host.read(hfn << FRAME_SHIFT, FRAME_SIZE) == _FREED_PAGE
        else:
            intact = state == _STALE or host.is_hole(hfn, 1)
        if not intact:
            self._verify(host, index, 1)
        if fill is _ZERO:
            if state in (_POISONED, _STALE):
                host.write(hfn << FRAME_SHIFT, _ZERO_PAGE)
        elif self._poison:
            host.write(hfn << FRAME_SHIFT, _ALLOCATED_PAGE)

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
            hfn = self._base_hfn + at
            if state == _POISONED:
                self._verify_poison(host, hfn, length)
            elif state in (_FRESH, _DISCARDED) and not host.is_hole(hfn, length):
                hpa = host.find_data(hfn, length)  # a page that was only read is zero: no harm
                if hpa is not None:
                    raise UseAfterFree(hpa >> FRAME_SHIFT, hpa & (FRAME_SIZE - 1), host.load(hpa), 0)

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
        states = self.states[index : index + count]
        cuts = (np.flatnonzero(states[1:] != states[:-1]) + 1).tolist()
        for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
            yield index + start, stop - start, int(states[start])

    def _mark(self, index: int, order: int, state: int) -> None:
        if order == 0:
            self._states[index] = state
        else:
            self.states[index : index + (1 << order)] = state
