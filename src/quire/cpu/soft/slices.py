"""Slices of a run, of so many blocks: counted by the engine's own code where it can be added to, else by a hook.

Blocks count from the first slice on: who never asks for one pays nothing.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc

from quire.cpu.soft import _kernels_start
from quire.cpu.soft.counts import Counts
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.state import SoftState

__all__ = ["Slices"]


class Slices:
    """Of the Cpu whose hooks get `pointers`, and whose scalars are `state`."""

    def __init__(
        self, engine: Engine, counts: Counts, state: "memoryview[int]", pointers: npt.NDArray[np.uint64]
    ) -> None:
        self._engine, self._counts, self._state, self._pointers = engine, counts, state, pointers
        self._left: tuple[memoryview[int], int] | None = None  # where the blocks that are left stand

    @property
    def over(self) -> bool:
        """Whether all blocks of the slice have run."""
        return self._left is not None and not self._left[0][self._left[1]]

    def begin(self, blocks: int, forget_code: Callable[[], None]) -> None:
        """Have the run end after so many blocks; what is compiled already when they first count is to be forgotten."""
        if self._left is None:
            self.start()
            forget_code()
        assert self._left is not None
        cells, at = self._left
        cells[at] = blocks

    def start(self) -> None:
        """Have blocks count that are compiled from now on."""
        self._left = self._counts.slice_cell()
        if self._left is None:
            self._left = self._state, int(SoftState.SLICE)
            block = _kernels_start.on_block_of_slice.address
            self._engine.hook(uc.UC_HOOK_BLOCK, block, self._pointers.ctypes.data)
