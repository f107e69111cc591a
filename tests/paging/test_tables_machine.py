"""Tables against a dict: map, unmap, protect, split, join in both formats, with nothing left at the end."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sampling import some

from quire.errors import MisuseError
from quire.paging import EPT_FORMAT, GUEST_FORMAT, Rights, Tables

SIZES = (0x1000, 0x200000, 0x40000000)
RIGHTS = (Rights.READ, Rights.READ | Rights.WRITE, Rights.READ | Rights.EXECUTE)


class DictMemory:
    """Tables in a dict of 8-byte entries; a table freed twice or used after free is an error."""

    def __init__(self) -> None:
        self.entries: dict[int, int] = {}
        self.live: set[int] = set()
        self.next = 1

    def load(self, address: int) -> int:
        assert address & ~0xFFF in self.live
        return self.entries.get(address, 0)

    def store(self, address: int, entry: int) -> None:
        assert address & ~0xFFF in self.live
        self.entries[address] = entry

    def allocate_table(self) -> int:
        table = self.next << 12
        self.next += 1
        self.live.add(table)
        return table

    def free_table(self, address: int) -> None:
        self.live.remove(address)


class TablesMachine(RuleBasedStateMachine):
    """`pages` is the model: start of each page to (target, size, rights)."""

    form = GUEST_FORMAT

    def __init__(self) -> None:
        super().__init__()
        self.memory = DictMemory()
        self.tables = Tables(self.memory, self.form)
        self.pages: dict[int, tuple[int, int, Rights]] = {}

    def covering(self, address: int) -> int | None:
        for start, (_, size, _) in self.pages.items():
            if start <= address < start + size:
                return start
        return None

    @rule(
        slot=st.integers(0, 7),
        huge=st.integers(0, 1),
        size=st.sampled_from(SIZES),
        place=st.integers(0, 15),
        rights=st.sampled_from(RIGHTS),
    )
    def map(self, slot: int, huge: int, size: int, place: int, rights: Rights) -> None:
        start = (huge << 39 | slot << 30 | slot << 12) & ~(size - 1)
        overlaps = any(s < start + size and start < s + self.pages[s][1] for s in self.pages)
        if overlaps:
            before = dict(self.memory.entries)
            if any(s <= start < s + self.pages[s][1] for s in self.pages):
                with pytest.raises(MisuseError):
                    self.tables.map(start, place * size, size, rights)
                assert {k: v for k, v in self.memory.entries.items() if v} == {
                    k: v for k, v in before.items() if v
                }
            return
        try:
            self.tables.map(start, place * size, size, rights)
        except MisuseError:
            # A table of pages that were unmapped one by one is gone; one that holds others is in the way.
            assert any(s & ~(size - 1) == start for s in self.pages)
            return
        self.pages[start] = (place * size, size, rights)

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.pages)))
        target, size, _ = self.pages.pop(start)
        found = self.tables.unmap(start + size // 2)
        assert (found.start, found.target, found.size) == (start, target, size)

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), rights=st.sampled_from(RIGHTS))
    def protect(self, data: st.DataObject, rights: Rights) -> None:
        start = data.draw(st.sampled_from(sorted(self.pages)))
        target, size, _ = self.pages[start]
        self.tables.protect(start, rights)
        self.pages[start] = (target, size, rights)

    @precondition(lambda self: any(size == 0x200000 for _, size, _ in self.pages.values()))
    @rule(data=st.data(), join=st.booleans())
    def split_and_perhaps_join(self, data: st.DataObject, join: bool) -> None:
        large = sorted(start for start, (_, size, _) in self.pages.items() if size == 0x200000)
        start = data.draw(st.sampled_from(large))
        target, _, rights = self.pages.pop(start)
        self.tables.split(start)
        if join:
            assert self.tables.join(start + 0x5000)
            self.pages[start] = (target, 0x200000, rights)
            return
        self.tables.unmap(start + 0x3000)
        assert not self.tables.join(start)
        for n in range(512):
            if n != 3:
                self.tables.unmap(start + n * 0x1000)

    @precondition(lambda self: any(size == 0x1000 for _, size, _ in self.pages.values()))
    @rule(data=st.data(), regions=st.integers(1, 3), huge=st.integers(0, 2), slot=st.integers(0, 40))
    def move_tables(self, data: st.DataObject, regions: int, huge: int, slot: int) -> None:
        """Small pages of some regions go, by their tables, to where nothing is; large ones stay."""
        small = sorted(start for start, (_, size, _) in self.pages.items() if size == 0x1000)
        first = data.draw(st.sampled_from(small)) & -0x200000
        end, to = first + regions * 0x200000, (huge << 39) + (slot << 21) + (5 << 30)
        overlap = to < end and first < to + end - first
        taken = any(start < to + end - first and to < start + self.pages[start][1] for start in self.pages)
        if overlap or taken:
            return
        self.tables.move_tables(first, end, to)
        for start in small:
            if first <= start < end:
                self.pages[start + to - first] = self.pages.pop(start)

    @invariant()
    def agrees(self) -> None:
        found = {m.start: (m.target, m.size, m.rights) for m in self.tables.mappings()}
        assert found == self.pages
        assert self.tables.mapped_bytes == sum(size for _, size, _ in self.pages.values())
        assert self.tables.table_count == len(self.memory.live)
        for start, (target, size, _) in self.pages.items():
            assert self.tables.target(start + size - 1) == target + size - 1

    def teardown(self) -> None:
        self.tables.close()
        assert not self.memory.live


class EptTablesMachine(TablesMachine):
    """The same in the EPT format."""

    form = EPT_FORMAT


TestGuestTables = TablesMachine.TestCase
TestEptTables = EptTablesMachine.TestCase
TestGuestTables.settings = TestEptTables.settings = settings(
    max_examples=some(30, 15), stateful_step_count=20, deadline=None
)


def test_messages() -> None:
    tables = Tables(DictMemory(), GUEST_FORMAT)
    tables.map(0x200000, 0x400000, 0x200000, Rights.READ)
    with pytest.raises(MisuseError) as error:
        tables.map(0x201000, 0x1000, 0x1000, Rights.READ)
    assert str(error.value) == "Address 0x201000 lies in a page of 0x200000 bytes: split it first"
    with pytest.raises(MisuseError) as error:
        tables.map(0x1234, 0x1000, 0x1000, Rights.READ)
    assert str(error.value) == "Mapping 0x1234 to 0x1000 is not aligned: both must be multiples of 0x1000"
    with pytest.raises(MisuseError) as error:
        tables.unmap(0x5000)
    assert str(error.value) == "Nothing is mapped at 0x5000: map it first"
    with pytest.raises(MisuseError) as error:
        tables.map(0, 0, 0x3000, Rights.READ)
    assert str(error.value) == "No page has 0x3000 bytes: give 0x1000, 0x200000 or 0x40000000"
