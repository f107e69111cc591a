"""What the cost model needs of a run, taken out of its record: events, and how large the tables are that walks read.

A bare guest has no session's record; whoever runs one fills :class:`Counts` itself. Fails with MisuseError for a
record that did not count the modelled TLB.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from quire.arch import page_size
from quire.errors import MisuseError
from quire.study.spared import NOTHING_SPARED, Spared

__all__ = ["Counts", "TableSize", "levels_of"]

_TOP = 4


@dataclass(frozen=True, slots=True)
class TableSize:
    """The tables of one dimension: how many pages they take, the bytes that leaves map, the size of a leaf's page."""

    table_pages: int
    mapped: int
    page: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one run. `first` are the tables indexed by linear addresses, `second` those by guest-physical ones.
    `cleared` are the bytes that guest and host had to clear: what is resident in each dimension. References are those
    that the walk caches left; `spared` says what these did.

    Under shadow `first` are the shadow tables, which are all that a walk reads.
    """

    mmu: str
    instructions: int
    tlb_l2_hits: int
    tlb_misses: int
    walks: int
    faulted: int
    guest_references: int
    host_references: int
    page_faults: int
    exits: Mapping[str, int]
    cleared: int
    first: TableSize
    second: TableSize | None
    spared: Spared = NOTHING_SPARED

    @property
    def completed(self) -> int:
        """Walks that reached a page."""
        return self.walks - self.faulted

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Counts":
        """Return the counts in the record of `quire run`. Raises MisuseError unless its detail was full."""
        config, tlb, walks = record["config"], record["tlb"], record["walks"]
        if tlb is None:
            raise MisuseError(
                f"The record was made with --detail {config['detail']}, which does not count the modelled TLB: "
                "run again with --detail full"
            )
        first, second = _sizes(config, record["memory"])
        return cls(
            mmu=config["mmu"],
            instructions=record["instructions"],
            tlb_l2_hits=tlb["l2"]["hits"],
            tlb_misses=tlb["l2"]["misses"],
            walks=walks["count"],
            faulted=walks["faulted"],
            guest_references=walks["references"]["guest"],
            host_references=walks["references"]["host"],
            page_faults=record["page_faults"],
            exits=record["exits"],
            cleared=_resident(record["memory"]),
            first=first,
            second=second,
            spared=Spared.of(record["walk_caches"]),
        )

    def whole(self) -> "Counts":
        """Return the counts of the same walks without walk caches, each making all its references: a bound.

        Caches change no look-up in a TLB, so the walks are the same.
        """
        if self.spared == NOTHING_SPARED:
            return self
        guest = self.guest_references + self.spared.entries
        host = 0
        if self.second is not None:
            host = (guest + self.completed) * levels_of(self.second.page)
        return replace(self, guest_references=guest, host_references=host, spared=NOTHING_SPARED)


def levels_of(page: int) -> int:
    """Return how many entries a walk reads to reach a page of `page` bytes in one dimension of four levels."""
    for level in (1, 2, 3):
        if page_size(level) == page:
            return _TOP - level + 1
    raise MisuseError(f"No page has {page:#x} bytes: give 0x1000, 0x200000 or 0x40000000")


def _resident(memory: Mapping[str, Any]) -> int:
    return sum(memory[part]["resident"] for part in ("guest", "host") if memory[part] is not None)


def _sizes(config: Mapping[str, Any], memory: Mapping[str, Any]) -> tuple[TableSize, TableSize | None]:
    guest, host, shadow = memory["guest"], memory["host"], memory.get("shadow")
    if shadow is not None:
        page = min(config["guest_page"], config["host_page"])
        return TableSize(shadow["table_pages"], guest["resident"], page), None
    first = TableSize(guest["table_pages"], guest["resident"], config["guest_page"])
    if host is None:
        return first, None
    return first, TableSize(host["table_pages"], host["mapped"], config["host_page"])
