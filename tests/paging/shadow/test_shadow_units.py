"""Roles, limits, messages, and what the counts say of roots, of tables out of sync, floods and reclaim."""

import itertools
from dataclasses import asdict

import pytest
from shadow_parts import LARGE, PS, RW, US, XD, A, D, P
from shadow_world import ShadowWorld

from quire.arch import Access, PagingMode
from quire.errors import MisuseError
from quire.paging import Context
from quire.paging.shadow import LEAST_PAGES, Role, Shadow
from quire.paging.shadow.role import ALL_ACCESS, combine

GOOD = P | RW | US | A | D


def counts(world: ShadowWorld) -> dict[str, int]:
    """Return the counts by name."""
    return asdict(world.shadow.counts())


def grown(world: ShadowWorld, before: dict[str, int]) -> dict[str, int]:
    """Return the counts that are no longer as `before`, by how much."""
    return {name: n - before[name] for name, n in counts(world).items() if n != before[name]}


@pytest.mark.parametrize("nxe", [False, True])
def test_access_is_what_every_entry_allows(nxe: bool) -> None:
    words = [rw | us | xd for rw, us, xd in itertools.product((0, RW), (0, US), (0, XD))]
    for above, entry in itertools.product(words, repeat=2):
        left = combine(above, entry | P | A | 0x5000, nxe=nxe)
        assert bool(left & RW) == bool(above & RW and entry & RW)
        assert bool(left & US) == bool(above & US and entry & US)
        assert bool(left & XD) == (nxe and bool((above | entry) & XD))
        assert not left & ~(RW | US | XD)
    assert combine(ALL_ACCESS, words[-1], nxe=False) == ALL_ACCESS


@pytest.mark.parametrize(
    ("controls", "same"),
    [
        ({"wp": 1, "smep": 1}, True),  # hardware has SMEP itself
        ({"wp": 1, "smap": 1}, True),
        ({"wp": 0}, False),
        ({"wp": 0, "smep": 1}, False),
        ({"nxe": 0}, False),
    ],
)
def test_a_role_has_the_settings_that_entries_depend_on(controls: dict[str, int], same: bool) -> None:
    world = ShadowWorld()
    before = world.shadow.coherence.root
    for name, value in controls.items():
        world.guest[Context[name.upper()]] = value
    assert world.shadow.load(0) is not same
    assert (world.shadow.coherence.root is before) is same
    world.close()


def test_smep_and_smap_are_in_the_role_without_wp_alone() -> None:
    role = Role(PagingMode.LEVEL_4, 4, ALL_ACCESS, wp=True, nxe=True, smep=False, smap=False)
    world = ShadowWorld()
    world.set_controls(smep=1, smap=1)
    assert world.shadow.coherence.root.role == role
    world.set_controls(wp=0)
    assert world.shadow.coherence.root.role == role._replace(wp=False, smep=True, smap=True)
    world.close()


def test_messages() -> None:
    with pytest.raises(MisuseError) as error:
        ShadowWorld(limit=LEAST_PAGES - 1)
    assert str(error.value) == "63 shadow pages are too few for one instruction's walks: allow at least 64"
    for prefetch in (0, 3, 1024):
        with pytest.raises(MisuseError) as error:
            ShadowWorld(prefetch=prefetch)
        assert str(error.value) == (
            f"{prefetch} entries cannot be fetched together: give a power of two up to 512"
        )
    assert isinstance(ShadowWorld(prefetch=512).shadow, Shadow)


def test_a_switch_back_to_a_root_costs_no_fill() -> None:
    world = ShadowWorld()
    world.access(0, Access.READ, user=True)
    world.root(1)
    before = counts(world)
    world.root(0)
    assert world.access(0, Access.READ, user=True)[0] == "ok"
    assert grown(world, before) == {"roots_reused": 1}
    before = counts(world)
    world.root(4)
    assert grown(world, before) == {"roots_built": 1, "table_pages": 1}
    world.close()


def test_a_page_table_goes_out_of_sync_and_comes_back() -> None:
    world = ShadowWorld()
    world.access(0, Access.WRITE, user=True)
    before = counts(world)
    assert not world.kernel_write(3, 0, 9 << 12 | GOOD)
    assert grown(world, before) == {"unsynced": 1}
    assert not world.shadow.write_exits(3 << 12)
    assert world.shadow.coherence.unsync_pages == 1
    before = counts(world)
    world.root(0)
    assert grown(world, before) == {"resynced": 1, "flushes": 1}
    assert world.shadow.write_exits(3 << 12)
    assert world.shadow.coherence.unsync_pages == 0
    world.close()


def test_invlpg_leaves_the_page_table_out_of_sync() -> None:
    world = ShadowWorld()
    world.access(0, Access.WRITE, user=True)
    world.kernel_write(3, 0, 9 << 12 | GOOD)
    before = counts(world)
    world.invlpg(0)
    assert grown(world, before) == {}  # reached in one way: the guest's own flush is all that TLBs need
    assert world.shadow.coherence.unsync_pages == 1
    world.root(0, 1)
    world.access(0, Access.READ, user=True)
    world.kernel_write(3, 0, 10 << 12 | GOOD)
    before = counts(world)
    world.invlpg(0)  # it may be cached under the other PCID too
    assert grown(world, before) == {"flushes": 1}
    world.close()


def test_three_writes_without_a_use_end_the_shadow_of_a_table() -> None:
    world = ShadowWorld()
    world.access(0, Access.READ, user=True)
    for n in (1, 2):
        assert world.kernel_write(2, 100 + n, 0)
    before = counts(world)
    assert before["unshadowed"] == 0
    assert world.kernel_write(2, 103, 0)
    assert grown(world, before) == {
        "writes_followed": 1,
        "unshadowed": 1,
        "zapped": 1,
        "table_pages": -1,
        "flushes": 1,
    }
    assert not world.shadow.write_exits(2 << 12)
    world.close()


def test_a_use_between_writes_keeps_the_shadow_of_a_table() -> None:
    world = ShadowWorld()
    for n in range(8):
        world.shadow.tables.drop_leaves(8, 1)
        world.kernel_write(2, 1, 3 << 12 | GOOD if n % 2 else 0)  # links go, so the walk down is made again
        world.access(0, Access.READ, user=True)
        world.access(1 << 21, Access.READ, user=True)
    assert counts(world)["unshadowed"] == 0
    world.close()


def test_the_root_in_use_is_not_taken_by_a_flood() -> None:
    world = ShadowWorld()
    root = world.shadow.coherence.root
    world.access(0, Access.READ, user=True)
    for n in range(10):
        assert world.kernel_write(0, 100 + n, 0)
    assert world.shadow.coherence.root is root
    assert world.shadow.write_exits(0)
    assert counts(world)["unshadowed"] == 0
    world.close()


def test_pages_least_recently_used_are_reclaimed() -> None:
    world = ShadowWorld(wire=False)
    for table, n in itertools.product(range(16), repeat=2):  # every frame a table at every level
        world.put(table, n, n << 12 | GOOD)
        world.put(table, n + 16, n << 12 | GOOD & ~RW)
    for n in range(200):
        a, b, c = n % 32, n * 7 % 32, n * 11 % 32
        for gva in (a << 39 | b << 30 | c << 21 | 5 << 12, 0):
            page = 5 if gva else 0
            assert world.access(gva, Access.READ, user=True) == ("ok", world.hpa(page))
        assert len(world.shadow.tables.pages) <= 64
    said = counts(world)
    assert said["reclaimed"] > 0
    assert said["zapped"] >= said["reclaimed"]
    assert world.audit() == []
    world.close()


@pytest.mark.parametrize("prefetch", [1, 2, 8, 16])
def test_prefetch_fills_neighbours_that_the_guest_has_used(prefetch: int) -> None:
    world = ShadowWorld(prefetch=prefetch)
    for n in range(16):
        world.put(3, n, 8 << 12 | GOOD if n % 2 == 0 else 8 << 12 | P | RW | US)
    world.access(0, Access.READ, user=True)
    assert counts(world)["prefetched"] == max(0, prefetch // 2 - 1)
    before = counts(world)
    for n in range(0, prefetch, 2):
        assert world.access(n << 12, Access.WRITE, user=True)[0] == "ok"
    assert grown(world, before) == {}
    world.close()


def test_zap_by_frame_role_and_all() -> None:
    world = ShadowWorld()
    world.access(0, Access.READ, user=True)
    assert world.shadow.zap(frame=3) == 1
    world.access(0, Access.READ, user=True)
    (leaves,) = {page.role for page in world.shadow.tables.pages if page.role.level == 1}
    assert world.shadow.zap(role=leaves) == 1
    world.access(0, Access.READ, user=True)
    assert world.shadow.zap() == 4
    assert [page.role.level for page in world.shadow.tables.pages] == [4]  # the root in use is emptied
    assert world.access(0, Access.READ, user=True)[0] == "ok"
    world.close()


def test_a_root_outside_the_memory_map_waits_for_it() -> None:
    world = ShadowWorld()
    world.unmap(0)
    world.root(0)
    assert world.access(0, Access.READ, user=True) == ("no memory", 0)
    world.bring_back()
    assert world.access(0, Access.READ, user=True) == ("ok", world.hpa(8))
    assert world.kernel_write(0, 0, 0)
    assert world.access(0, Access.READ, user=True)[0] == "fault"
    world.close()


def test_4_mib_pages_are_two_leaves() -> None:
    world = ShadowWorld(PagingMode.BITS_32)
    world.put(0, 0, GOOD | PS)
    assert world.access(0x200000, Access.WRITE, user=True) == ("ok", world.hpa(LARGE))
    assert world.access(0x9000, Access.WRITE, user=True) == ("ok", world.hpa(9))
    assert world.audit() == []
    world.close()
