"""Counts by hooks: one of each block, one of each access. The slow twin of what the engine's own code can count."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc

from quire.cpu.soft import _kernels, _kernels_blocks
from quire.cpu.soft.blocks import BlockCounter
from quire.cpu.soft.counts import Counts
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.kernels import Callback
from quire.tlb import Tlb

__all__ = ["HookedCounts"]

_EPOCH, _STOP, _FULL = int(SoftState.EPOCH), int(SoftState.STOP), int(StopCode.BLOCKS_FULL)
_LAST_BLOCK, _LAST_SIZE = int(SoftState.LAST_BLOCK), int(SoftState.LAST_BLOCK_SIZE)


class HookedCounts(Counts):
    """Counts in `state` and in `tlb`; `code` reads code bytes as a fetch would see them.

    `before`: a hook of each block that comes before the one that counts, or None.
    """

    def __init__(
        self,
        engine: Engine,
        pointers: npt.NDArray[np.uint64],
        state: npt.NDArray[np.uint64],
        tlb: Tlb,
        code: Callable[[int, int], bytes],
        before: Callback | None,
    ) -> None:
        self._engine, self._tlb, self._code, self._before = engine, tlb, code, before
        self._scalars = memoryview(state)  # type: ignore[arg-type]
        self._blocks = BlockCounter(state)
        self._user = pointers.ctypes.data
        self._reverse: npt.NDArray[np.uint64] = np.zeros(int(state[SoftState.MEMORY_WORDS]) >> 9, np.uint64)
        pointers[Pointer.REVERSE] = self._reverse.ctypes.data
        pointers[Pointer.BLOCKS] = self._blocks.table.ctypes.data
        pointers[Pointer.LOG] = self._blocks.log.ctypes.data

    def add_hooks(self) -> None:
        """Have each block and each access call a hook."""
        if self._before is not None:
            self._engine.hook(uc.UC_HOOK_BLOCK, self._before.address, self._user)
        self._engine.hook(uc.UC_HOOK_BLOCK, _kernels_blocks.on_block.address, self._user)
        self._engine.hook(uc.UC_HOOK_MEM_READ, _kernels.on_memory.address, self._user)
        self._engine.hook(uc.UC_HOOK_MEM_WRITE, _kernels.on_memory.address, self._user)

    def end(self, rip: int, alone: bool) -> None:
        """Take off what the last block did not execute; empty the table of blocks if it wants that."""
        del alone  # a block of one instruction is a block
        scalars = self._scalars
        if scalars[_EPOCH]:
            self._blocks.drain()
        size, start = scalars[_LAST_SIZE], scalars[_LAST_BLOCK]
        if size and start <= rip < start + size:
            self._blocks.left_out(self._code(rip, start + size - rip))
        if scalars[_STOP] == _FULL:
            self._blocks.drain()

    def code_changes(self) -> None:
        """What was counted was the old code."""
        self._blocks.drain()

    def events(self) -> dict[str, int]:
        """Return instructions and misses; accesses are in the state array."""
        return {"instructions": self._blocks.total()} | self._tlb.misses()
