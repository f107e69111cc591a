"""After how many fills the engine's own TLB is flushed: so that it may grow, or so that nothing stays for long.

The engine doubles its TLB at a flush that finds it over 70 % full and shrinks it below 30 %; it tells nobody its size,
so the size is followed here, roughly: only when to ask depends on it.
"""

import random

from quire.arch import WORD
from quire.cpu.soft.state import SoftState
from quire.tlb import Tlb

__all__ = ["FillBudget"]

_LEFT = int(SoftState.FILLS_LEFT)
_WITHOUT_END = WORD
#: Entries that the engine's TLB begins with, at most asked for, and fills for each before more are asked for.
_LEAST_ENTRIES, _MOST_ENTRIES, _FILLS_PER_ENTRY = 1 << 8, 1 << 19, 4
_MOST_FILLS = 32  # between two evictions: few, but more than one instruction needs


class FillBudget:
    """Keeps FILLS_LEFT in `scalars`. With `evictions`, at each renewal half of `tlb` goes too, by lot.

    :attr:`stuck`: the last flush kept an instruction from passing, so that it needs more fills than it had.
    """

    def __init__(self, scalars: memoryview, tlb: Tlb, evictions: random.Random | None) -> None:
        self.stuck = self._lifted = False
        self._scalars, self._tlb, self._evictions = scalars, tlb, evictions
        self._entries = _LEAST_ENTRIES
        self._allowed = _FILLS_PER_ENTRY * _LEAST_ENTRIES
        scalars[_LEFT] = self._allowed
        if evictions is not None:
            self._evict(evictions)

    def lift(self) -> None:
        """Let any number of fills pass: how large the engine's TLB is does not matter."""
        self._lifted = True
        self._scalars[_LEFT] = _WITHOUT_END

    def renew(self) -> None:
        """The engine's TLB has been flushed: say when the next flush is due."""
        if self._lifted:
            self._scalars[_LEFT] = _WITHOUT_END
            return
        if self._evictions is not None:
            self._evict(self._evictions)
            return
        filled = self._allowed - self._scalars[_LEFT]
        if filled > 2 * self._entries:
            self._entries = min(2 * self._entries, _MOST_ENTRIES)
        elif filled < self._entries // 4:
            self._entries = max(self._entries // 2, _LEAST_ENTRIES)
        grown = self._entries == _MOST_ENTRIES
        self._allowed = _WITHOUT_END if grown else _FILLS_PER_ENTRY * self._entries
        self._scalars[_LEFT] = self._allowed

    def _evict(self, choose: random.Random) -> None:
        self._tlb.evict(lambda: choose.random() < 0.5)
        least = _MOST_FILLS if self.stuck else 1
        self.stuck = False
        self._scalars[_LEFT] = choose.randint(least, _MOST_FILLS)
