"""EPT walks of Bochs, recorded, against the walk: kernel and twin walk each recorded world anew.

Compared: the exit's reason, its qualification and guest-physical address, of a #PF the error code and CR2, and every
word of memory afterwards. The memory types that EPT and PAT make are not among them: no exit tells them, and Bochs
does not apply EPT's (architecture notes, D5 and D6).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.arch import EPT_VIOLATION_QUALIFICATION, EPTP, Access, ExitReason, Vector, physical_reserved
from quire.arch.profile import EPT_VPID_CAP
from quire.paging import Context, Status, WalkRecord
from quire.paging.rules import RULES
from quire.testing.oracles.bochs_vectors import bochs_profile, vectors
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.testing.walks import compare_walks
from quire.testing.world import EPT_ROOT, GVA, World

__all__ = ["BIT_12", "DEVIATIONS", "MISPLACED", "SILENT_UPDATE", "SUITES", "WRITE_ONLY"]

SILENT_UPDATE = "D1: sets the guest's accessed and dirty flags in a page that EPT does not let it write"
WRITE_ONLY = "D2: with EPT's flags on, a violation of a guest-table access reports a write, not a read too"
BIT_12 = "D3: does not take bit 12 of a large EPT leaf for reserved"
MISPLACED = "D4: with mode-based execute control, reports XU of a data access in bit 13, not in bit 6"
#: What Bochs does otherwise than the manual, by name. A test fails when one disappears from the vectors.
DEVIATIONS = (SILENT_UPDATE, WRITE_ONLY, BIT_12, MISPLACED)

Words = npt.NDArray[np.uint64]

_FRAMES = 24  # of the recorded world: guest tables, the page, EPT tables
_TABLE_LEAF = 19 << 12  # of the EPT table that maps the guest's tables, frames 1 to 4
_STORED = 0x5A
_PS, _BIT_12, _WRITABLE = 1 << 7, 1 << 12, 2
_READ, _FINAL, _XU, _SHADOW_STACK = (
    EPT_VIOLATION_QUALIFICATION.mask(name) for name in ("R", "final", "ept_xu", "shadow_stack")
)
_ACCESS = {"r": Access.READ, "w": Access.WRITE, "x": Access.FETCH}


@dataclass(frozen=True, slots=True)
class Said:
    """What came of an access: an exit, or a #PF (reason 0, error code, CR2), or neither; and words that changed."""

    reason: int | None
    detail: int = 0
    address: int = 0
    changed: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        changed = " ".join(f"[{where:#x}]={word:#x}" for where, word in self.changed)
        return f"{self.reason} {self.detail:#x} {self.address:#x} {changed}"


def _recorded(read: list[int], changed: list[list[int]]) -> Said:
    reason, qualification, gpa, information, error = read
    words = tuple((where, word) for where, word in changed)
    if reason == ExitReason.VMCALL:
        return Said(None, changed=words)
    if reason == ExitReason.EXCEPTION_OR_NMI:
        assert information & 0xFF == Vector.PF
        return Said(reason, error, qualification, words)
    if reason == ExitReason.EPT_MISCONFIGURATION:
        return Said(reason, 0, gpa, words)  # it has no qualification
    return Said(reason, qualification, gpa, words)


def _walked(record: WalkRecord, before: Words, after: Words) -> Said:
    changed = tuple((8 * int(n), int(after[n])) for n in np.flatnonzero(before != after))
    if record.status is Status.OK:
        return Said(None, changed=changed)
    if record.status is Status.PAGE_FAULT:
        return Said(ExitReason.EXCEPTION_OR_NMI, record.error, record.gva, changed)
    reason = {
        Status.EPT_VIOLATION: ExitReason.EPT_VIOLATION,
        Status.EPT_MISCONFIGURATION: ExitReason.EPT_MISCONFIGURATION,
    }[record.status]
    return Said(reason, record.error, record.fault_gpa, changed)


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded access: EPTP and controls, what was changed in the world, and what came of it."""

    settings: dict[str, int]
    access: Access
    changes: dict[int, int]
    said: Said


class Recording:
    """The recorded world and rows, and the walk in that world with any words changed."""

    def __init__(self) -> None:
        made = vectors("ept")
        profile = bochs_profile(made)
        self.rows = [_row(*row) for row in made["rows"]]
        self.world = World(ept=True, frames=_FRAMES)
        caps = EPT_VPID_CAP.decode(profile.ept_caps)
        for field, value in (
            (Context.RESERVED, physical_reserved(profile.maxphyaddr)),
            (Context.PAGE_1G, profile.page_1g),
            (Context.EPT_EXECUTE_ONLY, caps["execute_only"]),
            (Context.EPT_2M, caps["page_2m"]),
            (Context.EPT_1G, caps["page_1g"]),
            (Context.ADVANCED, caps["advanced_exit_info"]),
            (Context.USER, 0),
        ):
            self.world.context[field] = value
        words = {where >> 3: word for where, word in made["world"]}
        self._clean = np.array([words.get(n, 0) for n in range(_FRAMES * 512)], np.uint64)

    def walk(self, tally: Tally, row: Row, also: dict[int, int] | None = None) -> tuple[WalkRecord, Said]:
        """Walk `row` by kernel and twin, count whether they agree; return the record and what came of it.

        `also` are more changed words; in what is returned they count as if they had been there unchanged.
        """
        context, memory = self.world.context, self.world.memory
        context[Context.EPTP] = EPTP.encode(MT=6, walk_length=3, AD=row.settings["ad"]) | EPT_ROOT << 12
        context[Context.MBEC] = row.settings["mbec"]
        memory[:] = self._clean
        for where, word in {**row.changes, **(also or {})}.items():
            memory[where >> 3] = word
        before = memory.copy()
        record = compare_walks(tally, self.world, GVA, row.access, f"recorded world, {row.changes}")
        if record.status is Status.OK and row.access is Access.WRITE:
            memory.view(np.uint8)[record.hpa] = _STORED
        return record, _walked(record, before, memory)

    def word(self, row: Row, where: int) -> int:
        """Return the word at `where` before the access."""
        return row.changes.get(where, int(self._clean[where >> 3]))


def _row(settings: dict[str, int], access: str, words: list[list[int]], read: list[int], changed: Any) -> Row:
    return Row(settings, _ACCESS[access], {where: word for where, word in words}, _recorded(read, changed))


def _deviation(recording: Recording, row: Row, record: WalkRecord, mine: Said) -> str:
    """Return the known fault of Bochs that explains what it said, if one does."""
    if record.rule is RULES["EPT table write"]:
        return SILENT_UPDATE if _as_if_writable(recording, row) == row.said else ""
    if record.rule is RULES["EPT reserved bit"]:
        return BIT_12 if _as_if_clear(recording, row, record) == row.said else ""
    if mine.reason != ExitReason.EPT_VIOLATION or (mine.reason, mine.address, mine.changed) != (
        row.said.reason,
        row.said.address,
        row.said.changed,
    ):
        return ""
    if row.settings["ad"] and not mine.detail & _FINAL and row.said.detail == mine.detail & ~_READ:
        return WRITE_ONLY
    misplaced = mine.detail & ~_XU | (_SHADOW_STACK if mine.detail & _XU else 0)
    return MISPLACED if row.access is not Access.FETCH and row.said.detail == misplaced else ""


def _as_if_writable(recording: Recording, row: Row) -> Said:
    """Return what comes of the access if the pages of the guest's tables may be written."""
    leaves = range(_TABLE_LEAF + 8, _TABLE_LEAF + 8 * 5, 8)
    return recording.walk(Tally(), row, {where: recording.word(row, where) | _WRITABLE for where in leaves})[
        1
    ]


def _as_if_clear(recording: Recording, row: Row, record: WalkRecord) -> Said | None:
    """Return what comes of the access if bit 12 of the large leaf that was refused is 0."""
    leaf = record.references[-1]
    if leaf.level == 1 or not leaf.entry & _PS:
        return None
    _, said = recording.walk(Tally(), row, {leaf.hpa: leaf.entry & ~_BIT_12})
    changed = tuple((where, word | _BIT_12 if where == leaf.hpa else word) for where, word in said.changed)
    return replace(said, changed=changed)


def _case(settings: dict[str, int], access: Access) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        del setting  # a recording is small: every row, always
        recording = Recording()
        for row in recording.rows:
            if (row.settings, row.access) == (settings, access):
                record, mine = recording.walk(tally, row)
                excuse = "" if mine == row.said else _deviation(recording, row, record, mine)
                changes = " ".join(f"[{where:#x}]={word:#x}" for where, word in row.changes.items())
                tally.compare(f"{changes}, {settings}", mine, row.said, deviation=excuse)

    return run


def _suite() -> Suite:
    suite = Suite(
        "bochs-ept",
        oracle="Bochs 0.4.0 vectors",
        title="EPT rights, misconfigurations, qualifications and flags, as Bochs had them",
    )
    for ad, mbec, (letter, access) in itertools.product((0, 1), (0, 1), _ACCESS.items()):
        del letter
        flags = f"{'-flags' if ad else ''}{'-mbec' if mbec else ''}"
        suite.case(f"{access.name.lower()}{flags}")(_case({"ad": ad, "mbec": mbec}, access))
    return suite


SUITES = [_suite()]
