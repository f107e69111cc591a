"""What a guest gets of a page when kept mappings count: the fills of retain mode, and of checked runs in every mode.

A kept translation that allows the access is used, else the lowest kept table, else memory. A walk that begins with
something kept and ends in a fault is made anew from memory: no spurious #PF or exit is delivered, though a processor
might (SDM 3A §4.10.4.3). Accesses that Python makes for the guest are walks of memory; that is permitted too.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import Access
from quire.mmu.paged import PagedMmu
from quire.paging import Context, Status, WalkRecord, reference_walk
from quire.paging.overlay import Overlay
from quire.tlb import Operation
from quire.tlb.invalidation import Operand
from quire.tlb.retained import KeptHostPage, KeptHostTable, KeptPage, KeptTable, Retained, RetainedWalk

__all__ = ["KeptFills"]


Kept = KeptPage | KeptTable | KeptHostPage | KeptHostTable


class FillCheck(Protocol):
    """Who looks at fills and invalidations for stale mappings, and may hold an instruction back."""

    retained: Retained  #: what the vCPU may have kept

    @property
    def stale(self) -> object | None:
        """The stale mapping that the fill at hand met, None without one."""
        ...

    @property
    def step(self) -> int:
        """The number of the step at hand: of fills and of changes of tables."""
        ...

    def invalidated(self, operation: Operation, operand: Operand, dropped: list[Kept]) -> None:
        """`operation` took the `dropped` mappings."""
        ...

    def looks(self, gva: int, access: Access, record: WalkRecord | None, walk: RetainedWalk) -> None:
        """Find a stale mapping that this access may use."""
        ...

    def gives(self, record: WalkRecord, result: npt.NDArray[np.uint64]) -> bool:
        """The guest gets what `record` says; False holds the instruction back."""
        ...

    def held(self, gva: int, rip: int) -> bool:
        """Go on with what the instruction at `rip` was held back for; return whether it is to run alone."""
        ...

    def settle(self) -> None:
        """An instruction that ran alone has passed."""
        ...


class KeptFills:
    """Fills of the vCPU of `mmu`. `retain`: stale mappings are given; else the guest gets what its tables say.

    `check` hears of every fill and invalidation and may hold an instruction back. Implements the Cpu's FillSource.
    """

    def __init__(self, mmu: PagedMmu, *, retain: bool, check: FillCheck | None = None) -> None:
        self.retained = check.retained if check is not None else Retained()
        self.check = check
        self._mmu, self._retain = mmu, retain

    def observe(self, operation: Operation, operand: Operand) -> None:
        """Drop what `operation` drops, before anything else is translated."""
        dropped = self.retained.invalidate(operation, operand)
        if self.check is not None:
            self.check.invalidated(operation, operand, dropped)
        if any(isinstance(kept, KeptPage) for kept in dropped):  # the engine holds nothing else
            self._mmu.forget(None)

    def answer(self, gva: int, access: Access, result: npt.NDArray[np.uint64]) -> bool:
        """Fill `result` as a walk of the page at `gva` would; False holds the instruction back."""
        result[:] = 0
        words, context = self._mmu.host.memory.words, self._mmu.context
        overlay, log_index = Overlay(words), context[Context.PML_INDEX]
        walk = RetainedWalk(self.retained, self._mmu.space, overlay, context, self._step)
        kept = reference_walk(overlay, context, gva, access, walk)
        record = kept if kept.status is Status.OK else None
        check = self.check
        if check is not None:
            check.looks(gva, access, record, walk)
        stale = check is not None and check.stale is not None
        if record is None or (stale and not self._retain):
            context[Context.PML_INDEX] = log_index  # the walk that nobody gets has set no flags either
            record = self._walk(gva, access, keeps=not stale)
        else:
            for number, word in overlay.written.items():
                words[number] = word
            walk.commit()
        record.put(result)
        return check is None or check.gives(record, result)

    def held(self, gva: int, rip: int) -> bool:
        """Go on with what an instruction was held back for; return whether it is to run alone."""
        assert self.check is not None
        return self.check.held(gva, rip)

    def passed(self) -> None:
        """An instruction that writes a table has passed."""
        assert self.check is not None
        self.check.settle()

    @property
    def _step(self) -> int:
        return 0 if self.check is None else self.check.step

    def _walk(self, gva: int, access: Access, *, keeps: bool) -> WalkRecord:
        """Walk memory."""
        mmu = self._mmu
        words = mmu.host.memory.words
        caches = RetainedWalk(self.retained, mmu.space, words, mmu.context, self._step, fresh=True)
        record = reference_walk(words, mmu.context, gva, access, caches)
        if keeps:
            caches.commit()
        return record
