"""Who counts what a guest does, of the soft Cpu: by hooks, in the engine's own code, or not at all."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc

from quire.cpu.soft import _kernels_start
from quire.cpu.soft.engine import Engine
from quire.kernels import Callback

__all__ = ["NO_PRIVILEGE", "Counts", "PrivilegeTold", "Uncounted"]


class PrivilegeTold(NamedTuple):
    """What tells walks the privilege of an access: a hook of each block, and a function of the hooks' pointer array."""

    before_blocks: Callback | None
    before_walks: Callback | None


NO_PRIVILEGE = PrivilegeTold(None, None)


class Counts:
    """Counts of one Cpu, here of nothing. A run of the engine goes between :meth:`begin` and :meth:`end`."""

    #: Whether the engine looks for requests to stop at blocks and nowhere else; if not, a hook of each block does.
    stops_at_blocks = False
    #: Whether the engine's own TLB is to grow with what is used, by flushes after so many fills.
    limits_fills = True
    #: What has to be undone before the engine is freed.
    undo: Callable[[], object] | None = None

    @property
    def wants_room(self) -> bool:
        """Whether the owner is to drop compiled code, and to call :meth:`make_room` then."""
        return False

    def make_room(self) -> None:
        """Compiled code is gone."""

    def add_hooks(self) -> None:
        """Have the engine call what counts."""

    def slice_cell(self) -> tuple["memoryview[int]", int] | None:
        """Return a word that each block takes one off, for the run to end before one that finds none; None: use a hook.

        Called before the engine runs.
        """
        return None

    def record(self, into: Callable[[npt.NDArray[np.void]], None]) -> bool:
        """Have `into` called with all accesses, as RECORDED, whenever the engine stops; return whether that can be.

        Called before the engine runs.
        """
        del into
        return False

    def begin(self) -> None:
        """The engine is about to run."""

    def end(self, rip: int, alone: bool) -> None:
        """The engine has stopped at `rip`; `alone`: behind one instruction."""

    def code_changes(self) -> None:
        """Code that ran is about to be other code."""

    def tlb_moves(self) -> None:
        """The modelled TLB is about to get more room: entries will be elsewhere."""

    def tlb_moved(self) -> None:
        """The modelled TLB has more room."""

    def events(self) -> dict[str, int]:
        """Return what was counted beside what hooks of every detail count."""
        return {}

    def instructions(self) -> int:
        """Return how many instructions were executed, 0 where nobody counts them."""
        return self.events().get("instructions", 0)

    def close(self) -> None:
        """Give back what the counts took of this process."""
        if self.undo is not None:
            self.undo()


class Uncounted(Counts):
    """Of runs whose exits alone count."""

    def __init__(self, engine: Engine, user: int) -> None:
        self._engine, self._user = engine, user
        self.stops_at_blocks = engine.stops_at_blocks

    def add_hooks(self) -> None:
        """Have a hook look for requests to stop, where the engine does not do so at blocks."""
        if not self.stops_at_blocks:
            self._engine.hook(uc.UC_HOOK_BLOCK, _kernels_start.on_block.address, self._user)
