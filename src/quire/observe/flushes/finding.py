"""A stale translation that an access uses or may use, who made it stale, and the invalidation that was missing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quire.arch import Access
from quire.observe.flushes.requirement import requires_flush
from quire.observe.flushes.table_log import Change
from quire.paging import Dimension, Rights, WalkRecord
from quire.tlb import AddressSpace, Operation
from quire.tlb.retained import Entry, KeptHostPage, KeptHostTable, KeptPage, KeptTable

__all__ = ["Attempt", "StaleUse", "difference"]

AnyKept = KeptPage | KeptTable | KeptHostPage | KeptHostTable
Symbols = Callable[[int], str | None]
_KINDS = {
    KeptPage: "translation",
    KeptTable: "paging-structure entry",
    KeptHostPage: "guest-physical translation",
    KeptHostTable: "EPT paging-structure entry",
}
_WRITES = (Access.WRITE, Access.SHADOW_WRITE)


def difference(kept: WalkRecord, tables: WalkRecord) -> str | None:
    """Return what a walk by kept mappings gives that the tables do not, None if nothing; `kept` did not fault.

    A page size that changes alone is allowed: it must not change together with rights or attributes (SDM 3A §4.10.2.3).
    """
    if tables.status:
        return "access"
    if kept.hpa != tables.hpa:
        return "address"
    sizes = (kept.guest_shift, kept.host_shift), (tables.guest_shift, tables.host_shift)
    if sizes[0] != sizes[1] and kept.rights != tables.rights:
        return "page size"
    if kept.access in _WRITES and kept.dirty and not tables.dirty:
        return "dirty flag"
    return None if kept.memory_type == tables.memory_type else "memory type"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An operation that was executed meanwhile and did not reach the mapping, for the reason `spared`."""

    step: int
    operation: Operation
    spared: str


@dataclass(slots=True)
class StaleUse:
    """One finding; equal ones are counted. `kept` and `tables` are the walks with and without the kept mapping.

    `entry` is the first entry of the mapping's path that changed, `now` what it says, `change` who changed it, None if
    nobody was seen. No entry: the root is another. `missing` would have dropped the mapping; `used` says that it did
    answer the access.
    """

    vcpu: str
    gva: int
    access: Access
    privilege: str
    rip: int
    mapping: AnyKept
    kind: str
    kept: WalkRecord
    tables: WalkRecord
    entry: Entry | None
    now: int
    change: Change | None
    missing: Operation
    operand: str
    note: str
    attempts: tuple[Attempt, ...]
    used: bool
    count: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two findings equal."""
        where = None if self.entry is None else self.entry.hpa
        return self.vcpu, self.rip, self.access, self.kind, self.mapping.start, self.mapping.space, where

    def record(self, symbols: Symbols) -> dict[str, Any]:
        """Return the finding as plain data: numbers in hexadecimal text, names as the manual has them."""
        rule = self.missing.value
        return {
            "vcpu": self.vcpu,
            "gva": f"{self.gva:#x}",
            "access": self.access.name.lower().replace("_", "-"),
            "privilege": self.privilege,
            "rip": f"{self.rip:#x}",
            "symbol": symbols(self.rip),
            "used": self.used,
            "differs": self.kind,
            "mapping": _mapping(self.mapping),
            "kept": _answer(self.kept),
            "tables": _answer(self.tables),
            "entry": _entry(self.entry, self.now),
            "changed": _changed(self.change, symbols),
            "missing": {
                "operation": self.missing.name,
                "when": rule.when,
                "section": rule.section,
                "operand": self.operand,
                "note": self.note,
            },
            "attempts": [
                {
                    "step": attempt.step,
                    "operation": attempt.operation.name,
                    "when": attempt.operation.value.when,
                    "spared": attempt.spared,
                }
                for attempt in self.attempts
            ],
            "count": self.count,
        }


def _mapping(kept: AnyKept) -> dict[str, Any]:
    space = kept.space
    return {
        "kind": _KINDS[type(kept)],
        "class": str(space.mapping_class),
        "tags": _tags(space),
        "start": f"{kept.start:#x}",
        "size": 1 << kept.shift,
        "step": kept.step,
    }


def _tags(space: AddressSpace) -> dict[str, str | None]:
    """Return VPID, PCID (any of a global page) and EP4TA, as far as the class has them."""
    tags: dict[str, str | None] = {}
    if space.vpid is not None:
        tags["vpid"] = f"{space.vpid:#x}"
        tags["pcid"] = "any" if space.pcid is None else f"{space.pcid:#x}"
    if space.ep4ta is not None:
        tags["ep4ta"] = f"{space.ep4ta:#x}"
    return tags


def _answer(walk: WalkRecord) -> dict[str, Any]:
    if walk.status:
        return {"rule": walk.rule.name, "section": walk.rule.section}
    return {
        "hpa": f"{walk.hpa & ~0xFFF:#x}",
        "rights": "".join(
            letter if walk.rights & right else "-"
            for letter, right in zip("RWX", (Rights.READ, Rights.WRITE, Rights.EXECUTE), strict=True)
        ),
        "dirty": walk.dirty,
        "size": 1 << min(walk.guest_shift, walk.host_shift),
        "memory_type": None if walk.memory_type is None else walk.memory_type.name,
    }


def _entry(entry: Entry | None, now: int) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "dimension": "guest" if entry.dimension is Dimension.GUEST else "EPT",
        "level": entry.level,
        "hpa": f"{entry.hpa:#x}",
        "gpa": None if entry.gpa is None else f"{entry.gpa:#x}",
        "kept": f"{entry.value:#018x}",
        "now": f"{now:#018x}",
    }


def _changed(change: Change | None, symbols: Symbols) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "by": change.actor.kind,
        "vcpu": change.actor.vcpu,
        "rip": f"{change.actor.rip:#x}",
        "symbol": symbols(change.actor.rip),
        "cpl": change.actor.cpl,
        "old": f"{change.old:#018x}",
        "new": f"{change.new:#018x}",
        "step": change.step,
    }


def first_changed(kept: AnyKept, load: Callable[[int], int]) -> tuple[Entry | None, int]:
    """Return the first entry of the mapping's path that requires a flush, and what it says now."""
    for entry in kept.path:
        now = load(entry.hpa)
        if requires_flush(entry, now):
            return entry, now
    return None, 0
