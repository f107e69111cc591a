"""The context of one engine: the memory that its cells are and point to, and its place in the table of contexts."""

import ctypes
import weakref
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import WORD
from quire.cpu.soft.tcg import _kernels_access, interposition
from quire.cpu.soft.tcg.cells import (
    BLOCKS,
    LOG_BYTES,
    PATCHES,
    SIDE_SLOTS,
    SLOTS,
    Cell,
    Near,
    Record,
    Saved,
)
from quire.cpu.soft.tcg.first_level import FirstLevel
from quire.cpu.soft.tcg.library import Library
from quire.cpu.soft.tcg.offsets import Offset

__all__ = ["Context", "Stoppable"]

_NONE = WORD
_Words = npt.NDArray[np.uint64]


class Stoppable(Protocol):
    """An engine that can be asked to stop at its next block."""

    handle: ctypes.c_void_p

    def stop_cells(self) -> tuple[int, int, int]:
        """Return the addresses of the three cells by which it is asked, in the order in which they are set."""
        ...


class Context:
    """Of an engine whose hooks get the pointer array at `user`, with the CPU state `env` and cells at `near`.

    Use :meth:`make`. Whoever has it keeps it as long as the engine has compiled code.
    """

    def __init__(
        self, library: Library, engine: Stoppable, user: int, env: int, near: int, level: FirstLevel
    ) -> None:
        self.cells: _Words = np.zeros(Cell.CELLS, np.uint64)
        self.address: int = self.cells.ctypes.data
        self.records: _Words = np.zeros((BLOCKS, Record.WORDS), np.uint64)
        self.log: npt.NDArray[np.uint8] = np.zeros(LOG_BYTES, np.uint8)
        self._saved: _Words = np.zeros(SIDE_SLOTS * Saved.WORDS, np.uint64)
        self._patches: _Words = np.zeros(2 * PATCHES, np.uint64)
        self._slots: _Words = np.full((4, 2 * SLOTS), _NONE, np.uint64)
        self._pairs = level.pairs
        words: _Words = np.ctypeslib.as_array((ctypes.c_uint64 * (Near.END // 8)).from_address(near))
        self.near = memoryview(words[: Near.STAMPS // 8]).cast("B").cast("Q")  # type: ignore[arg-type]
        self.counts: _Words = words[Near.COUNTS // 8 :]
        owners, entries, tags, followers = (row.ctypes.data for row in self._slots)
        asks = dict(zip((Cell.RETURNS, Cell.LEAVE, Cell.LOOKED_AT), engine.stop_cells(), strict=True))
        values = asks | {
            Cell.USER: user,
            Cell.ENV: env,
            Cell.NEAR: near,
            Cell.NEAR_OFFSET: near - env & WORD,
            Cell.FULL: 1,
            Cell.RECORDS: self.records.ctypes.data,
            Cell.LOG: self.log.ctypes.data,
            Cell.SAVED: self._saved.ctypes.data,
            Cell.EPOCH: 1,
            Cell.PATCHES: self._patches.ctypes.data,
            Cell.SPLIT: level.split,
            Cell.PAIRS: self._pairs.ctypes.data,
            Cell.OWNERS: owners,
            Cell.ENTRIES: entries,
            Cell.TAGS: tags,
            Cell.FOLLOWERS: followers,
            Cell.LOOK_UP: _kernels_access.on_look_up.address,
            Cell.FETCH: _kernels_access.on_fetch.address,
            Cell.CHECK: library.address("helper_check_exit_request_x86_64"),
            Cell.PURE_ALL: library.address("helper_cc_compute_all_x86_64"),
            Cell.PURE_CARRY: library.address("helper_cc_compute_c_x86_64"),
            Cell.PURE_NEXT: library.address("helper_lookup_tb_ptr_x86_64"),
        }
        for cell, value in values.items():
            self.cells[cell] = value
        self._close = weakref.finalize(self, _give_back, env, near)

    @classmethod
    def make(cls, engine: Stoppable, user: int, level: FirstLevel) -> "Context | None":
        """Return the context of an engine that has not run; None where its library, or memory, does not allow one."""
        library = interposition.library_with_contexts()
        if library is None:
            return None
        cpu = ctypes.c_uint64.from_address((engine.handle.value or 0) + Offset.UC_CPU).value
        env = ctypes.c_uint64.from_address(cpu + Offset.CPU_ENV).value
        near = interposition.map_near(env, Near.END)
        if not near:
            return None
        made = cls(library, engine, user, env, near, level)
        return made if interposition.register(env, made.address) else None

    def make_heads(self, entries: int) -> None:
        """Have room for so many entries of the modelled TLB, no slot of which is anybody's."""
        self._heads: _Words = np.full(entries, _NONE, np.uint64)
        self.cells[Cell.HEADS] = self._heads.ctypes.data

    def close(self) -> None:
        """Give everything back; idempotent."""
        self._close()


def _give_back(env: int, near: int) -> None:
    interposition.unregister(env)
    interposition.unmap(near, Near.END)
