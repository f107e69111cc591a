"""Where a run of the soft Cpu is to end: in front of an instruction, or after so many of them.

Each is a hook of the engine. Code that was compiled before a hook came or went does not know of it: the owner drops it.
Counting costs a call an instruction while it lasts.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc

from quire.arch import WORD
from quire.cpu.soft import _kernels_start
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.state import SoftState

__all__ = ["Places"]

_LEFT, _LAST_COUNTED = int(SoftState.LEFT), int(SoftState.LAST_COUNTED)


class Places:
    """The places of one Cpu; `pointers` are what its hooks get, `changed` is called when a hook comes or goes."""

    def __init__(
        self,
        engine: Engine,
        scalars: "memoryview[int]",
        pointers: npt.NDArray[np.uint64],
        changed: Callable[[], None],
    ) -> None:
        self._engine, self._scalars, self._changed = engine, scalars, changed
        self._user = pointers.ctypes.data
        self._hooks: list[int] = []
        self._goal = 0  # of instructions: those executed and those that are left
        self.counting = False  #: whether instructions are counted one by one

    def at(self, gva: int) -> None:
        """Stop in front of the instruction at `gva`."""
        self._hook(_kernels_start.on_address.address, gva, gva)

    def after(self, instructions: int) -> None:
        """Stop when so many have been executed since this was first asked."""
        executed = self._goal - self.left
        self._goal = max(instructions, executed)
        self._scalars[_LEFT], self._scalars[_LAST_COUNTED] = self._goal - executed, WORD
        if not self.counting:
            self.counting = True
            self._hook(_kernels_start.on_instruction.address, 1, 0)

    @property
    def left(self) -> int:
        """How many instructions are left of :meth:`after`."""
        left = self._scalars[_LEFT]
        return left - (left >> 63 << 64)

    def forget(self) -> None:
        """Stop nowhere."""
        for hook in self._hooks:
            self._engine.unhook(hook)
        self._hooks.clear()
        self.counting = False
        self._changed()

    def take_back(self, rip: int) -> None:
        """After a run that left `rip`: an instruction that was counted and is still next has not been executed."""
        if self._scalars[_LAST_COUNTED] == rip:
            self._scalars[_LEFT] = self._scalars[_LEFT] + 1 & WORD
        self._scalars[_LAST_COUNTED] = WORD

    def _hook(self, callback: int | None, begin: int, end: int) -> None:
        hook = self._engine.hook(uc.UC_HOOK_CODE, callback, self._user, begin=begin, end=end)
        self._hooks.append(hook)
        self._changed()
