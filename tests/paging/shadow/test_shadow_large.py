"""Large pages: as large in the shadow as both dimensions allow, and no table of the guest within them."""

import pytest
from shadow_parts import ALL, LARGE, PS, RW, US, A, D, P
from shadow_world import ShadowWorld

from quire.arch import Access, PagingMode
from quire.memory import Fill, Owner, OwnerKind
from quire.paging import Context, Result
from quire.paging._kernels import walk

GOOD = P | RW | US | A | D
GUEST = Owner(OwnerKind.GUEST_PAGE, "guest memory")
PLAIN = 12


def shift_of(world: ShadowWorld, gva: int, access: Access = Access.READ) -> int:
    """Return log2 of the page by which hardware translates `gva`, after an access that passes."""
    assert world.check_access(gva, access, user=True)[0] == "ok"
    world.settle()
    assert world.audit() == []
    assert walk(world.memory.words, world.hardware, gva, access, world.result) == 0
    return int(world.result[Result.GUEST_SHIFT])


@pytest.mark.parametrize("mode", [PagingMode.LEVEL_4, PagingMode.LEVEL_5, PagingMode.PAE])
def test_2_mib_over_2_mib_stay_large(mode: PagingMode) -> None:
    world = ShadowWorld(mode)
    directory = {PagingMode.LEVEL_4: 2, PagingMode.LEVEL_5: 3, PagingMode.PAE: 0}[mode]
    world.put(directory, 0, LARGE << 12 | GOOD | PS)
    assert shift_of(world, 0x5000, Access.WRITE) == 21
    world.close()


def test_2_mib_over_4_kib_are_splintered_and_joined_again() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD | PS)
    world.map.split(LARGE << 12)
    assert shift_of(world, 0x5000) == PLAIN
    assert world.map.join(LARGE << 12)
    assert shift_of(world, 0x5000) == 21
    world.map.split(LARGE << 12)
    assert shift_of(world, 0x5000) == PLAIN
    world.close()


def test_4_kib_over_2_mib_are_small() -> None:
    world = ShadowWorld()
    assert shift_of(world, 0x1000) == PLAIN  # frame 512
    world.close()


def test_2_mib_around_a_table_are_splintered() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD | PS)
    assert shift_of(world, 0x5000, Access.WRITE) == 21
    world.kernel_write(2, 1, LARGE + 1 << 12 | GOOD)
    world.put(LARGE + 1, 0, 8 << 12 | GOOD)
    assert shift_of(world, 1 << 21) == PLAIN  # now frame 513 is a table
    assert shift_of(world, 0x5000, Access.WRITE) == PLAIN
    assert shift_of(world, 0x0000) == PLAIN
    found = world.guest_write(
        0x1000, 0, 9 << 12 | GOOD, user=True, ac=False
    )  # by the guest, in its large page
    assert found == ("ok", world.hpa(LARGE + 1))
    world.root(0)
    assert world.check_access(1 << 21, Access.READ, user=True) == ("ok", world.hpa(9))
    world.shadow.zap()
    assert shift_of(world, 0x5000) == 21
    world.close()


def test_a_clean_large_page_is_written_once_it_is_dirty() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD & ~D | PS)
    for split in (False, True):
        if split:
            world.kernel_write(2, 0, LARGE << 12 | GOOD & ~D | PS)
            world.map.split(LARGE << 12)
        world.check_access(0x5000, Access.READ, user=True)
        assert not world.entry(2, 0) & D
        world.check_access(0x5000, Access.WRITE, user=True)
        assert world.entry(2, 0) & D
        world.check_access(0x6000, Access.WRITE, user=True)
        assert world.audit() == []
    world.close()


def test_large_pages_that_overlap() -> None:
    world = ShadowWorld()
    world.put(2, 0, LARGE << 12 | GOOD | PS)
    world.put(2, 1, LARGE << 12 | GOOD & ~RW | PS)
    assert shift_of(world, 0x5000, Access.WRITE) == 21
    assert shift_of(world, 0x205000) == 21
    assert world.check_access(0x205000, Access.WRITE, user=True)[0] == "fault"
    assert shift_of(world, 0x1000 | 1 << 30) == 21
    world.close()


@pytest.mark.parametrize(("host", "shift"), [(30, 30), (21, 21)])
def test_1_gib(host: int, shift: int) -> None:
    world = ShadowWorld(memory_bytes=3 << 30)
    block = world.pool.allocate(host - 12, GUEST, Fill.ZERO)
    world.map.map(1 << 30, block << 12, 1 << host, ALL)
    world.put(1, 0, 1 << 30 | GOOD | PS)
    assert shift_of(world, 0x5000, Access.WRITE) == shift
    assert world.access(0x1234567, Access.READ, user=True) == (
        ("ok", (block << 12) + 0x1234567) if host == 30 else ("no memory", 1 << 30 | 0x1234567)
    )
    world.put(1 << 18 | 7, 0, 8 << 12 | GOOD)  # a table in the large page
    world.kernel_write(2, 1, (1 << 18 | 7) << 12 | GOOD)
    world.kernel_write(1, 1, 2 << 12 | GOOD)
    assert shift_of(world, 1 << 30 | 1 << 21) == PLAIN
    assert shift_of(world, 0x5000, Access.WRITE) == PLAIN
    if host == 30:
        assert shift_of(world, 0x205000) == 21
        world.map.split(1 << 30)
        assert shift_of(world, 0x405000) == 21
    world.close()


def test_no_paging_takes_the_pages_of_the_map() -> None:
    world = ShadowWorld(PagingMode.NONE)
    assert shift_of(world, LARGE << 12) == 21
    assert shift_of(world, 0x3000) == PLAIN
    world.close()


def test_4_mib_over_2_mib() -> None:
    world = ShadowWorld(PagingMode.BITS_32)
    world.put(0, 0, GOOD | PS)
    assert shift_of(world, 0x205000, Access.WRITE) == 21
    assert shift_of(world, 0x5000) == PLAIN  # frame 5 is in 4 KiB pages of the map
    world.close()


@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_large_page_that_holds_its_own_tables(level: int) -> None:
    world = ShadowWorld()
    table = LARGE + 1
    world.put(4 - level, 0, (5 - level) << 12 | GOOD)
    if level == 4:
        world.guest[Context.CR3] = table << 12
        world.put(table, 0, 1 << 12 | GOOD)
        world.root(table)
    else:
        world.put(3 - level, 0, table << 12 | GOOD)
        world.put(table, 0, 2 << 12 | GOOD)
    world.put(table if level == 2 else 2, 0, LARGE << 12 | GOOD | PS)
    assert shift_of(world, 0x2000, Access.WRITE) == PLAIN
    world.close()
