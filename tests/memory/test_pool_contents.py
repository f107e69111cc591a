"""What free and new frames contain: poison, holes, zeros, and writes after free."""

from __future__ import annotations

import pickle

import pytest

from quire.errors import InternalError, MisuseError
from quire.memory import FRAME_SIZE, Fill, HostMemory, Owner, OwnerKind, Pool, UseAfterFree

PAGE = Owner(OwnerKind.GUEST_PAGE, "vm0")
TABLE = Owner(OwnerKind.EPT_TABLE, "vm1")
REPORT = " This is a bug in Quire: please report it."
HUGE = 512  # frames of an order-9 block


def says(call, error=MisuseError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def host():
    with HostMemory(1024 * FRAME_SIZE) as memory:
        yield memory


def contents(host, hfn, count=1):
    return set(host.octets[hfn * FRAME_SIZE : (hfn + count) * FRAME_SIZE].tolist())


class TestPoison:
    @pytest.mark.parametrize("order", [0, 1, 5, 8])
    def test_fills(self, host, order):
        pool, count = Pool(0, 256, host), 1 << order
        hfn = pool.allocate(order, PAGE)
        assert contents(host, hfn, count) == {0xA5}
        pool.free(hfn, order, PAGE)
        assert contents(host, hfn, count) == {0x5A}
        assert pool.allocate(order, PAGE, Fill.ZERO) == hfn
        assert contents(host, hfn, count) == {0}

    @pytest.mark.parametrize("order", [0, 3, 9])
    def test_zero_of_new_memory_touches_nothing(self, host, order):
        pool = Pool(0, 1024, host)
        hfn = pool.allocate(order, PAGE, Fill.ZERO)
        assert host.is_hole(hfn, 1 << order)

    @pytest.mark.parametrize("order", [0, 2, 8])
    def test_a_write_after_free_is_found(self, host, order):
        pool = Pool(0, 256, host)
        hfn = pool.allocate(order, PAGE)
        pool.free(hfn, order, PAGE)
        last = hfn + (1 << order) - 1
        host.write(last * FRAME_SIZE + 0xABC, b"\x01")
        with pytest.raises(UseAfterFree) as caught:
            pool.allocate(order, TABLE)
        error = caught.value
        assert str(error) == (
            f"frame {last:#x} was written while it was free: the word at offset 0xab8 is "
            "0x5a5a5a015a5a5a5a, not 0x5a5a5a5a5a5a5a5a; "
            "look for a mapping or a view of the frame that outlived its free()." + REPORT
        )
        assert (error.hfn, error.offset, error.value) == (last, 0xAB8, 0x5A5A5A015A5A5A5A)
        assert error.expected == 0x5A5A5A5A5A5A5A5A and isinstance(error, InternalError)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        pool.audit()
        assert pool.frames_of(OwnerKind.FREE) == 256  # the block is as free as before
        host.fill(last, 1, 0x5A)
        assert pool.allocate(order, TABLE) == hfn

    @pytest.mark.parametrize("order", [0, 4, 9])
    @pytest.mark.parametrize("poison", [True, False])
    def test_a_write_to_a_hole_is_found(self, host, order, poison):
        pool = Pool(0, 1024, host, poison)
        if order == 9:
            pool.free(pool.allocate(9, PAGE), 9, PAGE)
        host.store(0xFF8, 3)
        assert says(lambda: pool.allocate(order, PAGE, Fill.ZERO), UseAfterFree) == (
            "frame 0x0 was written while it was free: the word at offset 0xff8 is 0x3, not 0x0; "
            "look for a mapping or a view of the frame that outlived its free()." + REPORT
        )

    @pytest.mark.parametrize("order", [0, 4, 9])
    def test_reading_a_free_hole_does_no_harm(self, host, order):
        pool = Pool(0, 1024, host)
        assert not host.words.any()
        hfn = pool.allocate(order, PAGE, Fill.ZERO)
        assert contents(host, hfn, 1 << order) == {0}


class TestLargeBlocks:
    def test_free_returns_memory(self, host):
        pool = Pool(0, 1024, host)
        hfn = pool.allocate(9, PAGE)
        assert host.resident_bytes() == 0  # POISON leaves large blocks zero
        host.fill(hfn, HUGE, 1)
        pool.free(hfn, 9, PAGE)
        assert host.resident_bytes() == 0 and host.is_hole(0, 1024)

    @pytest.mark.parametrize("fill", Fill)
    def test_poisoned_frames_joined_to_a_large_block_are_discarded(self, host, fill):
        pool = Pool(0, 1024, host)
        frames = [pool.allocate(0, PAGE) for _ in range(HUGE)]
        for hfn in frames:
            pool.free(hfn, 0, PAGE)
        assert host.resident_bytes() == HUGE * FRAME_SIZE
        assert pool.allocate(9, TABLE, fill) == 0
        assert host.is_hole(0, HUGE)
        pool.free(0, 9, TABLE)
        pool.audit()

    def test_mixed_contents_join_and_split(self, host):
        pool = Pool(0, 1024, host)
        pool.free(pool.allocate(9, PAGE), 9, PAGE)  # DISCARDED 0-511
        small = [pool.allocate(0, PAGE) for _ in range(3)]
        for hfn in small:
            pool.free(hfn, 0, PAGE)  # POISONED 0-2, the rest DISCARDED, 512-1023 FRESH
        assert pool.allocate(3, PAGE, Fill.ZERO) == 0
        assert contents(host, 0, 8) == {0}
        pool.free(0, 3, PAGE)
        host.store(0x7008, 1)
        with pytest.raises(UseAfterFree) as caught:
            pool.allocate(10, PAGE, Fill.ZERO)
        assert (caught.value.hfn, caught.value.offset, caught.value.expected) == (7, 8, 0x5A5A5A5A5A5A5A5A)
        host.store(0x7008, 0x5A5A5A5A5A5A5A5A)
        assert pool.allocate(10, PAGE, Fill.ZERO) == 0
        assert host.is_hole(0, 1024)

    def test_a_write_beyond_the_first_poisoned_stretch(self, host):
        pool = Pool(0, 1024, host)
        pool.free(pool.allocate(1, PAGE), 1, PAGE)
        host.store(700 * FRAME_SIZE, 9)
        with pytest.raises(UseAfterFree) as caught:
            pool.allocate(10, PAGE)
        assert (caught.value.hfn, caught.value.value, caught.value.expected) == (700, 9, 0)

    def test_a_write_far_into_poisoned_frames(self, host):
        pool = Pool(0, 1024, host)
        for hfn in [pool.allocate(0, PAGE) for _ in range(1024)]:
            pool.free(hfn, 0, PAGE)
        host.store(1023 * FRAME_SIZE + 16, 9)
        with pytest.raises(UseAfterFree) as caught:
            pool.allocate(10, PAGE)
        assert (caught.value.hfn, caught.value.offset, caught.value.value) == (1023, 16, 9)


class TestWithoutPoison:
    def test_nothing_is_filled_but_zero_is_exact(self, host):
        pool = Pool(0, 1024, host, poison=False)
        hfn = pool.allocate(1, PAGE)
        assert host.is_hole(hfn, 2)
        host.fill(hfn, 2, 7)
        pool.free(hfn, 1, PAGE)
        assert contents(host, hfn, 2) == {7}
        assert pool.allocate(0, PAGE) == hfn and contents(host, hfn) == {7}
        pool.free(hfn, 0, PAGE)
        assert pool.allocate(0, PAGE, Fill.ZERO) == hfn and contents(host, hfn) == {0}
        pool.free(hfn, 0, PAGE)
        assert pool.allocate(9, PAGE, Fill.ZERO) == 0 and contents(host, 0, HUGE) == {0}

    def test_a_pool_of_numbers_touches_no_memory(self):
        pool = Pool(1 << 39, 1 << 20)
        hfn = pool.allocate(18, PAGE, Fill.ZERO)
        pool.free(hfn, 18, PAGE)
        assert says(lambda: pool.free(hfn, 18, PAGE)).endswith("forget the number after free()")
