"""Host memory: reads and writes, hostile numbers, holes, and what a sparse host costs."""

from __future__ import annotations

import ctypes
import gc
import os

import numpy as np
import pytest

from quire.errors import BackendError, MisuseError
from quire.memory import FRAME_SHIFT, FRAME_SIZE, WORDS_PER_FRAME, HostMemory

SIZE = 16 * FRAME_SIZE
GIB = 1 << 30


@pytest.fixture
def host():
    with HostMemory(SIZE) as memory:
        yield memory


def says(call, error=MisuseError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestConstruct:
    def test_shape(self, host):
        assert (host.size, host.frame_count) == (SIZE, 16)
        assert host.words.shape == (16 * WORDS_PER_FRAME,) and host.words.dtype == np.uint64
        assert host.frames.shape == (16, 512) and host.octets.shape == (SIZE,)
        assert 1 << FRAME_SHIFT == FRAME_SIZE

    def test_repr_evaluates_back(self, host):
        assert repr(host) == "HostMemory(0x10000, 'quire')"

    def test_the_memfd_has_the_name_and_size(self):
        with HostMemory(SIZE, name="attic") as memory:
            assert os.readlink(f"/proc/self/fd/{memory.fd}") == "/memfd:attic (deleted)"
            assert os.fstat(memory.fd).st_size == SIZE

    @pytest.mark.parametrize("size", [0, -FRAME_SIZE, 1, FRAME_SIZE + 8, (1 << 52) + FRAME_SIZE])
    def test_wrong_size(self, size):
        assert says(lambda: HostMemory(size)) == (
            f"host memory cannot have {size:#x} bytes: "
            "give a positive multiple of 0x1000 up to 0x10000000000000 (52 address bits)"
        )

    @pytest.mark.parametrize("name", ["a\0b", "x" * 250])
    def test_wrong_name(self, name):
        message = says(lambda: HostMemory(SIZE, name))
        assert message == f"{name!r} cannot name a memfd: give at most 0xf9 bytes without NUL"

    def test_more_than_the_address_space_is_a_backend_error_and_leaks_nothing(self):
        before = len(os.listdir("/proc/self/fd"))
        message = says(lambda: HostMemory(1 << 51), BackendError)
        assert message == (
            "[Errno 12] cannot map 0x8000000000000 bytes of host memory: Cannot allocate memory; "
            "ask for less, or raise the limits shown by 'ulimit -v' and 'ulimit -n'"
        )
        assert len(os.listdir("/proc/self/fd")) == before


class TestAccess:
    def test_one_truth_seen_four_ways(self, host):
        host.store(0x1008, 0x1122334455667788)
        assert host.load(0x1008) == 0x1122334455667788
        assert host.frames[1, 1] == host.words[513] == 0x1122334455667788
        assert host.octets[0x1008] == 0x88
        assert host.read(0x1008, 3) == b"\x88\x77\x66"
        assert ctypes.c_uint64.from_address(host.address + 0x1008).value == 0x1122334455667788
        assert os.pread(host.fd, 1, 0x100F) == b"\x11"

    def test_the_views_write_through(self, host):
        host.frames[2, 511] = np.uint64(7)
        host.octets[0x4001] = 9
        assert host.load(0x2FF8) == 7 and host.read(0x4000, 2) == b"\0\x09"

    @pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
    def test_write_takes_any_bytes(self, host, data):
        host.write(0xFFE, data)
        assert host.read(0xFFD, 5) == b"\0abc\0"

    def test_a_wide_memoryview_is_counted_in_bytes(self, host):
        data = memoryview(bytes(range(16))).cast("Q")
        host.write(SIZE - 16, data)
        assert host.read(SIZE - 16, 16) == bytes(range(16))
        assert "with length 0x10 is outside" in says(lambda: host.write(SIZE - 8, data))

    def test_the_ends(self, host):
        host.store(SIZE - 8, (1 << 64) - 1)
        assert host.load(SIZE - 8) == (1 << 64) - 1
        assert host.read(SIZE, 0) == b"" and len(host.read(0, SIZE)) == SIZE
        host.fill(15, 1, 0xEE)
        assert host.read(SIZE - FRAME_SIZE - 1, 2) == b"\0\xee"

    @pytest.mark.parametrize(
        ("hpa", "length"),
        [(-1, 1), (0, -1), (SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (1 << 64, 1), (1 << 70, 1), (8, 1 << 70)],
    )
    def test_hostile_ranges(self, host, hpa, length):
        assert says(lambda: host.read(hpa, length)) == (
            f"hpa {hpa:#x} with length {length:#x} is outside host memory of size 0x10000: "
            "check the address against the size first"
        )

    def test_numpy_numbers_cannot_wrap_around(self, host):
        big = np.uint64((1 << 64) - 8)
        for call in (
            lambda: host.read(np.uint64(16), big),
            lambda: host.read(big, 16),
            lambda: host.load(big),
            lambda: host.store(big, 0),
            lambda: host.fill(big, 16, 0),
            lambda: host.discard(np.uint64(1), big),
            lambda: host.is_hole(big, big),
        ):
            assert "is outside host memory of size 0x10000" in says(call)
        host.store(np.uint64(8), 5)
        assert host.load(np.uint64(8)) == 5 and type(host.load(np.uint64(8))) is int

    @pytest.mark.parametrize("hpa", [1, 4, 0x1007])
    def test_unaligned_words(self, host, hpa):
        message = f"hpa {hpa:#x} is not a multiple of 0x8: load and store take whole aligned words"
        assert says(lambda: host.load(hpa)) == message
        assert says(lambda: host.store(hpa, 0)) == message

    @pytest.mark.parametrize("hpa", [-8, SIZE, SIZE + 1, 1 << 64])
    def test_words_outside(self, host, hpa):
        for call in (lambda: host.load(hpa), lambda: host.store(hpa, 0)):
            assert says(call) == (
                f"hpa {hpa:#x} with length 0x8 is outside host memory of size 0x10000: "
                "check the address against the size first"
            )

    @pytest.mark.parametrize("value", [-1, 1 << 64])
    def test_values_too_wide(self, host, value):
        message = f"cannot store {value:#x} at hpa 0x8: a word holds 0x0 to 0xffffffffffffffff"
        assert says(lambda: host.store(8, value)) == message
        assert host.load(8) == 0

    def test_cells_are_words_as_integers(self, host):
        host.store(0x1008, 7)
        cells = host.cells(0x1000, 0x20)
        cells[3] = 1 << 63
        assert cells.tolist() == [0, 7, 0, host.load(0x1018)] == [0, 7, 0, 1 << 63]
        for hpa, length in ((0x1001, 8), (0x1000, 9), (-8, 8), (host.size, 8)):
            with pytest.raises(MisuseError):
                host.cells(hpa, length)

    def test_fill_wants_a_byte(self, host):
        assert says(lambda: host.fill(0, 1, 256)) == "cannot fill with 0x100: a byte holds 0x0 to 0xff"


class TestHoles:
    def test_new_memory_is_one_hole(self, host):
        assert host.is_hole(0, 16) and host.resident_bytes() == 0

    def test_every_frame_alone(self, host):
        for hfn in range(16):
            host.store(hfn << 12 | 8, 1)
            for first in range(16):
                for count in range(17 - first):
                    assert host.is_hole(first, count) == (not first <= hfn < first + count)
                    found = host.find_data(first, count)
                    assert found == (hfn << 12 | 8 if first <= hfn < first + count else None)
            host.discard(hfn, 1)
            assert host.load(hfn << 12 | 8) == 0  # reading makes a zero page ...
            assert not host.is_hole(hfn, 1) and host.find_data(0, 16) is None  # ... which is not data
            host.discard(hfn, 1)

    def test_data_after_many_zero_pages_and_a_hole(self):
        with HostMemory(2048 * FRAME_SIZE) as memory:
            memory.fill(3, 1200, 0)
            memory.store(1500 * FRAME_SIZE + 24, 1)
            assert memory.find_data(0, 2048) == 1500 * FRAME_SIZE + 24
            assert memory.find_data(0, 1500) is None

    def test_discard_returns_memory_and_spares_the_neighbours(self, host):
        host.fill(0, 16, 0xFF)
        assert host.resident_bytes() == SIZE
        host.discard(4, 8)
        assert host.resident_bytes() == SIZE // 2
        assert host.read(4 * FRAME_SIZE - 1, 2) == b"\xff\0"
        assert host.read(12 * FRAME_SIZE - 1, 2) == b"\0\xff"

    def test_discard_of_nothing(self, host):
        host.fill(0, 1, 1)
        host.discard(0, 0)
        assert host.read(0, 1) == b"\1"

    def test_a_refused_discard_says_so(self, host):
        fd = os.open("/dev/null", os.O_RDWR)
        kept, host.fd = host.fd, fd
        try:
            message = says(lambda: host.discard(1, 2), BackendError)
        finally:
            host.fd = kept
            os.close(fd)
        assert message == (
            "[Errno 19] cannot discard 0x2000 bytes at hpa 0x1000: No such device; "
            "check that the kernel's tmpfs supports FALLOC_FL_PUNCH_HOLE"
        )

    def test_64_gib_cost_only_what_is_touched(self):
        with HostMemory(64 * GIB) as memory:
            assert memory.resident_bytes() == 0
            memory.store(63 * GIB, 1)
            memory.write(31 * GIB - 1, b"ab")
            assert memory.resident_bytes() == 3 * FRAME_SIZE
            assert memory.find_data(0, memory.frame_count) == 31 * GIB - 8
            assert memory.find_data(32 * GIB >> 12, 32 * GIB >> 12) == 63 * GIB
            memory.discard(0, memory.frame_count)
            assert memory.resident_bytes() == 0


class TestClose:
    def test_close_is_idempotent_and_final(self):
        memory = HostMemory(SIZE, "gone")
        fd = memory.fd
        memory.close()
        memory.close()
        assert (memory.fd, memory.address, memory.words.size, memory.frames.shape) == (-1, 0, 0, (0, 512))
        with pytest.raises(OSError):
            os.fstat(fd)
        for call in (
            lambda: memory.read(0, 0),
            lambda: memory.write(0, b""),
            lambda: memory.load(0),
            lambda: memory.store(0, 0),
            lambda: memory.fill(0, 0, 0),
            lambda: memory.discard(0, 0),
            lambda: memory.is_hole(0, 0),
            lambda: memory.find_data(0, 0),
            memory.resident_bytes,
        ):
            assert says(call) == "host memory 'gone' is closed: use it before close() or make another"

    def test_close_unmaps(self):
        memory = HostMemory(SIZE, "unmapped")
        assert "unmapped" in maps()
        memory.close()
        assert "unmapped" not in maps()

    def test_views_of_others_outlive_close(self):
        memory = HostMemory(SIZE, "viewed")
        view = memory.words[512:1024]
        view[0] = 42
        memory.close()
        assert view[0] == 42 and "viewed" in maps()
        del view
        assert "viewed" not in maps()

    def test_forgetting_closes(self):
        memory = HostMemory(SIZE, "forgotten")
        fd = memory.fd
        del memory
        gc.collect()
        assert "forgotten" not in maps()
        with pytest.raises(OSError):
            os.fstat(fd)


def maps():
    with open("/proc/self/maps") as file:
        return file.read()
