"""The scan of a hierarchy, table by table from its root, and the checks that need all of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from quire.arch import (
    CR3,
    EPTP,
    LOW32,
    PAGE_SIZE,
    Access,
    MemoryType,
    PagingMode,
    is_canonical,
    level_shift,
    linear_width,
)
from quire.paging.context import Context, Status
from quire.paging.context import Words as ContextWords
from quire.paging.lint.finding import Finding, Findings
from quire.paging.lint.form import EXECUTE, USER, WRITE, EptForm, Form, GuestForm, Words, entry_name
from quire.paging.lint.rules import LINT_RULES
from quire.paging.lint.runs import Runs, aliases, holes, outside
from quire.paging.overlay import Overlay, ReadableWords
from quire.paging.reference import reference_walk

__all__ = ["TableSource", "lint_tables"]

_PDPT_BYTES = 32
_PS = 1 << 7
_RESERVED_TYPE = 255
#: Tables of 4 TiB in 4 KiB pages; a hierarchy made to be slow ends here.
_MOST_REFERENCES = 1 << 21
_SIZES = {12: "4 KiB", 21: "2 MiB", 22: "4 MiB", 30: "1 GiB"}


class TableSource(ReadableWords, Protocol):
    """Physical memory that is read in pieces; `ranges` are first address and bytes of what there is."""

    @property
    def ranges(self) -> Sequence[tuple[int, int]]: ...

    def read(self, address: int, length: int) -> memoryview | None: ...


def lint_tables(
    memory: TableSource, context: ContextWords, findings: Findings, *, whole: bool = True
) -> None:
    """Check the EPT hierarchy of `context`, if it has one, and the guest's; add to `findings`.

    `whole` says that what is not in `memory` does not exist, so that pages there are worth a finding.
    """
    state: list[int] = context.tolist()
    if state[Context.EPTP]:
        _check_eptp(state, findings)
        scan = _Scan(memory, EptForm(state), findings, _same)
        scan.run(EPTP.get(state[Context.EPTP], "addr"), memory.ranges if whole else None)
    if state[Context.MODE] and (state[Context.CR3] or not state[Context.EPTP]):
        form = GuestForm(state)
        if form.mode is PagingMode.BITS_32 or not state[Context.NXE]:
            why = "32-bit paging" if form.mode is PagingMode.BITS_32 else "EFER.NXE = 0"
            findings.add(_finding("no execute disable", "guest", _Place(), name=why))
        ept = bool(state[Context.EPTP])
        scan = _Scan(memory, form, findings, _through_ept(memory, context) if ept else _same)
        scan.run(_root(state, form), memory.ranges if whole and not ept else None)


def _same(gpa: int) -> int | None:
    return gpa


def _through_ept(memory: TableSource, context: ContextWords) -> Callable[[int], int | None]:
    """Return how a guest-physical address becomes a host-physical one: a walk without paging."""
    state = context.copy()
    state[Context.MODE], state[Context.UPDATE] = PagingMode.NONE, 0
    words = Overlay(memory)

    def translate(gpa: int) -> int | None:
        found = reference_walk(words, state, gpa, Access.READ)
        return found.hpa if found.status is Status.OK else None

    return translate


def _root(state: list[int], form: Form) -> int:
    cr3 = state[Context.CR3]
    if form.mode is PagingMode.PAE:
        return cr3 & LOW32 & ~(_PDPT_BYTES - 1)
    return CR3.get(cr3, "addr") & (LOW32 if form.mode is PagingMode.BITS_32 else -1)


def _check_eptp(state: list[int], findings: Findings) -> None:
    eptp = state[Context.EPTP]
    said = EPTP.decode(eptp)
    wrong = []
    if said["MT"] not in (MemoryType.UC, MemoryType.WB):
        wrong.append(f"has memory type {said['MT']}")
    if said["walk_length"] not in (3, 4):
        wrong.append(f"has walk length {said['walk_length']}")
    if eptp & (EPTP.reserved_mask | state[Context.RESERVED]):
        wrong.append("has reserved bits set")
    for words in wrong:
        findings.add(_finding("EPTP", "EPT", _Place(), name=words, bits=eptp))


class _Place(NamedTuple):
    """Which addresses a finding is about, and where its entry lies."""

    start: int | None = None
    end: int | None = None
    entry: int | None = None


def _finding(
    rule: str, subject: str, place: _Place, *, name: str = "", bits: Any = 0, why: str = "", count: int = 1
) -> Finding:
    """Return a finding by `rule` with its texts filled in."""
    found = LINT_RULES[rule]
    text, fix = (form.format(name=name, bits=bits, why=why) for form in (found.text, found.fix))
    return Finding(found.severity, found.name, found.section, text, fix, subject, *place, count)


class _TooManyTables(Exception):
    """Unwinds the scan of a hierarchy that no system would build; never leaves the scan."""


class _Scan:
    """One hierarchy being scanned. `translate` takes the address of a table to where `memory` has it."""

    def __init__(
        self, memory: TableSource, form: Form, findings: Findings, translate: Callable[[int], int | None]
    ) -> None:
        self.memory, self.form, self.findings, self.translate = memory, form, findings, translate
        self._first: dict[tuple[int, int], int] = {}  # (table, level): address it was first used for
        self._rights: set[tuple[int, int, int]] = set()
        self._path: list[int] = []
        self._references = 0
        self._parts: list[Runs] = []

    def run(self, root: int, ranges: Sequence[tuple[int, int]] | None) -> None:
        """Scan from `root`, then check what only the whole shows; `ranges` of memory, None if unknown."""
        try:
            self._table(root, self.form.top, 0, WRITE | EXECUTE | USER, None)
        except _TooManyTables:
            self._add("too many tables", _Place(), bits=_MOST_REFERENCES)
        runs = Runs.joined(self._parts)
        self._parts.clear()
        for start, end in holes(runs):
            self._add("hole", self._span(start, end - start))
        for start, end, target in outside(runs, ranges) if ranges is not None else ():
            self._add("page outside memory", self._span(start, end - start), bits=target)
        aliases(runs, lambda *found: self._conflict(runs, *found))

    def _conflict(self, runs: Runs, one: int, other: int, first: int, end: int) -> None:
        """Report frames from `first` to `end` that two runs map with different memory types."""
        kinds = sorted(_type_name(int(runs.memory_type[n])) for n in (one, other))
        at, elsewhere = (int(runs.start[n]) + first - int(runs.target[n]) for n in (other, one))
        name = f"{' and '.join(kinds)}, also at {self._linear(elsewhere):#x}"
        self._add("conflicting memory types", self._span(at, end - first), name=name, bits=first)

    def _add(
        self, rule: str, place: _Place, *, name: str = "", bits: Any = 0, why: str = "", count: int = 1
    ) -> None:
        self.findings.add(
            _finding(rule, self.form.subject, place, name=name, bits=bits, why=why, count=count)
        )

    def _span(self, start: int, length: int, entry: int | None = None) -> _Place:
        return _Place(self._linear(start), self._linear(start + length - 1) + 1, entry)

    def _table(self, table: int, level: int, base: int, above: int, parent: tuple[str, int] | None) -> None:
        """Scan one table; `base` is the address that its first entry translates, `parent` the entry that led here."""
        name, entry = parent or ("the root", None)
        place = self._span(base, 1 << level_shift(level, self.form.mode) + self._index_bits(level), entry)
        self._references += 1
        if self._references > _MOST_REFERENCES:
            raise _TooManyTables
        if table in self._path:
            self._add("recursive table", place, bits=table)
            return
        again = (table, level) in self._first
        if again:
            used = f"{self._linear(self._first[table, level]):#x}"
            self._add("shared table", place, name=used, bits=table)
            if (table, level, above) in self._rights:
                return
        hpa = self.translate(table)
        content = self.memory.read(hpa, self._bytes(level)) if hpa is not None else None
        if hpa is None or content is None:
            self._add("table outside memory", place, name=name, bits=table)
            return
        self._first.setdefault((table, level), base)
        self._rights.add((table, level, above))
        entries = np.frombuffer(content, f"<u{self.form.entry_bytes}").astype(np.uint64)
        self._path.append(table)
        self._entries(entries, hpa, level, base, above, again)
        self._path.pop()

    def _entries(self, entries: Words, hpa: int, level: int, base: int, above: int, again: bool) -> None:
        form = self.form
        present = form.present(entries)
        paged = (
            (entries & np.uint64(_PS)) != 0 if form.maps_page(level) else np.full(len(entries), level == 1)
        )
        rights = form.rights(entries, above, level)
        sound = present.copy()
        for leaf in (True, False):
            chosen = present & (paged == leaf)
            if chosen.any():
                sound &= ~self._broken(entries, chosen, level, leaf, hpa, base, again)
        leaves = np.flatnonzero(sound & paged)
        self._exposed(rights, leaves, level, hpa, base)
        if not again and len(leaves):
            self._collect(entries, leaves, level, base, above)
        if level == 1:
            return
        addresses = entries & np.uint64(form.layout(level, False).mask("addr"))
        for n in np.flatnonzero(sound & ~paged):
            name, at = entry_name(form, level, False), hpa + form.entry_bytes * int(n)
            start = base + (int(n) << level_shift(level, form.mode))
            self._table(int(addresses[n]), level - 1, start, int(rights[n]), (name, at))

    def _broken(
        self, entries: Words, chosen: Any, level: int, leaf: bool, hpa: int, base: int, again: bool
    ) -> Any:
        """Report the entries among `chosen` that fault whatever the access; return which they are."""
        form = self.form
        stray = entries & np.uint64(form.forbidden(level, leaf))
        reserved = "EPT reserved bit" if form.subject == "EPT" else "reserved bit"
        broken = chosen & (stray != 0)
        rules = [
            (reserved, broken),
            *((rule, chosen & found) for rule, found in form.breaches(entries, leaf)),
        ]
        name = entry_name(form, level, leaf)
        for rule, found in rules:
            broken = broken | found
            for n in () if again else np.flatnonzero(found):
                bits = int(stray[n]) if rule == reserved else int(entries[n]) >> 3 & 7
                why = form.width_of(bits) if rule == reserved else ""
                self._add(rule, self._place(int(n), 1, level, hpa, base), name=name, bits=bits, why=why)
        return broken

    def _exposed(self, rights: Any, leaves: Any, level: int, hpa: int, base: int) -> None:
        for value in np.unique(rights[leaves]):
            rule, _, who = (self.form.exposed(int(value)) or "").partition(":")
            if rule:
                found = leaves[rights[leaves] == value]
                for group in np.split(found, np.flatnonzero(np.diff(found) != 1) + 1):
                    place = self._place(int(group[0]), len(group), level, hpa, base)
                    self._add(rule, place, name=who, count=len(group))

    def _place(self, index: int, count: int, level: int, hpa: int, base: int) -> _Place:
        """Return which addresses `count` entries from `index` translate, and where the first lies."""
        size = 1 << level_shift(level, self.form.mode)
        return self._span(base + index * size, count * size, hpa + self.form.entry_bytes * index)

    def _collect(self, entries: Words, leaves: Any, level: int, base: int, above: int) -> None:
        """Note the runs of pages in a table, and whether one larger page could take its place."""
        form = self.form
        shift = level_shift(level, form.mode)
        layout = form.layout(level, True)
        chosen = entries[leaves]
        target = chosen & np.uint64(layout.mask("addr"))
        if form.mode is PagingMode.BITS_32 and level == 2:
            target |= (chosen & np.uint64(layout.mask("addr_high"))) << np.uint64(
                32 - layout.shift("addr_high")
            )
        mask = form.attributes | (layout.mask("PAT") if level > 1 and form.subject == "guest" else 0)
        attributes = chosen & np.uint64(mask)
        kinds, which = np.unique(attributes, return_inverse=True)
        named = [form.memory_type(int(kind), level) for kind in kinds]
        types = np.array([_RESERVED_TYPE if one is None else int(one) for one in named], np.uint8)[which]
        start = np.uint64(base) + (leaves.astype(np.uint64) << np.uint64(shift))
        length = np.full(len(leaves), 1 << shift, np.uint64)
        runs = Runs(start, target, length, attributes, types).merged()
        self._parts.append(runs)
        whole = 1 << shift + self._index_bits(level)
        alike = len(runs.start) == 1 and int(runs.length[0]) == whole and not int(runs.target[0]) % whole
        if alike and form.large_page(level):
            size = _SIZES[whole.bit_length() - 1]
            self._add("large page", self._span(base, whole), name=f"pages of {_SIZES[shift]}", bits=size)

    def _index_bits(self, level: int) -> int:
        if self.form.mode is PagingMode.PAE and level == 3:
            return 2
        return 10 if self.form.mode is PagingMode.BITS_32 else 9

    def _bytes(self, level: int) -> int:
        return _PDPT_BYTES if self._index_bits(level) == 2 else PAGE_SIZE

    def _linear(self, address: int) -> int:
        """Return the address sign-extended, as software writes it; a guest-physical one as it is."""
        width = linear_width(self.form.mode)
        if self.form.subject == "EPT" or width == 32 or is_canonical(address, width):
            return address
        return address | (1 << 64) - (1 << width) if address < 1 << width else address


def _type_name(encoded: int) -> str:
    return "reserved" if encoded == _RESERVED_TYPE else MemoryType(encoded).name
