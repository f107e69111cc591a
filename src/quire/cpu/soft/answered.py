"""Fills answered by Python: a translation hook before the compiled one, which takes the result as that of a walk.

What decides is a :class:`FillSource`, of the hypervisor. Nothing is said to the engine here: the compiled hook gives
the page, counts, and minds aliases, as it does for its own walks. An exception cannot cross the engine; it is kept, and
raised when the engine has stopped.
"""

import ctypes
from typing import Protocol

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc

from quire.arch import Access
from quire.cpu.detail import Detail
from quire.cpu.soft.state import SoftState, StopCode
from quire.paging import Result

__all__ = ["AnsweredFills", "FillSource"]

_ACCESSES = {uc.UC_MEM_READ: Access.READ, uc.UC_MEM_WRITE: Access.WRITE, uc.UC_MEM_FETCH: Access.FETCH}
_STOP, _HELD = int(SoftState.STOP), int(StopCode.HELD)


class FillSource(Protocol):
    """Who knows what the guest gets for a linear page; the walk's context says at which privilege."""

    def answer(self, gva: int, access: Access, result: npt.NDArray[np.uint64]) -> bool:
        """Fill `result` as a walk of the page at `gva` would; False holds the instruction back instead."""
        ...

    def held(self, gva: int, rip: int) -> bool:
        """The instruction at `rip` was held back at `gva`; return whether it is to run alone when it goes on."""
        ...

    def passed(self) -> None:
        """An instruction that ran alone has passed, or will not."""
        ...


class AnsweredFills:
    """The hook for `source`; :attr:`address` is what the engine calls."""

    def __init__(
        self, source: FillSource, state: npt.NDArray[np.uint64], result: npt.NDArray[np.uint64]
    ) -> None:
        self.source = source
        self._state, self._result = state, result
        self._error: BaseException | None = None
        words = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._hook = ctypes.CFUNCTYPE(ctypes.c_bool, *words)(self._on_fill)
        self.address = ctypes.cast(self._hook, ctypes.c_void_p).value or 0
        self._counts = state[SoftState.DETAIL] == Detail.EXITS
        state[SoftState.ANSWERED] = 1

    def _count(self) -> None:
        """Count a walk as the compiled hook counts its own; in full detail those of the modelled TLB count."""
        state, result = self._state, self._result
        state[SoftState.WALKS] += np.uint64(1)
        state[SoftState.GUEST_REFERENCES] += result[Result.GUEST_REFERENCES]
        state[SoftState.HOST_REFERENCES] += result[Result.HOST_REFERENCES]
        state[SoftState.FAULTED_WALKS] += np.uint64(result[Result.STATUS] != 0)

    def raise_kept(self) -> None:
        """Raise what an answer raised, if it did."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _on_fill(self, _handle: int, gva: int, kind: int, _entry: int, _user: int) -> bool:
        if self._state[_STOP]:
            return False  # the run is to end; the result holds what it ended for
        try:
            if not self.source.answer(gva, _ACCESSES[kind], self._result):
                self._state[_STOP] = _HELD
            elif self._counts and self._result[Result.GUEST_REFERENCES]:
                self._count()
        except BaseException as error:  # an interruption by the user too
            self._error = error
            self._state[_STOP] = _HELD
        return False
