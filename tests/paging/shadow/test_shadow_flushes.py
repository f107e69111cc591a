"""Single stories of staleness: each is a few steps that once went wrong, or that nearly do."""

import pytest
from shadow_parts import LARGE, PS, RW, US, A, D, P
from shadow_world import ShadowWorld

from quire.arch import Access, PagingMode
from quire.paging import Rights

GOOD = P | RW | US | A | D
GVA = 0  # frames 0, 1, 2, 3 are its tables, frame 8 its page
OTHER = 0xFFFF_FF80_0000_0000  # the same tables by entry 511 of the root


def world(mode: PagingMode = PagingMode.LEVEL_4, **controls: int) -> ShadowWorld:
    """Return a world of `mode` whose settings are `controls`, those not named off."""
    made = ShadowWorld(mode)
    made.set_controls(**{"wp": 1, "nxe": 1, "smep": 0, "smap": 0} | controls)
    return made


def test_a_page_table_that_was_left_to_the_guest_may_be_stale_until_it_flushes() -> None:
    one = world()
    one.put(3, 0, 8 << 12 | GOOD)
    assert one.check_access(GVA, Access.WRITE, user=True) == ("ok", one.hpa(8) << 0)
    assert not one.kernel_write(3, 0, 9 << 12 | GOOD)
    assert one.check_access(GVA, Access.WRITE, user=True) == ("ok", one.hpa(8))
    one.invlpg(GVA + 0x1000)
    assert one.check_access(GVA, Access.WRITE, user=True) == ("ok", one.hpa(8))
    one.invlpg(GVA)
    assert one.check_access(GVA, Access.WRITE, user=True) == ("ok", one.hpa(9))
    one.close()


@pytest.mark.parametrize("level", [1, 2])
def test_a_flush_reaches_a_page_table_that_is_unlinked_for_a_while(level: int) -> None:
    one = world()
    one.check_access(GVA, Access.READ, user=True)
    assert not one.kernel_write(3, 0, 9 << 12 | GOOD)
    above = 3 - 1 - level
    one.kernel_write(above, 0, 0)
    one.root(0)  # MOV to CR3 while nothing leads to the page table
    one.kernel_write(above, 0, above + 1 << 12 | GOOD)
    one.check_access(GVA + 0x1000, Access.READ, user=True)  # links it again
    assert one.check_access(GVA, Access.READ, user=True) == ("ok", one.hpa(9))
    assert one.audit() == []
    one.close()


def test_a_new_way_to_a_table_does_not_see_what_was_cached_by_another() -> None:
    one = world()
    one.kernel_write(0, 511, 0)
    one.check_access(GVA, Access.READ, user=True)
    assert not one.kernel_write(3, 0, 9 << 12 | GOOD)
    one.kernel_write(0, 511, 1 << 12 | GOOD)
    one.check_access(OTHER + 0x1000, Access.READ, user=True)
    assert one.check_access(OTHER, Access.READ, user=True) == ("ok", one.hpa(9))
    one.close()


def test_a_root_that_another_pcid_left_stale_is_fresh_for_a_new_one() -> None:
    one = world()
    one.check_access(GVA, Access.READ, user=True)
    assert not one.kernel_write(3, 0, 9 << 12 | GOOD)
    one.root(0, 1, flush=False)  # nothing is cached for PCID 1 yet
    assert one.check_access(GVA, Access.READ, user=True) == ("ok", one.hpa(9))
    one.close()


@pytest.mark.parametrize(("control", "access"), [("smep", Access.FETCH), ("smap", Access.READ)])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_supervisor_page_that_becomes_a_user_page(control: str, access: Access, level: int) -> None:
    one = world(**{control: 1})
    for depth in range(4):
        one.put(depth, 0, (depth + 1 if depth < 3 else 8) << 12 | GOOD & ~(US if 4 - depth == level else 0))
    assert one.check_access(GVA, access, user=False) == ("ok", one.hpa(8))
    one.kernel_write(4 - level, 0, (5 - level if level > 1 else 8) << 12 | GOOD)
    one.root(0)
    assert one.check_access(GVA, access, user=False)[0] == "fault"
    one.close()


@pytest.mark.parametrize("table", [0, 1, 2, 3])
def test_a_passing_right_to_write_a_table_leaves_nothing_behind(table: int) -> None:
    one = world(wp=0, smap=1)
    one.put(3, 9, table << 12 | P | US | A | D)
    gva = GVA | 9 << 12
    one.access(GVA, Access.READ, user=True)
    one.guest_write(gva, 100, 0, user=False, ac=True)
    assert one.check_access(gva, Access.READ, user=False)[0] == "fault"
    assert one.check_access(gva, Access.READ, user=False, ac=True) == ("ok", one.hpa(table))
    assert one.audit() == []
    one.close()


@pytest.mark.parametrize("bit", range(52, 63))
def test_bits_that_pae_reserves_are_not_prefetched(bit: int) -> None:
    one = ShadowWorld(PagingMode.PAE, prefetch=8)
    one.put(1, 1, 9 << 12 | GOOD | 1 << bit)
    one.check_access(0, Access.READ, user=True)
    assert one.check_access(0x1000, Access.READ, user=True)[0] == "fault"
    one.close()


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("bit", range(52, 63))
def test_bits_that_pae_reserves_are_seen_when_they_are_set(bit: int, level: int) -> None:
    one = ShadowWorld(PagingMode.PAE)
    one.check_access(0, Access.READ, user=True)
    one.kernel_write(2 - level, 0, one.entry(2 - level, 0) | 1 << bit)
    one.root(0)
    assert one.check_access(0, Access.READ, user=True)[0] == "fault"
    one.close()


@pytest.mark.parametrize("first", [0, 1])
def test_cr4_pse_changes_what_a_directory_entry_is(first: int) -> None:
    one = ShadowWorld(PagingMode.BITS_32)
    one.set_controls(pse=first)
    one.put(
        0, 1, (0 if first else 1) << 12 | GOOD | PS
    )  # frame 1 with PSE off is the page table of the others
    for gva in (1 << 22, 1 << 22 | 0x1000):
        one.check_access(gva, Access.READ, user=True)
    assert one.audit() == []
    one.set_controls(pse=1 - first)
    one.invpcid(2, 0, 0)
    for gva in (1 << 22, 1 << 22 | 0x1000):
        one.check_access(gva, Access.READ, user=True)
    assert one.audit() == []
    one.close()


def test_a_large_page_without_the_right_to_write_under_wp_0() -> None:
    one = world(wp=0)
    one.put(2, 0, LARGE << 12 | (P | US | A | D | PS))
    one.put(LARGE + 1, 0, 0)
    one.map.split(LARGE << 12)
    hpa = one.hpa(LARGE)
    for user, access in (
        (True, Access.READ),
        (False, Access.WRITE),
        (True, Access.READ),
        (False, Access.READ),
    ):
        assert one.check_access(GVA, access, user=user) == ("ok", hpa)
        assert one.audit() == []
    assert one.check_access(GVA, Access.WRITE, user=True)[0] == "fault"
    one.close()


def test_memory_that_may_only_be_executed_is_not_read() -> None:
    one = world()
    one.map.protect(8 << 12, Rights.EXECUTE)
    assert one.check_access(GVA, Access.FETCH, user=True) == ("ok", one.hpa(8))
    assert one.shadow.stepping
    one.settle()
    assert one.check_access(GVA, Access.READ, user=True)[0] == "no memory"
    one.close()


def test_two_pcids_over_one_page_table() -> None:
    one = world()
    one.root(0, 1)
    one.check_access(GVA, Access.READ, user=True)  # PCID 1 may hold frame 8
    one.root(0, 0)
    one.kernel_write(3, 0, 9 << 12 | GOOD)
    one.invlpg(GVA)
    one.check_access(GVA, Access.READ, user=True)  # PCID 0 may hold frame 9
    one.kernel_write(3, 0, 10 << 12 | GOOD)
    one.root(0, 1, flush=False)
    assert one.check_access(GVA, Access.READ, user=True)[1] in (one.hpa(8), one.hpa(10))
    one.close()
