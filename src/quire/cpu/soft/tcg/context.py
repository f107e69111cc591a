"""The context of one engine: its cells, the records of its blocks, and its place in the table of contexts."""

import ctypes
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import WORD
from quire.cpu.soft.tcg import interposition
from quire.cpu.soft.tcg.cells import BLOCKS, STARTS, Cell, Near, Record
from quire.cpu.soft.tcg.library import Library
from quire.cpu.soft.tcg.offsets import Offset

__all__ = ["Context", "Stoppable", "repair"]

_Words = npt.NDArray[np.uint64]


class Stoppable(Protocol):
    """An engine that can be asked to stop at its next block."""

    handle: ctypes.c_void_p

    def stop_cells(self) -> tuple[int, int, int]:
        """Return the addresses of the three cells by which it is asked, in the order in which they are set."""
        ...


def state_of(engine: Stoppable) -> int:
    """Return where the CPU state of `engine` is."""
    cpu = ctypes.c_uint64.from_address((engine.handle.value or 0) + Offset.UC_CPU).value
    return ctypes.c_uint64.from_address(cpu + Offset.CPU_ENV).value


def repair_cells() -> dict[Cell, int]:
    """Return the cells by which the generator finds who stands for a helper that the library computes wrongly."""
    table = interposition.table_of_repairs()
    if table is None:
        return {}
    rows = table.rows.ctypes.data
    return {Cell.REPAIRS: rows, Cell.PROTOTYPE: table.prototype, Cell.RESOLVE: table.resolver}


def repair(engine: Stoppable) -> Callable[[], object]:
    """Have `engine`, which has no context, compute right what its library computes wrongly, if that is a known one.

    Call the result before the engine is freed: another may get its memory at once.
    """
    cells = repair_cells()
    if cells:
        words: _Words = np.zeros(Cell.CELLS, np.uint64)
        for cell, value in cells.items():
            words[cell] = value
        env = state_of(engine)
        if interposition.register(env, words.ctypes.data):
            return weakref.finalize(engine, _unregister, env, words)
    return lambda: None


def _unregister(env: int, words: _Words) -> None:
    """Take a context away whose `words` were kept until now."""
    interposition.unregister(env, words.ctypes.data)


class Context:
    """Of an engine whose hooks get the pointer array at `user`, with the CPU state `env` and cells at `near`.

    Use :meth:`make`. Whoever has it keeps it as long as the engine has compiled code; it may be kept longer.
    """

    def __init__(self, library: Library, engine: Stoppable, user: int, env: int, near: int) -> None:
        self.library = library
        self.cells: _Words = np.zeros(Cell.CELLS, np.uint64)
        self.address: int = self.cells.ctypes.data
        self.records: _Words = np.zeros((BLOCKS, Record.WORDS), np.uint64)
        self.starts: npt.NDArray[np.uint16] = np.zeros(STARTS, np.uint16)
        words: _Words = np.ctypeslib.as_array((ctypes.c_uint64 * (Near.END // 8)).from_address(near))
        self.near = memoryview(words[: Near.STAMPS // 8]).cast("B").cast("Q")  # type: ignore[arg-type]
        self.counts: _Words = words[Near.COUNTS // 8 :]
        asks = dict(zip((Cell.RETURNS, Cell.LEAVE, Cell.LOOKED_AT), engine.stop_cells(), strict=True))
        self.set_cells(
            asks
            | {
                Cell.USER: user,
                Cell.ENV: env,
                Cell.NEAR: near,
                Cell.NEAR_OFFSET: near - env & WORD,
                Cell.RECORDS: self.records.ctypes.data,
                Cell.STARTS: self.starts.ctypes.data,
                Cell.CHECK: library.address("helper_check_exit_request_x86_64"),
                Cell.PURE_ALL: library.address("helper_cc_compute_all_x86_64"),
                Cell.PURE_CARRY: library.address("helper_cc_compute_c_x86_64"),
                Cell.PURE_NEXT: library.address("helper_lookup_tb_ptr_x86_64"),
                Cell.COUNTS: 1,
            }
            | repair_cells()
        )
        # Another engine may get the memory of this one as soon as it is gone, whoever keeps the context.
        self._close = weakref.finalize(engine, interposition.unregister, env, self.address)
        weakref.finalize(self, interposition.unmap, near, Near.END)

    @classmethod
    def make(cls, engine: Stoppable, user: int, *, full: bool) -> "Context | None":
        """Return the context of an engine that has not run; None where its library, or memory, does not allow one.

        `full`: accesses too are the functions' that stand in the library's tables.
        """
        library = interposition.library_with_contexts()
        if library is None or (full and not interposition.turn_accesses()):
            return None
        env = state_of(engine)
        near = interposition.map_near(env, Near.END)
        if not near:
            return None
        made = cls(library, engine, user, env, near)
        return made if interposition.register(env, made.address) else None

    def set_cells(self, values: dict[Cell, int]) -> None:
        """Set cells."""
        for cell, value in values.items():
            self.cells[cell] = value

    def close(self) -> None:
        """The engine is about to be freed; idempotent. What was counted stays."""
        self._close()
