"""The log of table writes: which entry, what it said and says, who wrote it, when. One for all vCPUs of a machine.

Time is a step number: it grows by one with each fill, write and invalidation, so that equal runs have equal numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from quire.paging import TableMemory
from quire.paging.shadow.tables import EntryMemory
from quire.tlb import Operation
from quire.tlb.invalidation import Operand

__all__ = ["Actor", "Change", "Done", "LoggedEntries", "LoggedTables", "TableLog"]

_KEPT = 8  # changes remembered of each entry
_REMEMBERED = 64  # operations
_PRESENT = 7  # P of a guest's entry, R, W and X of EPT's


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: guest, kernel (that Quire plays) or hypervisor, on which vCPU.

    `rip` is the guest's instruction: the one that acts, or the one that the kernel or hypervisor acts for. `pcid` is
    the current one.
    """

    kind: str
    vcpu: str
    rip: int
    cpl: int
    pcid: int


@dataclass(frozen=True, slots=True)
class Change:
    """The entry at `hpa` was `old` and became `new`."""

    step: int
    hpa: int
    old: int
    new: int
    actor: Actor


class Done(NamedTuple):
    """An invalidation that was executed, and on which vCPU."""

    step: int
    vcpu: str
    operation: Operation
    operand: Operand


class TableLog:
    """`step` is the time, `version` grows with each change. `listeners` are called when an entry in use has changed.

    `acting` returns who acts now, of a kind, in the name of the vCPU that runs.
    """

    def __init__(self, acting: Callable[[str], Actor]) -> None:
        self.acting = acting
        self.step = 0
        self.version = 0
        self.listeners: list[Callable[[], None]] = []
        self.done: list[Done] = []  #: the last operations that software executed
        self._changes: dict[int, list[Change]] = {}

    def tick(self) -> int:
        """Let a step pass; return its number."""
        self.step += 1
        return self.step

    def wrote(self, hpa: int, old: int, new: int, actor: Actor) -> None:
        """Note a write; one that changes nothing is none."""
        if old == new:
            return
        self.version += 1
        known = self._changes.setdefault(hpa, [])
        known.append(Change(self.tick(), hpa, old, new, actor))
        del known[:-_KEPT]
        if old & _PRESENT:
            for listener in self.listeners:
                listener()

    def executed(self, vcpu: str, operation: Operation, operand: Operand) -> None:
        """Note an invalidation."""
        self.done.append(Done(self.step, vcpu, operation, operand))
        del self.done[:-_REMEMBERED]

    def last(self, hpa: int, since: int) -> Change | None:
        """Return the first change of the entry at `hpa` after step `since`, None if none was seen."""
        return next((change for change in self._changes.get(hpa, ()) if change.step > since), None)


class LoggedEntries:
    """`memory`, whose addresses are HPAs, with each write noted as that of the actor at the time."""

    def __init__(self, memory: EntryMemory, log: TableLog, actor: Callable[[], Actor]) -> None:
        self.load = memory.load
        self._memory, self._log, self._actor = memory, log, actor

    def store(self, address: int, entry: int) -> None:
        """Write an entry and note it."""
        old = self._memory.load(address)
        self._memory.store(address, entry)
        self._log.wrote(address, old, entry, self._actor())


class LoggedTables:
    """`tables` with each write of an entry noted; `hpa` says where an address lies."""

    def __init__(
        self, tables: TableMemory, hpa: Callable[[int], int], log: TableLog, actor: Callable[[], Actor]
    ) -> None:
        self.load, self.allocate_table, self.free_table = (
            tables.load,
            tables.allocate_table,
            tables.free_table,
        )
        self._tables, self._hpa, self._log, self._actor = tables, hpa, log, actor

    def store(self, address: int, entry: int) -> None:
        """Write an entry and note it."""
        old = self._tables.load(address)
        self._tables.store(address, entry)
        self._log.wrote(self._hpa(address), old, entry, self._actor())
