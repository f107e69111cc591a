"""Ranges of tables against the same work page by page, in memory with rows and in memory without."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from quire.errors import MisuseError
from quire.memory import OutOfFrames, Owner, OwnerKind
from quire.paging import EPT_FORMAT, GUEST_FORMAT, PagingFormat, Rights, Tables
from quire.testing import FailurePlan, sweep_failures

READ = Rights.READ
WRITE = Rights.READ | Rights.WRITE
LARGE, HUGE = 0x200000, 0x40000000


class Entries:
    """Tables in a dict of rows, written entry by entry; no more than `room` of them."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.rows: dict[int, np.ndarray] = {}
        self.room, self.next = room, 1

    def load(self, address: int) -> int:
        return int(self.rows[address & ~0xFFF][address >> 3 & 511])

    def store(self, address: int, entry: int) -> None:
        self.rows[address & ~0xFFF][address >> 3 & 511] = entry

    def allocate_table(self) -> int:
        if len(self.rows) >= self.room:
            raise OutOfFrames(0, Owner(OwnerKind.EPT_TABLE, "a test's"), 0, None)
        self.next += 1
        self.rows[self.next << 12] = np.zeros(512, np.uint64)
        return self.next << 12

    def free_table(self, address: int) -> None:
        del self.rows[address]


class Rows(Entries):
    """The same, with rows."""

    def row(self, address: int) -> np.ndarray:
        return self.rows[address]


class Fragile(Entries):
    """One whose store fails at last."""

    stores = 1 << 30

    def store(self, address: int, entry: int) -> None:
        self.stores -= 1
        if self.stores == 0:
            raise OutOfFrames(0, Owner(OwnerKind.EPT_TABLE, "a test's"), 0, None)
        super().store(address, entry)


def leaves(tables: Tables) -> list[tuple[int, int, int, Rights, int]]:
    return [(one.start, one.target, one.size, one.rights, one.entry) for one in tables.mappings()]


RANGE = st.tuples(st.integers(0, 1300), st.integers(0, 1200))


@pytest.mark.jitless
@pytest.mark.parametrize("memory", [Entries, Rows])
@pytest.mark.parametrize("form", [GUEST_FORMAT, EPT_FORMAT], ids=["guest", "ept"])
@given(steps=st.lists(st.tuples(st.sampled_from(["map", "unmap", "protect"]), RANGE), max_size=6))
@settings(max_examples=12, deadline=None)
def test_a_range_is_what_its_pages_are(memory: type[Entries], form: PagingFormat, steps: list) -> None:
    one, each = Tables(memory(), form), Tables(Entries(), form)
    each.map(16 * LARGE, LARGE, LARGE, READ)  # beyond all ranges
    one.map_range(16 * LARGE, LARGE, LARGE, READ, page=LARGE)
    heard: list[tuple[int, int]] = []
    one.on_change = lambda start, size: heard.append((start, size))
    for what, (first, count) in steps:
        pages = [0x1000 * n for n in range(first, first + count)]
        there = [page for page in pages if each.lookup(page) is not None]
        start, size = 0x1000 * first, 0x1000 * count
        heard.clear()
        if what == "map":
            if there:
                with pytest.raises(MisuseError):
                    one.map_range(start, 0, size, WRITE)
            else:
                targets = np.array(pages, np.uint64)[::-1] + np.uint64(1 << 30)
                one.map_range(start, targets, size, WRITE)
                for page, target in zip(pages, targets.tolist(), strict=True):
                    each.map(page, target, 0x1000, WRITE)
            assert not heard
        else:
            old = [each.unmap(page) if what == "unmap" else each.protect(page, READ) for page in there]
            found = one.unmap_range(start, size) if what == "unmap" else one.protect_range(start, size, READ)
            assert found.starts.tolist() == [leaf.start for leaf in old]
            assert found.entries.tolist() == [leaf.entry for leaf in old]
            assert found.targets.tolist() == [leaf.target for leaf in old]
            assert heard == ([(start, size)] if there else [])
        assert leaves(one) == leaves(each)
        assert one.mapped_bytes == each.mapped_bytes
    one.unmap_range(0, 1 << 48)
    assert (one.table_count, one.mapped_bytes, leaves(one)) == (1, 0, [])
    one.close()
    assert not one.memory.rows


def test_pages_of_every_size_go_together() -> None:
    tables = Tables(Rows(), EPT_FORMAT)
    tables.map(HUGE, 4 * HUGE, HUGE, WRITE)
    tables.map_range(2 * HUGE, 0, HUGE, WRITE, page=LARGE)
    tables.map_range(0, HUGE, LARGE, WRITE)
    old = tables.protect_range(0, 1 << 48, READ)
    assert sorted(set(old.levels.tolist())) == [1, 2, 3]
    assert {mapping.rights for mapping in tables.mappings()} == {READ}
    found = tables.unmap_range(0, 1 << 48)
    assert found.starts.tolist() == old.starts.tolist() == sorted(old.starts.tolist())
    assert found.targets[512] == 4 * HUGE
    assert tables.table_count == 1


@pytest.mark.parametrize("memory", [Entries, Rows])
def test_split_and_join_are_each_others_opposite(memory: type[Entries]) -> None:
    tables = Tables(memory(), EPT_FORMAT)
    tables.map(HUGE, HUGE, HUGE, WRITE)
    before = leaves(tables)
    tables.split(HUGE)
    tables.split(HUGE + LARGE)
    assert tables.join(HUGE + LARGE)
    assert tables.join(HUGE)
    assert leaves(tables) == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda tables: tables.map_range(0x1800, 0, 0x1000, READ),
            "0x1000 bytes from 0x1800 are no range of pages: give multiples of 0x1000 below 0x1000000000000",
        ),
        (
            lambda tables: tables.map_range(0x1000, 0x10, 0x1000, READ),
            "A target is not aligned: all must be multiples of 0x1000",
        ),
        (
            lambda tables: tables.map_range(0x1000, np.zeros(2, np.uint64), 0x1000, READ),
            "2 targets for 1 pages of 0x1000 bytes: give one a page",
        ),
        (
            lambda tables: tables.map_range(LARGE - 0x2000, 0, 0x4000, READ),
            "Address 0x200000 lies in a page of 0x200000 bytes: split it first",
        ),
        (
            lambda tables: tables.map_range(0x1000, 0, 0x4000, READ),
            "Address 0x3000 is mapped already at level 1: unmap it first",
        ),
        (
            lambda tables: tables.unmap_range(0x1000, LARGE),
            "Address 0x200000 lies in a page of 0x200000 bytes that the range cuts: split it first",
        ),
        (
            lambda tables: tables.protect_range(2 * LARGE - 0x1000, 0x1000, READ),
            "Address 0x200000 lies in a page of 0x200000 bytes that the range cuts: split it first",
        ),
    ],
)
def test_what_is_refused_changes_nothing(call, message: str) -> None:
    tables = Tables(Rows(), EPT_FORMAT)
    tables.map(0x3000, 0, 0x1000, READ)
    tables.map(LARGE, 0, LARGE, READ)
    before = leaves(tables), tables.table_count
    with pytest.raises(MisuseError) as refused:
        call(tables)
    assert str(refused.value) == message
    assert (leaves(tables), tables.table_count) == before


@pytest.mark.parametrize("room", range(1, 7))
def test_no_frame_for_a_table_leaves_nothing(room: int) -> None:
    memory = Rows(room)
    tables = Tables(memory, EPT_FORMAT)
    if room < 6:
        with pytest.raises(OutOfFrames):
            tables.map_range(HUGE - LARGE, 0, 2 * LARGE, WRITE)
        assert (list(memory.rows), tables.table_count, dict(tables.page_tables)) == ([tables.root], 1, {})
    else:
        tables.map_range(HUGE - LARGE, 0, 2 * LARGE, WRITE)
        assert tables.table_count == 6


@pytest.mark.parametrize("stores", [1, 700, 1024])
def test_a_store_that_fails_is_undone(stores: int) -> None:
    memory = Fragile()
    tables = Tables(memory, EPT_FORMAT)
    tables.map_range(0, 0, 2 * LARGE, WRITE)
    before = leaves(tables)
    for call in (
        lambda: tables.unmap_range(0, 2 * LARGE),
        lambda: tables.protect_range(0, 2 * LARGE, READ),
    ):
        memory.stores = stores
        with pytest.raises(OutOfFrames):
            call()
        assert leaves(tables) == before


def test_every_point_of_failure_is_unwound() -> None:
    made: list[Rows] = []

    def scenario() -> list:
        memory = Rows()
        made.append(memory)
        tables = Tables(memory, EPT_FORMAT)
        try:
            tables.map_range(0, 0, 2 * LARGE, WRITE)
            tables.map(LARGE * 8, 0, LARGE, WRITE)
            tables.split(LARGE * 8)
            tables.protect_range(0, LARGE, READ)
            tables.protect(0, WRITE)
            tables.unmap(0)
            return leaves(tables)
        finally:
            tables.close()

    def check() -> None:
        assert not made[-1].rows

    found = sweep_failures(scenario, check)
    assert {one.site for one in found} == {"map", "split", "protect", "unmap"}
    assert all("no free block of order 0" in one.text for one in found)
    with FailurePlan(1):
        pass
