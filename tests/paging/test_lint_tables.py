"""Checks of hierarchies: each rule with tables that break it and tables that do not, and tables made to be hostile."""

from collections.abc import Callable

import numpy as np
import pytest
from sampling import some

from quire.arch import ARCHITECTURE, SKYLAKE_X, CpuProfile, PagingMode
from quire.paging import Context, new_context
from quire.paging.lint import Finding, Findings, Severity, lint_tables
from quire.paging.lint import scan as scan_module
from quire.paging.lint.rules import LINT_RULES

P, RW, US, PWT, PCD, A, D, PS, G = (1 << n for n in (0, 1, 2, 3, 4, 5, 6, 7, 8))
XD = 1 << 63
DATA = P | RW | US | XD
UPPER = P | RW | US


class Frames:
    """Memory of a few frames, written by hand."""

    def __init__(self, count: int = 64) -> None:
        self.words = np.zeros(count * 512, np.uint64)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(0, self.words.nbytes)]

    def __getitem__(self, index: int) -> int:
        return int(self.words[index])

    def read(self, address: int, length: int) -> memoryview | None:
        content = self.words.view(np.uint8).data
        return content[address : address + length] if address + length <= len(content) else None

    def put(self, table: int, index: int, entry: int) -> None:
        self.words[table + 8 * index >> 3] = entry


def hierarchy() -> Frames:
    """PML4 at 0x1000 down to a page table at 0x4000, everything allowed, no page."""
    memory = Frames()
    for table in (0x1000, 0x2000, 0x3000):
        memory.put(table, 0, table + 0x1000 | UPPER)
    return memory


def lint(
    memory: Frames,
    fields: dict[Context, int] | None = None,
    *,
    profile: CpuProfile = SKYLAKE_X,
    limit: int = 100,
    whole: bool = True,
) -> Findings:
    context = new_context(profile, 1 << 52)
    context[Context.CR3] = 0x1000
    for field, value in (fields or {}).items():
        context[field] = value
    findings = Findings(limit)
    before = memory.words.copy()
    lint_tables(memory, context, findings, whole=whole)
    assert (memory.words == before).all()
    return findings


def only(findings: Findings) -> Finding:
    assert len(findings.kept) == 1, findings.kept
    return findings.kept[0]


def rules(findings: Findings) -> list[str]:
    return [one.rule for one in findings.kept]


def test_clean() -> None:
    memory = hierarchy()
    memory.put(0x4000, 0, 0x5000 | DATA)
    memory.put(0x4000, 1, 0x9000 | P | US)
    assert lint(memory).kept == []


@pytest.mark.parametrize(
    ("table", "index", "entry", "text", "fields"),
    [
        (0x1000, 1, 0x2000 | UPPER | PS, "PML4E has reserved bits 0x80 set", {}),
        (0x2000, 1, 0x2000 | UPPER | PS | XD, "PDPTE 1G has reserved bits 0x2000 set", {}),
        (
            0x3000,
            1,
            1 << 51 | UPPER,
            "PDE has reserved bits 0x8000000000000 set, beyond MAXPHYADDR, 46 (--maxphyaddr N)",
            {},
        ),
        (0x4000, 1, 0x5000 | DATA, "PTE has reserved bits 0x8000000000000000 set", {Context.NXE: 0}),
        (0x2000, 1, DATA | PS, "PDPTE 1G has reserved bits 0x80 set", {Context.PAGE_1G: 0}),
    ],
)
def test_reserved_bits(table: int, index: int, entry: int, text: str, fields: dict[Context, int]) -> None:
    memory = hierarchy()
    memory.put(table, index, entry)
    found = lint(memory, fields)
    one = next(one for one in found.kept if one.rule == "reserved bit")
    assert (one.severity, one.text, one.entry, one.section) == (
        Severity.ERROR,
        text,
        table + 8 * index,
        "SDM 3A §4.7",
    )
    assert one.fix == f"clear bits {text.split(' bits ')[1].split()[0]}"
    assert found.totals[Severity.ERROR] == 1


def test_reserved_bits_follow_the_profile() -> None:
    memory = hierarchy()
    memory.put(0x4000, 0, 1 << 47 | DATA)
    assert rules(lint(memory, whole=False)) == ["reserved bit"]
    assert lint(memory, profile=ARCHITECTURE, whole=False).kept == []


@pytest.mark.parametrize(
    ("upper", "leaf", "who"),
    [(UPPER, P | RW | US, "user"), (UPPER, P | RW, "supervisor"), (P | RW, P | RW | US, "supervisor"),
     (P | US, P | RW | US, None), (UPPER | XD, P | RW | US, None), (UPPER, P | US, None), (UPPER, DATA, None)],
)  # fmt: skip
def test_writable_and_executable(upper: int, leaf: int, who: str | None) -> None:
    """By the rights of every level."""
    memory = hierarchy()
    memory.put(0x2000, 0, 0x3000 | upper)
    memory.put(0x4000, 3, 0x5000 | leaf)
    found = lint(memory)
    if who is None:
        assert found.kept == []
        return
    one = only(found)
    assert (one.rule, one.text) == ("writable and executable", f"{who} pages can be written and executed")
    assert (one.start, one.end, one.entry, one.severity) == (0x3000, 0x4000, 0x4018, Severity.WARNING)


def test_neighbours_are_one_finding() -> None:
    memory = hierarchy()
    memory.put(0x3000, 1, 0x5000 | UPPER)
    for n, frame in ((510, 9), (511, 11)):
        memory.put(0x4000, n, frame << 12 | P | RW)
    memory.put(0x5000, 0, 0xF000 | P | RW)
    one = only(lint(memory))
    assert (one.start, one.end, one.count) == (0x1F_E000, 0x20_1000, 3)


def test_rights_of_a_table_that_is_shared() -> None:
    """A table that is read-only by its first path and writable by its second is found by the second."""
    memory = hierarchy()
    memory.put(0x3000, 0, 0x4000 | P | US)
    memory.put(0x3000, 1, 0x4000 | UPPER)
    memory.put(0x4000, 0, 0x5000 | P | RW | US)
    found = {one.rule: one for one in lint(memory).kept}
    assert set(found) == {"shared table", "writable and executable"}
    assert found["writable and executable"].start == 0x20_0000
    assert found["shared table"].text == "the table at 0x4000 is used before, for 0x0"
    assert found["shared table"].entry == 0x3008


def test_self_map() -> None:
    memory = hierarchy()
    memory.put(0x1000, 511, 0x1000 | P | RW | XD)
    one = only(lint(memory))
    assert (one.rule, one.severity) == ("recursive table", Severity.INFO)
    assert (one.start, one.end) == (0xFFFF_FF80_0000_0000, 1 << 64)


def test_outside_memory() -> None:
    memory = hierarchy()
    memory.put(0x3000, 1, 0x4_0000 | UPPER)
    memory.put(0x4000, 0, 0x10_0000 | DATA)
    memory.put(0x4000, 2, 0x10_0000 | DATA | PCD | PWT)
    found = {one.rule: one for one in lint(memory).kept if one.rule != "conflicting memory types"}
    assert found["table outside memory"].text == "PDE references a table at 0x40000, where no memory is"
    assert found["table outside memory"].severity is Severity.ERROR
    assert (found["page outside memory"].start, found["page outside memory"].end) == (0, 0x1000)
    assert "page outside memory" not in rules(lint(memory, whole=False))
    assert rules(lint(Frames(1))) == ["table outside memory"]


def test_conflicting_memory_types() -> None:
    """A frame mapped write-back by a 2 MiB page and uncacheable by a 4 KiB one."""
    memory = Frames(1024)
    for table in (0x1000, 0x2000, 0x3000):
        memory.put(table, 0, table + 0x1000 | UPPER)
    memory.put(0x3000, 1, 0x20_0000 | DATA | PS)
    memory.put(0x4000, 5, 0x20_3000 | DATA | PCD | PWT)
    memory.put(0x4000, 8, 0x20_7000 | DATA)
    one = only(lint(memory))
    assert one.rule == "conflicting memory types"
    assert one.text == "the frames at 0x203000 are mapped as UC and WB, also at 0x203000"
    assert (one.start, one.end, one.section) == (0x5000, 0x6000, "SDM 3A §11.12.4")
    memory.put(0x4000, 5, 0x20_3000 | DATA)
    assert lint(memory).kept == []


def test_pat_bit_of_a_large_page_counts() -> None:
    memory = hierarchy()
    memory.put(0x3000, 1, DATA | PS | 1 << 12)
    memory.put(0x3000, 2, DATA | PS)
    fields = {Context.PAT: 0x0007_0401_0007_0406}  # entry 4, chosen by the PAT bit, is WC
    assert rules(lint(memory, fields, whole=False)) == ["conflicting memory types"]
    assert lint(memory, whole=False).kept == []


def test_holes() -> None:
    """Only where the frames leave the same gap, and no more than 2 MiB."""
    memory = hierarchy()
    for page, frame in ((1, 0x11), (2, 0x12), (5, 0x15), (7, 0x20), (8, 0x24)):
        memory.put(0x4000, page, frame << 12 | DATA)
    memory.put(0x4000, 9, 0x25000 | P | US)
    memory.put(0x4000, 11, 0x27000 | DATA)
    one = only(lint(memory))
    assert (one.rule, one.start, one.end, one.severity) == ("hole", 0x3000, 0x5000, Severity.INFO)


def test_large_pages() -> None:
    memory = hierarchy()
    for n in range(512):
        memory.put(0x4000, n, 0x40_0000 + 0x1000 * n | DATA | (A if n % 2 else 0))
    one = only(lint(memory, whole=False))
    assert (one.rule, one.start, one.end) == ("large page", 0, 0x20_0000)
    assert one.text == "pages of 4 KiB could be mapped by pages of 2 MiB: contiguous, aligned and alike"
    for spoiled in (0x40_0000 + 0x1000 * 7 | P | US | XD, 0x40_0000 | DATA, 0):
        memory.put(0x4000, 7, spoiled)
        assert "large page" not in rules(lint(memory, whole=False))
    for n in range(512):
        memory.put(0x4000, n, 0x40_1000 + 0x1000 * n | DATA)
    assert lint(memory, whole=False).kept == []


def test_large_pages_of_a_gigabyte() -> None:
    memory = hierarchy()
    for n in range(512):
        memory.put(0x3000, n, (n << 21) | DATA | PS)
    one = only(lint(memory, whole=False))
    assert one.text == "pages of 2 MiB could be mapped by pages of 1 GiB: contiguous, aligned and alike"
    assert lint(memory, {Context.PAGE_1G: 0}, whole=False).kept == []


def test_no_execute_disable() -> None:
    memory = hierarchy()
    memory.put(0x4000, 0, 0x5000 | UPPER)
    one = only(lint(memory, {Context.NXE: 0}))
    assert (one.rule, one.text) == ("no execute disable", "EFER.NXE = 0: no page can be made execute-disable")


def test_32_bit_paging() -> None:
    memory = Frames()
    half = memory.words.view(np.uint32)
    half[0x1000 // 4] = 0x2000 | UPPER
    half[0x1000 // 4 + 1] = 0x40_0000 | UPPER | PS | 1 << 21
    half[0x2000 // 4 : 0x3000 // 4] = np.arange(1024) * 4096 + (0x80_0000 | UPPER)
    fields = {Context.MODE: PagingMode.BITS_32, Context.PSE: 1}
    found = {one.rule: one for one in lint(memory, fields, whole=False).kept}
    assert set(found) == {"no execute disable", "reserved bit", "large page"}
    assert found["reserved bit"].text == "PDE 4M has reserved bits 0x200000 set"
    assert (found["reserved bit"].entry, found["reserved bit"].start) == (0x1004, 0x40_0000)
    assert found["large page"].text.startswith("pages of 4 KiB could be mapped by pages of 4 MiB")


def test_pae_paging() -> None:
    """The root has 4 entries of their own layout; they restrict nothing."""
    memory = Frames()
    memory.put(0x1020, 0, 0x2000 | P)
    memory.put(0x1020, 1, 0x2000 | P | RW)
    memory.put(0x1020, 4, 0x2000 | P | RW)
    memory.put(0x2000, 3, DATA | PS)
    memory.put(0x2000, 4, (P | RW | PS) | 0x20_0000)
    fields = {Context.MODE: PagingMode.PAE, Context.CR3: 0x1020}
    found = {one.rule: one for one in lint(memory, fields, whole=False).kept}
    assert set(found) == {"reserved bit", "writable and executable"}
    assert found["reserved bit"].entry == 0x1028
    assert found["writable and executable"].text == "supervisor pages can be written and executed"


EPT = {Context.EPTP: 0x1000 | 3 << 3 | 6, Context.CR3: 0, Context.MODE: PagingMode.NONE}


def ept() -> Frames:
    memory = Frames()
    for table in (0x1000, 0x2000, 0x3000):
        memory.put(table, 0, table + 0x1000 | 7)
    return memory


@pytest.mark.parametrize(
    ("entry", "rule", "text", "fields"),
    [
        (0x5000 | 2 | 6 << 3, "EPT write without read", "EPT PTE allows writes and forbids reads", {}),
        (
            0x5000 | 4 | 6 << 3,
            "EPT execute-only",
            "EPT PTE allows fetches without reads",
            {Context.EPT_EXECUTE_ONLY: 0},
        ),
        (0x5000 | 1 | 2 << 3, "EPT memory type", "EPT PTE has memory type 2, which is reserved", {}),
        (0x5000 | 1 | 7 << 3, "EPT memory type", "EPT PTE has memory type 7, which is reserved", {}),
        (
            1 << 50 | 1 | 6 << 3,
            "EPT reserved bit",
            "EPT PTE has reserved bits 0x4000000000000 set, beyond MAXPHYADDR, 46 (--maxphyaddr N)",
            {},
        ),
    ],
)
def test_ept_misconfigurations(entry: int, rule: str, text: str, fields: dict[Context, int]) -> None:
    memory = ept()
    memory.put(0x4000, 9, entry)
    one = only(lint(memory, {**EPT, **fields}))
    assert (one.rule, one.severity, one.entry, one.subject) == (rule, Severity.ERROR, 0x4048, "EPT")
    assert one.text.startswith(text) and one.section == "SDM 3C §28.3.3.1"


def test_ept_that_is_sound() -> None:
    memory = ept()
    memory.put(0x4000, 9, 0x5000 | 3 | 6 << 3)
    memory.put(0x4000, 11, 0x9000 | 4 | 6 << 3)
    assert lint(memory, EPT).kept == []
    memory.put(0x4000, 9, 0x5000 | 7 | 6 << 3)
    assert only(lint(memory, EPT)).severity is Severity.INFO


@pytest.mark.parametrize(
    ("eptp", "text"),
    [
        (0x1000 | 3 << 3 | 4, "EPTP 0x101c has memory type 4: VM entry fails"),
        (0x1000 | 2 << 3 | 6, "EPTP 0x1016 has walk length 2: VM entry fails"),
        (0x1000 | 3 << 3 | 6 | 1 << 8, "EPTP 0x111e has reserved bits set: VM entry fails"),
    ],
)
def test_ept_pointer(eptp: int, text: str) -> None:
    found = lint(ept(), {**EPT, Context.EPTP: eptp})
    assert found.kept[0].text == text and found.kept[0].severity is Severity.ERROR


def test_guest_tables_through_ept() -> None:
    """GPA 0x8000 of the guest's root is HPA 0x5000: entries are named by where they lie."""
    memory = ept()
    memory.put(0x4000, 8, 0x5000 | 3 | 6 << 3)
    memory.put(0x5000, 2, 0x9000 | UPPER)
    memory.put(0x5000, 3, 0x8000 | UPPER | PS)
    fields = {**EPT, Context.MODE: PagingMode.LEVEL_4, Context.CR3: 0x8000}
    found = lint(memory, fields)
    assert [(one.subject, one.rule, one.entry) for one in found.kept] == [
        ("guest", "reserved bit", 0x5018),
        ("guest", "table outside memory", 0x5010),
    ]


def test_levels_five() -> None:
    memory = ept()
    memory.put(0x5000, 0, 0x1000 | 7)
    memory.put(0x5000, 1, 0x1000 | 7)
    assert rules(lint(memory, {**EPT, Context.EPTP: 0x5000 | 4 << 3 | 6})) == ["shared table"]


def test_limit_counts_what_it_leaves_out() -> None:
    memory = hierarchy()
    for n in range(1, 512, 2):
        memory.put(0x1000, n, UPPER | PS)
    found = lint(memory, limit=10)
    assert (len(found.kept), found.left_out, found.totals[Severity.ERROR]) == (10, 246, 256)


def _everything_refers_to_everything(rng: np.random.Generator, count: int) -> Frames:
    memory = Frames(count)
    memory.words[:] = rng.integers(0, count, count * 512, np.uint64) << np.uint64(12) | np.uint64(UPPER)
    memory.words ^= rng.integers(0, 8, count * 512, np.uint64) << np.uint64(1)
    return memory


def _all_ones(rng: np.random.Generator, count: int) -> Frames:
    del rng
    memory = Frames(count)
    memory.words[:] = (1 << 64) - 1
    return memory


def _noise(rng: np.random.Generator, count: int) -> Frames:
    memory = Frames(count)
    memory.words[:] = rng.integers(0, 1 << 63, count * 512, np.uint64)
    return memory


@pytest.mark.parametrize("make", [_everything_refers_to_everything, _all_ones, _noise])
@pytest.mark.parametrize("mode", [PagingMode.BITS_32, PagingMode.PAE, PagingMode.LEVEL_4, PagingMode.LEVEL_5])
def test_hostile_tables_end(make: Callable[[np.random.Generator, int], Frames], mode: PagingMode) -> None:
    memory = make(np.random.default_rng(3), some(24, 12))
    fields = {Context.MODE: mode, Context.PSE: 1}
    found = lint(memory, fields, limit=50)
    assert len(found.kept) <= 50
    lint(memory, {**fields, Context.EPTP: 0x2000 | 4 << 3 | 6}, limit=50)


def test_references_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_MOST_REFERENCES", 100)
    found = lint(_everything_refers_to_everything(np.random.default_rng(3), 24))
    assert "too many tables" in rules(found)


def test_every_rule_has_a_section_and_a_fix() -> None:
    for rule in LINT_RULES.values():
        assert rule.section.startswith("SDM ") and rule.fix
