"""The flush sanitizer of one vCPU: every fill by a kept mapping is compared with what the tables say.

A mapping whose entries have changed in a way that requires a flush, and that gives the access something that the
tables do not give, is stale: the access uses it or may use it, and that is a finding. Documented in
docs/reference/flushes.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.arch import Access
from quire.mmu.paged import PagedMmu
from quire.observe.flushes.advice import Advice
from quire.observe.flushes.finding import AnyKept, Attempt, StaleUse, difference, first_changed
from quire.observe.flushes.remedy import remedy
from quire.observe.flushes.requirement import reaches, spared
from quire.observe.flushes.table_log import Actor, Done, TableLog
from quire.observe.flushes.watch import Watch, Watched
from quire.paging import Context, WalkRecord, reference_walk
from quire.paging.context import Words
from quire.tlb import Operation
from quire.tlb.invalidation import Operand
from quire.tlb.retained import KeptPage, KeptTable, Retained, RetainedWalk, Roots
from quire.tlb.retained.walk import roots_of

__all__ = ["FlushCheck"]

#: What a processor does of itself: nobody asked for it, and nobody could have left it out.
_HARDWARE = frozenset(
    (Operation.PAGE_FAULT, Operation.EPT_VIOLATION, Operation.VM_ENTRY_VPID_0, Operation.VM_EXIT_VPID_0)
)
_NAMED = 3  # operations in one finding


class _Stale:
    """A stale mapping that the access at hand meets, and the entry that changed, before a walk sets its flags again."""

    def __init__(
        self, mapping: AnyKept, kept: WalkRecord, tables: WalkRecord, kind: str, load: Callable[[int], int]
    ) -> None:
        self.mapping, self.kept, self.tables, self.kind = mapping, kept, tables, kind
        self.entry, self.now = first_changed(mapping, load)


class FlushCheck:
    """Checks the fills of the vCPU called `vcpu`, whose translations `mmu` makes; `log` is the machine's.

    `retain`: stale mappings are really given. `actor` says who acts now, `watched` is there for a guest that writes
    its own tables. Afterwards :attr:`findings` and :attr:`advice` are what was found, in the order of first occurrence.
    """

    def __init__(
        self,
        mmu: PagedMmu,
        log: TableLog,
        actor: Callable[[str], Actor],
        *,
        vcpu: str,
        retain: bool,
        watched: Watched | None,
    ) -> None:
        self.retained = Retained()
        self.log = log
        self.stale: _Stale | None = None  #: what the fill at hand met
        self.watched = watched
        self.watch: Watch | None = None
        if watched is not None:
            words = mmu.host.memory.words
            self.watch = Watch(words, self.retained, log, watched, lambda: mmu.forget(None))
        self._mmu, self._vcpu, self._retain = mmu, vcpu, retain
        self.actor = actor  #: returns who acts now, of a kind, on this vCPU
        self._findings: dict[tuple[object, ...], StaleUse] = {}
        self._advice: dict[tuple[object, ...], Advice] = {}
        self._admitted: set[tuple[object, ...]] = set()
        self._pending: tuple[str, tuple[object, ...]] = ("", ())
        self._writer: Actor | None = None  # the instruction that runs alone
        self._load = mmu.host.memory.load
        log.listeners.append(lambda: mmu.forget(None))  # so that the next access is looked at

    @property
    def step(self) -> int:
        """The number of the machine's step at hand."""
        return self.log.step

    @property
    def findings(self) -> list[StaleUse]:
        """What was found, in the order of first occurrence."""
        return list(self._findings.values())

    @property
    def advice(self) -> list[Advice]:
        """Operations that were executed for nothing at least once."""
        return [one for one in self._advice.values() if one.count]

    def looks(self, gva: int, access: Access, record: WalkRecord | None, walk: RetainedWalk) -> None:
        """Find a stale mapping that this access may use; `record` is the walk with what is kept, None if it failed."""
        self.log.tick()
        self.stale = None
        space, retained = self._mmu.space, self.retained
        own: list[KeptPage | KeptTable] = [*retained.pages(space, gva), *retained.tables(space, gva)]
        roots = roots_of(self._mmu.context)
        # A global page may have been met in another address space.
        suspects = [kept for kept in own if self._changed(kept, roots) or kept.roots.guest != roots.guest]
        hosts = [kept for kept in walk.host if self._changed(kept, roots)] if record is not None else []
        if not suspects and not hosts:
            return
        context = self._mmu.context.copy()
        context[Context.UPDATE] = 0
        tables = reference_walk(self._mmu.host.memory.words, context, gva, access)
        for kept in suspects:
            found = self._walk_from(kept, context, gva, access)
            kind = None if found.status else difference(found, tables)
            if kind is not None:
                self.stale = _Stale(kept, found, tables, kind, self._load)
                return
        if record is not None and hosts:
            kind = difference(record, tables)
            if kind is not None:
                self.stale = _Stale(hosts[0], record, tables, kind, self._load)

    def gives(self, record: WalkRecord, result: npt.NDArray[np.uint64]) -> bool:
        """Return whether the guest may have `record` now; if not, :meth:`held` is to follow."""
        context = self._mmu.context
        asked = (
            record.gva >> 12,
            record.access,
            int(context[Context.USER]),
            int(context[Context.AC]),
            int(context[Context.IMPLICIT]),
            self.log.version,
        )
        if self.stale is not None and asked not in self._admitted:
            self._pending = "stale", asked
            return False
        return self.watch is None or self.watch.admits(record, result, self._hold)

    def held(self, gva: int, rip: int) -> bool:
        """Do what an instruction was held back for; return whether it is to run alone."""
        what, asked = self._pending
        if what == "stale":
            self._admitted.add(asked)
            self._report(gva, rip)
        elif what == "flush":
            self._mmu.forget(None)
        else:
            self._writer = self.actor("guest")
        return what == "step"

    def settle(self) -> None:
        """The instruction that wrote a table has passed."""
        if self.watch is not None and self._writer is not None:
            self.watch.settle(self._writer)

    @contextmanager
    def noting(self, hpa: int) -> Iterator[None]:
        """Note what is written, while the context lasts, into the frame of `hpa` by somebody else than a Cpu."""
        before = None if self.watch is None else self.watch.snapshot(hpa)
        yield
        if self.watch is not None and before is not None:
            self.watch.changed(hpa >> 12, before, self.actor("hypervisor"))

    def invalidated(self, operation: Operation, operand: Operand, dropped: list[AnyKept]) -> None:
        """`operation` has dropped `dropped`: note it, and whether anything required it."""
        self.log.tick()
        self._admitted.clear()
        if operation in _HARDWARE:
            return
        self.log.executed(self._vcpu, operation, operand)
        if not dropped:
            return
        actor = self.actor("")
        advice = self._advice.setdefault((operation, actor.kind, actor.rip), Advice(operation, actor))
        roots = roots_of(self._mmu.context)
        if any(self._changed(kept, roots) for kept in dropped):
            advice.needed += 1
        else:
            advice.count += 1
            advice.dropped += len(dropped)

    def record(self, symbols: Callable[[int], str | None]) -> dict[str, Any]:
        """Return findings and advice as plain data."""
        return {
            "findings": [finding.record(symbols) for finding in self.findings],
            "advice": [one.record(symbols(one.actor.rip)) for one in self.advice],
        }

    def _attempts(self, mapping: AnyKept, later: Sequence[Done]) -> tuple[Attempt, ...]:
        """Return what was executed and spared `mapping`: here, or on another vCPU where it would have done."""
        found = []
        for done in later:
            if done.vcpu == self._vcpu:
                why = spared(done.operation, done.operand, mapping)
            elif reaches(done.operation, done.operand, mapping):
                why = f"was executed on {done.vcpu}"
            else:
                continue
            found.append(Attempt(done.step, done.operation, why))
        return tuple(found[-_NAMED:])

    def _hold(self, what: str) -> None:
        self._pending = what, ()

    def _changed(self, kept: AnyKept, roots: Roots) -> bool:
        """Whether entries that `kept` was made from, or the root, have changed so that a flush is required."""
        mark = self.log.version, roots
        if kept.verified == mark:
            return False
        of_one_root = kept.space.vpid is not None and kept.space.pcid is not None
        if (of_one_root and kept.roots.guest != roots.guest) or kept.roots.host != roots.host:
            return True
        if first_changed(kept, self._load)[0] is not None:
            return True
        kept.verified = mark
        return False

    def _walk_from(self, kept: KeptPage | KeptTable, context: Words, gva: int, access: Access) -> WalkRecord:
        words = self._mmu.host.memory.words
        caches = RetainedWalk(self.retained, self._mmu.space, words, context, self.log.step, begin_with=kept)
        return reference_walk(words, context, gva, access, caches)

    def _report(self, gva: int, rip: int) -> None:
        """Make a finding of the stale mapping that the instruction at `rip` met at `gva`."""
        stale, context = self.stale, self._mmu.context
        assert stale is not None
        mapping, entry = stale.mapping, stale.entry
        change = None if entry is None else self.log.last(entry.hpa, mapping.step)
        since = mapping.step if change is None else change.step
        later = [done for done in self.log.done if done.step > since]
        here = [done.operation for done in later if done.vcpu == self._vcpu]
        missing, operand, note = remedy(mapping, entry, change, here)
        if change is not None and change.actor.vcpu != self._vcpu:
            operand += f", on {self._vcpu}"
        user = bool(context[Context.USER]) and not context[Context.IMPLICIT]
        implicit = "implicit supervisor" if context[Context.IMPLICIT] else "supervisor"
        found = StaleUse(
            vcpu=self._vcpu,
            gva=gva,
            access=stale.kept.access,
            privilege="user" if user else implicit,
            rip=rip,
            mapping=mapping,
            kind=stale.kind,
            kept=stale.kept,
            tables=stale.tables,
            entry=entry,
            now=stale.now,
            change=change,
            missing=missing,
            operand=operand,
            note=note,
            attempts=self._attempts(mapping, later),
            used=self._retain,
        )
        self._findings.setdefault(found.key, found).count += 1
