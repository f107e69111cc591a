"""The audit finds what is wrong: one corruption at a time, the text names the shadow entry and what justifies none."""

from collections.abc import Callable

import pytest
from shadow_parts import ALL, LARGE, PS, RW, US, XD, A, D, P
from shadow_world import ShadowWorld

from quire.arch import Access, PagingMode
from quire.errors import MisuseError
from quire.paging import Rights
from quire.paging.shadow import ShadowPage, audit

GOOD = P | RW | US | A | D


def filled(**controls: int) -> ShadowWorld:
    """Return a world whose linear page 0 is frame 8, writable, and 0x1000 is frame 512, to be read."""
    world = ShadowWorld()
    world.set_controls(**controls)
    world.access(0, Access.WRITE, user=True)
    world.access(0x1000, Access.READ, user=True)
    assert world.audit() == []
    return world


def page_of(world: ShadowWorld, level: int) -> ShadowPage:
    """Return the shadow page of `level` on the way to linear address 0."""
    (page,) = (page for page in world.shadow.tables.pages if page.role.level == level)
    return page


def breach(world: ShadowWorld, page: ShadowPage, why: str, index: int = 0) -> str:
    """Return the text of a breach of entry `index` of `page`."""
    where = page.table + 8 * index
    return f"shadow entry {world.memory.load(where):#x} at HPA {where:#x} of {page}: {why}"


def flip(world: ShadowWorld, page: ShadowPage, bits: int, index: int = 0) -> None:
    where = page.table + 8 * index
    world.memory.store(where, world.memory.load(where) ^ bits)


def test_a_breach_says_everything() -> None:
    world = filled()
    page = page_of(world, 1)
    flip(world, page, 0x1000)
    at = page.table
    assert world.audit() == [
        f"shadow entry {world.hpa(8) ^ 0x1000 | GOOD:#x} at HPA {at:#x} of "
        f"<shadow page of guest frame 0x3, level 1, at {at:#x}>: the memory map has GPA 0x8000 at HPA "
        f"{world.hpa(8):#x}"
    ]


@pytest.mark.parametrize(
    ("index", "bits", "why"),
    [
        (1, RW | D, "guest entry {1:#x} is not dirty"),
        (0, D, "accessed is not set, or dirty is not what the right to write is"),
        (0, A, "accessed is not set, or dirty is not what the right to write is"),
        (0, US, "guest entry {0:#x} is a user page: SMEP and SMAP must know it as one"),
        (0, P, "it is neither present nor 0"),
    ],
)
def test_a_leaf_with_a_bit_too_much_or_too_few(index: int, bits: int, why: str) -> None:
    world = filled()
    page = page_of(world, 1)
    flip(world, page, bits, index)
    said = why.format(world.entry(3, 0), world.entry(3, 1))
    assert breach(world, page, said, index) in world.audit()
    assert len(world.audit()) == 1


@pytest.mark.parametrize(
    ("entry", "bits", "why"),
    [
        (8 << 12 | GOOD & ~RW, RW | D, "below access 0x6 does not allow writes"),
        (8 << 12 | GOOD & ~US, US, "below access 0x6 does not allow user accesses"),
        (8 << 12 | GOOD | XD, XD, "below access 0x6 forbids fetches"),
    ],
)
def test_a_leaf_with_a_right_that_the_guest_denies(entry: int, bits: int, why: str) -> None:
    world = ShadowWorld()
    world.put(3, 0, entry)
    world.access(0, Access.READ, user=False)
    page = page_of(world, 1)
    flip(world, page, bits)
    assert world.audit() == [breach(world, page, f"guest entry {entry:#x} {why}")]


@pytest.mark.parametrize(
    ("rights", "bits", "name"),
    [(Rights.READ | Rights.EXECUTE, RW | D, "writes"), (Rights.READ | Rights.WRITE, XD, "fetches")],
)
def test_a_leaf_with_a_right_that_the_map_denies(rights: Rights, bits: int, name: str) -> None:
    world = ShadowWorld()
    world.put(3, 0, 8 << 12 | GOOD)
    world.map.protect(8 << 12, rights)
    world.access(0, Access.READ, user=True)
    page = page_of(world, 1)
    flip(world, page, bits)
    assert world.audit() == [breach(world, page, f"the memory map does not allow {name} at GPA 0x8000")]


def test_the_reverse_map_lacks_a_leaf() -> None:
    world = filled()
    page = page_of(world, 1)
    world.shadow.tables.reverse.remove(8, 1, page.table)
    assert world.audit() == [breach(world, page, "the reverse map of guest frame 0x8 does not have it")]


def test_parents_and_children_must_know_each_other() -> None:
    world = filled()
    page, child = page_of(world, 2), page_of(world, 1)
    del child.parents[page.table]
    assert world.audit() == [breach(world, page, f"{child} does not know it as parent")]
    child.parents[page.table] = page
    child.parents[page.table + 8] = page
    assert world.audit() == [breach(world, page, f"it should reference {child}", 1)]


def test_a_link_to_another_child() -> None:
    world = filled()
    page, wrong = page_of(world, 3), page_of(world, 1)
    where, right = page.table, page_of(world, 2)
    world.memory.store(where, world.memory.load(where) & 0xFFF | wrong.table)
    entry = world.entry(1, 0)
    assert world.audit() == [
        breach(world, page, f"{wrong} does not know it as parent"),
        breach(world, page, f"{wrong} has the wrong level"),
        breach(world, page, f"guest entry {entry:#x} does not reference {wrong}"),
        breach(world, page, f"it should reference {right}"),
    ]
    world.memory.store(where, world.memory.load(where) & 0xFFF | 0xABC000)
    assert breach(world, page, "no shadow page is at 0xabc000") in world.audit()


def test_a_writable_leaf_of_a_table() -> None:
    world = ShadowWorld()
    world.put(3, 0, 2 << 12 | GOOD)
    world.access(0, Access.READ, user=True)
    page = page_of(world, 1)
    flip(world, page, RW | D)
    assert world.audit() == [breach(world, page, "guest frame 0x2 is a table that must be write-protected")]


def test_a_large_leaf_over_a_table() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD | PS)
    world.access(0, Access.READ, user=True)
    page = page_of(world, 2)
    world.shadow.tables.pages._count(LARGE + 1, 1)
    assert world.audit() == [breach(world, page, f"the large page of guest frame {LARGE:#x} holds a table")]


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entry: 0, "is not present or not accessed"),
        (lambda entry: entry & ~A, "is not present or not accessed"),
        (lambda entry: entry ^ 0x1000, "does not "),
        (lambda entry: entry & ~RW, "below access 0x6 does not allow writes"),
        (lambda entry: entry | XD, "below access 0x6 forbids fetches"),
    ],
)
def test_a_silent_write_to_a_table_in_sync(level: int, change: Callable[[int], int], why: str) -> None:
    world = filled()
    now = change(world.entry(4 - level, 0))
    world.put(4 - level, 0, now)
    page = page_of(world, level)
    said = [
        text for text in world.audit() if text.startswith(breach(world, page, f"guest entry {now:#x} {why}"))
    ]
    assert len(said) == 1
    world.shadow.written(4 - level << 12)
    assert world.audit() == []


@pytest.mark.parametrize("how", ["unmap", "move", "protect"])
def test_a_map_that_changed_unannounced(how: str) -> None:
    world = filled()
    world.map.on_change = lambda start, size: None
    page = page_of(world, 1)
    if how == "protect":
        world.map.protect(8 << 12, Rights.READ | Rights.EXECUTE)
        why = "the memory map does not allow writes at GPA 0x8000"
    else:
        getattr(world, how)(8)
        why = "the memory map has no page of 0x1000 bytes at GPA 0x8000"
        if how == "move":
            why = f"the memory map has GPA 0x8000 at HPA {world.hpa(8):#x}"
    assert world.audit() == [breach(world, page, why)]
    world.shadow.drop_range(8 << 12, 0x1000)
    assert world.audit() == []


def test_a_large_leaf_whose_map_page_was_split_and_changed() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD | PS)
    world.access(0, Access.READ, user=True)
    world.map.on_change = lambda start, size: None
    world.map.split(LARGE << 12)
    page = page_of(world, 2)
    assert world.audit() == [
        breach(world, page, "the memory map has no page of 0x200000 bytes at GPA 0x200000")
    ]


@pytest.mark.parametrize(("smep", "smap"), [(1, 0), (0, 1)])
def test_a_supervisors_page_for_now_must_not_pass_smep_or_smap(smep: int, smap: int) -> None:
    world = ShadowWorld()
    world.set_controls(wp=0, smep=smep, smap=smap)
    entry = 8 << 12 | GOOD & ~RW
    world.put(3, 0, entry)
    assert world.access(0, Access.WRITE, user=False, ac=True)[0] == "ok"
    if smap:
        assert world.shadow.stepping
        with pytest.raises(MisuseError) as error:
            audit(world.shadow)
        assert str(error.value) == (
            "The guest is executing one instruction with more rights: settle first, then audit"
        )
        world.settle()
        assert world.access(0, Access.READ, user=False, ac=True)[0] == "ok"
        flip(world, page_of(world, 1), US)
        why = "is a user page: SMEP and SMAP must know it as one"
    else:
        assert world.audit() == []
        flip(world, page_of(world, 1), XD)
        why = "is a user page: SMEP forbids the supervisor to execute it"
    assert world.audit() == [breach(world, page_of(world, 1), f"guest entry {entry:#x} {why}")]


def test_a_directory_of_4_mib_pages_counts_only_with_pse() -> None:
    world = ShadowWorld(PagingMode.BITS_32)
    world.set_controls(pse=0)
    world.put(0, 0, 1 << 12 | GOOD | PS)
    world.access(0, Access.READ, user=True)
    assert world.audit() == []


def test_nothing_is_wrong_with_a_map_of_all_rights() -> None:
    world = filled()
    assert world.map.lookup(8 << 12).rights == ALL
    assert audit(world.shadow) == []
