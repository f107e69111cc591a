"""The memory map of a process: what Linux's calls return, what a fault does, and that no frame is lost."""

from __future__ import annotations

import errno
import os
import random
import signal

import pytest
from guest_fakes import K4, M2, FakeMachine

from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.file_pages import refresh_file, sync_file
from quire.guest.mm.linux import (
    MADV_POPULATE_WRITE,
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_SYNC,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    TASK_SIZE,
)
from quire.guest.mm.uaccess import BadAddress, UserMemory
from quire.own_descriptors import FIRST_OWN
from quire.paging import Rights

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = 3
AT = 0x10_0000_0000


class World:
    def __init__(self, page_size=K4, frames=4096):
        self.machine = FakeMachine(frames, page_size)
        self.space = AddressSpace(self.machine, random.Random(1))
        self.memory = UserMemory(self.machine, self.space)

    def anonymous(self, length, prot=RW, at=0, flags=ANON):
        start = self.space.mmap(at, length, prot, flags | (MAP_FIXED if at else 0), -1, 0)
        assert start > 0
        return start

    def areas(self):
        return [(r.start, r.end, r.permissions) for r in self.space.regions()]


@pytest.fixture(params=[K4, M2], ids=["4K", "2M"])
def world(request):
    made = World(request.param)
    yield made
    made.space.close()
    made.space.pages.shared.reclaim()
    assert len(made.machine.free_frames) == made.machine.frames
    assert not made.machine.leaves and not made.machine.large_frames and made.space.resident_bytes == 0
    assert not made.space.files._files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([1]) * K4 + bytes([2]) * K4 + b"end")
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


class TestMmap:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((0, 0, RW, ANON, -1, 0), errno.EINVAL),
            ((0, K4, RW, MAP_ANONYMOUS, -1, 0), errno.EINVAL),
            ((0, K4, RW, ANON, -1, 1), errno.EINVAL),
            ((AT + 1, K4, RW, ANON | MAP_FIXED, -1, 0), errno.EINVAL),
            ((0x1000, K4, RW, ANON | MAP_FIXED, -1, 0), errno.EPERM),
            ((TASK_SIZE, K4, RW, ANON | MAP_FIXED, -1, 0), errno.ENOMEM),
            ((0, 1 << 47, RW, ANON, -1, 0), errno.ENOMEM),
            ((0, (1 << 64) - 1, RW, ANON, -1, 0), errno.ENOMEM),
            ((0, K4, RW, ANON, -1, 1 << 63), errno.EOVERFLOW),
            ((0, K4, RW, MAP_PRIVATE, 887, 0), errno.EBADF),
            ((0, K4, RW, MAP_PRIVATE, -1, 0), errno.EBADF),
            ((0, K4, RW, MAP_PRIVATE, (1 << 64) - 1, 0), errno.EBADF),
            ((0, K4, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0), errno.ENOMEM),
            ((0, K4, RW, ANON | MAP_HUGETLB | 30 << 26, -1, 0), errno.ENOMEM),
            ((0, K4, RW, ANON | MAP_HUGETLB | 16 << 26, -1, 0), errno.EINVAL),
            ((0, K4, RW, MAP_PRIVATE | MAP_HUGETLB, 887, 0), errno.EINVAL),
            ((AT + K4, K4, RW, ANON | MAP_HUGETLB | MAP_FIXED, -1, 0), errno.EINVAL),
            ((0, 1 << 40, RW, ANON | MAP_HUGETLB, -1, 0), errno.ENOMEM),
            ((0, K4, RW, MAP_SHARED_VALIDATE | MAP_SYNC | MAP_ANONYMOUS, -1, 0), errno.EOPNOTSUPP),
        ],
    )
    def test_refusals(self, world, arguments, expected):
        assert world.space.mmap(*arguments) == -expected
        assert world.areas() == []

    def test_file_access(self, world, tmp_path):
        path = tmp_path / "f"
        path.write_bytes(b"x")
        for mode, prot, flags, expected in (
            (os.O_WRONLY, 1, MAP_PRIVATE, errno.EACCES),
            (os.O_RDONLY, RW, MAP_SHARED, errno.EACCES),
            (os.O_PATH, 1, MAP_PRIVATE, errno.EBADF),
            (os.O_RDONLY, RW, MAP_PRIVATE | MAP_GROWSDOWN, errno.EINVAL),
        ):
            fd = os.open(path, mode)
            assert world.space.mmap(0, K4, prot, flags, fd, 0) == -expected
            os.close(fd)
        fd = os.open(tmp_path, os.O_RDONLY)
        assert world.space.mmap(0, K4, 1, MAP_PRIVATE, fd, 0) == -errno.ENODEV
        os.close(fd)
        fd = os.open(path, os.O_RDONLY)
        at = world.space.mmap(0, K4, 1, MAP_SHARED, fd, 0)
        os.close(fd)
        assert world.space.mprotect(at, K4, RW) == -errno.EACCES
        assert world.memory.read(at, 2) == b"x\0"

    def test_dev_zero_is_anonymous(self, world):
        fd = os.open("/dev/zero", os.O_RDWR)
        at = world.space.mmap(0, K4, RW, MAP_SHARED, fd, 0)
        os.close(fd)
        assert world.memory.read(at, 8) == bytes(8)

    def test_top_down_and_merged(self, world):
        first = world.anonymous(K4)
        second = world.anonymous(K4)
        assert second == first - K4 and first + K4 == world.space.layout.mmap_base
        assert world.areas() == [(second, first + K4, "rw-p")]

    def test_hint(self, world):
        assert world.space.mmap(AT + 5, K4, RW, ANON, -1, 0) == AT + K4
        assert world.space.mmap(AT + K4, K4, RW, ANON, -1, 0) == world.space.layout.mmap_base - K4

    def test_fixed_replaces_and_noreplace_does_not(self, world):
        at = world.anonymous(3 * K4, at=AT)
        world.memory.write(at, b"x" * 3 * K4)
        assert world.space.mmap(at + K4, K4, 1, ANON | MAP_FIXED_NOREPLACE, -1, 0) == -errno.EEXIST
        assert world.space.mmap(at + K4, K4, 1, ANON | MAP_FIXED, -1, 0) == at + K4
        assert world.areas() == [
            (at, at + K4, "rw-p"),
            (at + K4, at + 2 * K4, "r--p"),
            (at + 2 * K4, at + 3 * K4, "rw-p"),
        ]
        assert world.memory.read(at, 3 * K4) == b"x" * K4 + bytes(K4) + b"x" * K4

    def test_32bit(self, world):
        assert world.space.mmap(0, K4, RW, ANON | MAP_32BIT, -1, 0) == 0x4000_0000
        assert world.space.mmap(0, K4, 1, ANON | MAP_32BIT, -1, 0) == 0x4000_1000
        assert world.space.mmap(0, 1 << 31, 1, ANON | MAP_32BIT, -1, 0) == -errno.ENOMEM

    def test_populate(self, world):
        at = world.anonymous(4 * K4, flags=ANON | MAP_POPULATE)
        assert world.space.resident_bytes == 4 * K4
        assert all(world.machine.lookup(at + n * K4) for n in range(4))

    def test_same_seed_same_layout(self):
        layouts = [AddressSpace(FakeMachine(1), random.Random(7)).layout for _ in range(2)]
        assert layouts[0] == layouts[1]
        plain = AddressSpace(FakeMachine(1), random.Random(7), aslr=False).layout
        assert (plain.stack_top, plain.mmap_base, plain.pie_base, plain.brk_gap) == (
            0x7FFFFFFFF000,
            0x7FFFF7FFF000,
            0x555555554000,
            0,
        )


class TestFault:
    def test_codes(self, world):
        at = world.anonymous(K4, 1)
        assert world.space.fault(at, 4) is None
        denied = world.space.fault(at, 7)
        assert (denied.signo, denied.code, denied.addr) == (signal.SIGSEGV, 2, at)
        assert world.space.fault(at, 0x15).code == 2
        missing = world.space.fault(0x1234, 4)
        assert missing == SignalInfo(signal.SIGSEGV, 1, addr=0x1234, text="nothing is mapped there")
        assert world.space.fault((1 << 64) - 1, 4).code == 1

    def test_rights_follow_x86(self, world):
        for prot, rights in (
            (1, Rights.READ),
            (2, Rights.READ | Rights.WRITE),
            (4, Rights.READ | Rights.EXECUTE),
        ):
            at = world.anonymous(K4, prot)
            assert world.space.fault(at, 4) is None
            assert world.machine.lookup(at).rights == rights

    def test_none(self, world):
        at = world.anonymous(K4, 0)
        assert world.space.fault(at, 4).code == 2

    def test_private_file(self, world, file):
        at = world.space.mmap(0, 4 * K4, RW, MAP_PRIVATE, file, 0)
        assert world.memory.read(at + K4 - 1, 2) == b"\1\2"
        assert world.memory.read(at + 2 * K4, 5) == b"end\0\0"
        beyond = world.space.fault(at + 3 * K4 + 5, 4)
        assert (beyond.signo, beyond.code, beyond.addr) == (signal.SIGBUS, 2, at + 3 * K4 + 5)
        assert beyond.text == "the file ends before that page"
        world.memory.write(at, b"mine")
        assert os.pread(file, 4, 0) == b"\1\1\1\1"

    def test_file_outlives_its_descriptor(self, world, tmp_path):
        (tmp_path / "f").write_bytes(b"hello")
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        at = world.space.mmap(0, K4, 1, MAP_PRIVATE, fd, 0)
        os.close(fd)
        assert world.memory.read(at, 5) == b"hello"
        assert [f.fd >= FIRST_OWN for f in world.space.files._files.values()] == [True]

    def test_out_of_memory(self):
        world = World(frames=2)
        at = world.anonymous(4 * K4)
        assert world.space.fault(at, 6) is None and world.space.fault(at + K4, 6) is None
        died = world.space.fault(at + 2 * K4, 6)
        assert died.signo == signal.SIGKILL and died.text == "guest memory exhausted (--memory SIZE)"
        assert world.space.exhausted is died
        world.space.close()
        assert len(world.machine.free_frames) == 2

    def test_no_frame_for_a_table(self, world, file):
        anonymous = world.anonymous(2 * M2)
        private = world.space.mmap(0, K4, RW, MAP_PRIVATE, file, 0)
        shared = world.space.mmap(0, K4, RW, MAP_SHARED, file, 0)
        world.machine.map_budget = 0
        for at in (anonymous, anonymous + M2, private, shared):
            assert world.space.fault(at, 4).signo == signal.SIGKILL
        world.space.pages.shared.reclaim()
        assert len(world.machine.free_frames) == world.machine.frames

    def test_stack_grows(self, world):
        top = 0x7FFF_0000_0000
        world.space.map_area(top - K4, top, RW, grows_down=True, name=b"[stack]")
        assert world.space.fault(top - 100 * K4 + 8, 6) is None
        assert world.areas() == [(top - 100 * K4, top, "rw-p")]
        assert world.space.fault(top - (8 << 20), 6) is None
        assert world.space.fault(top - (8 << 20) - 1, 6).code == 1
        assert world.areas() == [(top - (8 << 20), top, "rw-p")]
        assert world.space.mapped_bytes == 8 << 20

    def test_stack_guard_gap(self, world):
        top = 0x7FFF_0000_0000
        world.space.map_area(top - K4, top, RW, grows_down=True)
        world.anonymous(K4, at=top - 400 * K4)
        assert world.space.fault(top - 150 * K4, 6).code == 1
        assert world.space.fault(top - 143 * K4, 6) is None

    def test_spurious(self, world):
        at = world.anonymous(K4)
        assert world.space.fault(at, 6) is None
        assert world.space.fault(at, 6) is None
        assert world.space.resident_bytes == K4


class TestLarge:
    def test_used_when_it_fits(self):
        world = World(M2)
        at = world.anonymous(4 * M2)
        assert at % M2 == 0
        world.memory.write(at + M2 + 5, b"hi")
        assert world.machine.lookup(at + M2).size == M2 and world.space.resident_bytes == M2
        assert world.memory.read(at + M2 + 5, 2) == b"hi"

    def test_not_at_the_edges(self):
        world = World(M2)
        world.anonymous(2 * M2, at=AT + K4)
        world.memory.write(AT + K4, b"x")
        world.memory.write(AT + 2 * M2, b"x")
        world.memory.write(AT + M2, b"x")
        assert [world.machine.lookup(a).size for a in (AT + K4, AT + M2, AT + 2 * M2)] == [K4, M2, K4]

    def test_falls_back(self):
        world = World(M2, frames=300)
        at = world.anonymous(M2)
        world.memory.write(at, b"x")
        assert world.machine.lookup(at).size == K4

    def test_not_beside_small_ones(self):
        world = World(M2)
        at = world.anonymous(M2)
        world.space.munmap(at + M2 // 2, M2 // 2)
        world.memory.write(at, b"x")
        assert world.space.mmap(at + M2 // 2, M2 // 2, RW, ANON | MAP_FIXED, -1, 0) == at + M2 // 2
        world.memory.write(at + M2 // 2, b"y")
        assert world.machine.lookup(at + M2 // 2).size == K4

    @pytest.mark.parametrize("prot", [0, 1])
    def test_partial_changes_split(self, prot):
        world = World(M2)
        at = world.anonymous(M2)
        world.memory.write(at, bytes(range(256)) * (M2 // 256))
        assert world.space.mprotect(at, M2, prot) == 0
        assert world.space.mprotect(at + K4, K4, RW) == 0
        assert world.memory.read(at + K4, 256) == bytes(range(256))
        assert world.space.mprotect(at, M2, RW) == 0
        assert world.memory.read(at, M2) == bytes(range(256)) * (M2 // 256)
        assert world.space.munmap(at, K4) == 0
        with pytest.raises(BadAddress):
            world.memory.read(at, 1)
        world.space.close()
        assert len(world.machine.free_frames) == world.machine.frames


class TestChanges:
    def test_munmap_middle(self, world):
        world.anonymous(5 * K4, at=AT)
        world.memory.write(AT, b"a" * 5 * K4)
        assert world.space.munmap(AT + K4, 2 * K4 - 7) == 0
        assert world.areas() == [(AT, AT + K4, "rw-p"), (AT + 3 * K4, AT + 5 * K4, "rw-p")]
        assert world.space.resident_bytes == 3 * K4
        assert world.space.munmap(AT + 1, K4) == -errno.EINVAL
        assert world.space.munmap(AT, 0) == -errno.EINVAL
        assert world.space.munmap(TASK_SIZE, K4) == -errno.EINVAL
        assert world.space.munmap(AT + 64 * K4, K4) == 0

    def test_prot_none_keeps_the_contents(self, world):
        world.anonymous(2 * K4, at=AT)
        world.memory.write(AT, b"kept")
        assert world.space.mprotect(AT, K4, 0) == 0
        assert world.machine.lookup(AT) is None
        with pytest.raises(BadAddress):
            world.memory.read(AT, 1)
        assert world.space.mprotect(AT, K4, 1) == 0
        assert world.memory.read(AT, 4) == b"kept"
        assert world.machine.lookup(AT).rights == Rights.READ

    def test_mprotect_stops_at_a_hole(self, world):
        world.anonymous(K4, at=AT)
        world.anonymous(K4, at=AT + 2 * K4)
        assert world.space.mprotect(AT, 3 * K4, 1) == -errno.ENOMEM
        assert world.areas() == [(AT, AT + K4, "r--p"), (AT + 2 * K4, AT + 3 * K4, "rw-p")]
        assert world.space.mprotect(AT, 0, 1) == 0
        assert world.space.mprotect(AT + 1, K4, 1) == -errno.EINVAL
        assert world.space.mprotect(AT, K4, 0x40) == -errno.EINVAL
        assert world.space.mprotect(0, (1 << 64) - K4, 1) == -errno.ENOMEM

    def test_mprotect_merges_back(self, world):
        world.anonymous(3 * K4, at=AT)
        world.space.mprotect(AT + K4, K4, 1)
        assert len(world.areas()) == 3
        world.space.mprotect(AT + K4, K4, RW)
        assert world.areas() == [(AT, AT + 3 * K4, "rw-p")]

    def test_grows_down_flag_of_mprotect(self, world):
        world.space.map_area(AT, AT + 4 * K4, RW, grows_down=True)
        assert world.space.mprotect(AT + 2 * K4, K4, 7 | 0x0100_0000) == 0
        assert world.areas() == [(AT, AT + 3 * K4, "rwxp"), (AT + 3 * K4, AT + 4 * K4, "rw-p")]
        world.anonymous(K4, at=0x20_0000_0000)
        assert world.space.mprotect(0x20_0000_0000, K4, 7 | 0x0100_0000) == -errno.EINVAL

    def test_brk(self, world):
        world.space.set_brk(AT)
        start = world.space.brk(0)
        assert start == world.space.brk_start >= AT
        assert world.space.brk(start + 100) == start + 100
        world.memory.write(start, b"heap")
        assert world.space.brk(start + 3 * K4) == start + 3 * K4
        assert world.areas() == [(start, start + 3 * K4, "rw-p")]
        assert world.space.maps_text().index(b"[heap]\n") == 73
        assert world.space.brk(start) == start and world.areas() == []
        world.anonymous(K4, 1, at=start + 4 * K4)
        assert world.space.brk(start + 3 * K4) == start + 3 * K4
        assert world.space.brk(start + 4 * K4) == start + 3 * K4
        assert world.space.brk((1 << 64) - 1) == start + 3 * K4
        assert world.space.brk(start - 1) == start + 3 * K4
        assert world.memory.read(start, 4) == bytes(4)

    def test_dontneed(self, world):
        at = world.anonymous(M2 * 2)
        world.memory.write(at, b"x" * 3 * K4)
        assert world.space.madvise(at + K4, K4, 4) == 0
        assert world.memory.read(at + K4 - 1, 2) == b"x\0" and world.memory.read(at + 2 * K4, 1) == b"x"
        assert world.space.madvise(at, 4 * M2, 4) == -errno.ENOMEM
        assert world.space.madvise(at, K4, 99) == -errno.EINVAL
        assert world.space.madvise(at + 1, K4, 4) == -errno.EINVAL
        assert world.space.madvise(at, K4, 14) == 0
        assert world.space.madvise(at, K4, 23) == 0 and world.machine.lookup(at)

    def test_mincore(self, world):
        world.anonymous(3 * K4, at=AT)
        out = world.anonymous(K4)
        world.memory.write(AT + K4, b"x")
        assert world.space.mincore(AT, 3 * K4, out) == 0
        assert world.memory.read(out, 3) == b"\0\1\0"
        assert world.space.mincore(AT, 4 * K4, out) == -errno.ENOMEM
        assert world.space.mincore(AT + 1, K4, out) == -errno.EINVAL
        with pytest.raises(BadAddress):
            world.space.mincore(AT, K4, 0x1000)


class TestMremap:
    def test_in_place_and_shrink(self, world):
        world.anonymous(2 * K4, at=AT)
        world.memory.write(AT, b"a" * 2 * K4)
        assert world.space.mremap(AT, 2 * K4, 4 * K4, 0, 0) == AT
        assert world.memory.read(AT + 2 * K4 - 1, 2) == b"a\0"
        assert world.space.mremap(AT, 4 * K4, K4, 0, 0) == AT
        assert world.areas() == [(AT, AT + K4, "rw-p")]

    def test_move(self, world):
        world.anonymous(2 * K4, at=AT)
        world.anonymous(K4, 1, at=AT + 2 * K4)
        world.memory.write(AT, b"a" * K4 + b"b" * K4)
        assert world.space.mremap(AT, 2 * K4, 3 * K4, 0, 0) == -errno.ENOMEM
        resident = world.space.resident_bytes
        to = world.space.mremap(AT, 2 * K4, 3 * K4, MREMAP_MAYMOVE, 0)
        assert to > 0 and to != AT and world.space.resident_bytes == resident
        assert world.memory.read(to, 3 * K4) == b"a" * K4 + b"b" * K4 + bytes(K4)
        assert world.space.areas.find(AT) is None

    def test_move_of_large_pages(self):
        world = World(M2)
        data = random.Random(3).randbytes(2 * M2)
        for target in (0x20_0000_0000, 0x20_0000_1000):
            world.anonymous(2 * M2, at=AT)
            world.memory.write(AT, data)
            assert world.space.mremap(AT, 2 * M2, 2 * M2, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target
            assert world.memory.read(target, 2 * M2) == data
            assert world.machine.lookup(target).size == (K4 if target % M2 else M2)
        world.space.close()
        assert len(world.machine.free_frames) == world.machine.frames

    def test_a_parked_page_moves(self, world):
        world.anonymous(M2, at=AT)
        world.memory.write(AT, b"kept")
        world.space.mprotect(AT, M2, 0)
        to = world.space.mremap(AT, M2, M2, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 8 * M2)
        assert to == AT + 8 * M2
        world.space.mprotect(to, M2, 1)
        assert world.memory.read(to, 4) == b"kept"

    def test_dontunmap(self, world):
        world.anonymous(K4, at=AT)
        world.memory.write(AT, b"x")
        to = world.space.mremap(AT, K4, K4, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0)
        assert world.memory.read(to, 1) == b"x" and world.memory.read(AT, 1) == b"\0"

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((AT + 1, K4, K4, 0, 0), errno.EINVAL),
            ((AT, K4, 0, 0, 0), errno.EINVAL),
            ((AT, K4, K4, 8, 0), errno.EINVAL),
            ((AT, K4, K4, MREMAP_FIXED, 0), errno.EINVAL),
            ((AT, K4, K4, 3, AT), errno.EINVAL),
            ((AT, K4, K4, 3, AT + 1), errno.EINVAL),
            ((AT, 2 * K4, K4, 5, 0), errno.EINVAL),
            ((AT, 0, K4, 1, 0), errno.EINVAL),
            ((AT, 9 * K4, 10 * K4, 1, 0), errno.EFAULT),
            ((AT + 64 * K4, K4, K4, 1, 0), errno.EFAULT),
            ((AT, K4, 1 << 47, 1, 0), errno.EINVAL),
        ],
    )
    def test_refusals(self, world, arguments, expected):
        world.anonymous(2 * K4, at=AT)
        assert world.space.mremap(*arguments) == -expected
        assert world.areas() == [(AT, AT + 2 * K4, "rw-p")]

    def test_no_frame_for_tables_parks(self, world):
        world.anonymous(2 * K4, at=AT)
        world.memory.write(AT, b"kept")
        world.machine.map_budget = 0
        assert world.space.mremap(AT, 2 * K4, 2 * K4, 3, AT + M2) == AT + M2
        world.machine.map_budget = None
        assert world.memory.read(AT + M2, 4) == b"kept"


class TestShared:
    def test_two_mappings_are_one_page(self, world, file):
        first = world.space.mmap(0, 2 * K4, RW, MAP_SHARED, file, 0)
        second = world.space.mmap(0, K4, 1, MAP_SHARED, file, K4)
        world.memory.write(first + K4, b"both")
        assert world.memory.read(second, 5) == b"both\2"
        assert world.machine.lookup(first + K4).target == world.machine.lookup(second).target

    def test_written_back_at_munmap(self, world, file):
        at = world.space.mmap(0, 3 * K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at + 2 * K4, b"END and beyond")
        world.memory.read(at, 1)
        assert world.space.munmap(at, 3 * K4) == 0
        assert os.pread(file, 100, 2 * K4) == b"END" and os.pread(file, 1, 0) == b"\1"

    def test_sync_then_clean(self, world, file):
        at = world.space.mmap(0, K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at, b"one")
        assert sync_file(world.space.pages, file) == 0 and os.pread(file, 3, 0) == b"one"
        os.pwrite(file, b"two", 0)
        assert sync_file(world.space.pages, file) == 0 and os.pread(file, 3, 0) == b"two"
        refresh_file(world.space.pages, file, 0, 3)
        assert world.memory.read(at, 4) == b"two\1"
        world.memory.write(at, b"six")
        assert world.space.msync(at, K4, 4) == 0 and os.pread(file, 3, 0) == b"six"
        assert world.space.msync(at, K4, 5) == -errno.EINVAL
        assert world.space.msync(at, 2 * K4, 4) == -errno.ENOMEM

    def test_protected_page_is_still_dirty(self, world, file):
        at = world.space.mmap(0, K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at, b"one")
        world.space.mprotect(at, K4, 0)
        world.space.pages.write_all_back()
        assert os.pread(file, 3, 0) == b"one"

    def test_only_what_a_call_touches_is_written_and_read_again(self, world, file):
        os.ftruncate(file, 64 * K4)
        at = world.space.mmap(0, 64 * K4, RW, MAP_SHARED, file, 0)
        for page in range(64):
            world.memory.write(at + page * K4, b"new")
        assert sync_file(world.space.pages, file, 3 * K4 + 1, K4) == 0
        assert [os.pread(file, 3, page * K4) == b"new" for page in range(64)] == [
            p in (3, 4) for p in range(64)
        ]
        os.pwrite(file, b"old", 3 * K4)
        os.pwrite(file, b"old", 4 * K4)
        refresh_file(world.space.pages, file, 3 * K4, K4)
        assert [world.memory.read(at + page * K4, 3) for page in (3, 4, 5)] == [b"old", b"new", b"new"]

    def test_mincore_of_more_than_anybody_has(self, world):
        """Of a terabyte without a page it takes as long as its answer is; a page in it is told exactly."""
        at = world.space.mmap(0, 1 << 33, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        world.space.mprotect(at + (1 << 32) + 5 * K4, K4, RW)
        world.memory.write(at + (1 << 32) + 5 * K4, b"x")
        vector = world.space.mmap(0, 4 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        assert world.space.mincore(at, 1 << 33, vector) == 0
        found = world.memory.read(vector, 2 << 20)
        assert [n for n, byte in enumerate(found) if byte] == [(1 << 20) + 5]

    def test_long_work_ends_when_the_process_is_to_be_killed(self, world):
        def killed():
            raise InterruptedError(4, "killed")

        at = world.space.mmap(0, 1024 * K4, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        vector = world.space.mmap(0, K4, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        world.space.madvise(at, 1024 * K4, MADV_POPULATE_WRITE)
        world.space.pages.pause = killed
        works = [
            lambda: world.space.mincore(at, 1024 * K4, vector),
            lambda: world.space.madvise(at, 1024 * K4, MADV_POPULATE_WRITE),
        ]
        if world.machine.page_size == K4:  # two large pages are no long work
            works += [
                lambda: world.space.mprotect(at, 1024 * K4, 1),
                lambda: world.space.munmap(at, 1024 * K4),
            ]
        for work in works:
            with pytest.raises(InterruptedError):
                work()
        world.space.pages.pause = lambda: None

    def test_whole_tables_move_with_a_mapping(self, world, file):
        """Shared and parked pages among them, and pages before and after the last whole 2 MiB."""
        os.ftruncate(file, 5 * M2)
        at = world.space.reserve(6 * M2, M2) + 7 * K4
        assert world.space.mmap(at, 5 * M2, RW, MAP_SHARED | MAP_FIXED, file, 0) == at
        pages = [0, 3, 600, 1100, 1101, 2000, 2559]
        for n in pages:
            world.memory.write(at + n * K4, n.to_bytes(2, "little"))
        world.space.mprotect(at + 1100 * K4, K4, 0)
        to = world.space.reserve(8 * M2, M2) + 7 * K4
        assert world.space.mremap(at, 1100 * K4, 1100 * K4, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to
        for n in pages[:3]:
            assert world.memory.read(to + n * K4, 2) == n.to_bytes(2, "little")
            assert world.machine.lookup(at + n * K4) is None and not world.space.pages.has(at + n * K4)
            world.memory.write(to + n * K4, b"ok")
        assert world.space.munmap(to, 1100 * K4) == 0
        assert [os.pread(file, 2, n * K4) for n in pages[:3]] == [b"ok"] * 3
        assert world.memory.read(at + 2559 * K4, 2) == (2559).to_bytes(2, "little")

    def test_truncation_drops_pages(self, world, file):
        at = world.space.mmap(0, 3 * K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at + 2 * K4, b"x")
        os.ftruncate(file, 5)
        refresh_file(world.space.pages, file, 0, 3 * K4)
        assert world.space.fault(at + 2 * K4, 4).signo == signal.SIGBUS
        world.space.close()
        assert os.fstat(file).st_size == 5

    def test_dontneed_rereads(self, world, file):
        at = world.space.mmap(0, K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at, b"A")
        world.space.madvise(at, K4, 4)
        os.pwrite(file, b"B", 1)
        assert world.memory.read(at, 3) == b"AB\1"

    def test_moved(self, world, file):
        at = world.space.mmap(0, 2 * K4, RW, MAP_SHARED, file, 0)
        world.memory.write(at, b"A")
        to = world.space.mremap(at, 2 * K4, 3 * K4, 3, AT)
        assert to == AT and world.memory.read(to, 1) == b"A"
        again = world.space.mremap(to, 0, K4, 1, 0)
        assert world.memory.read(again, 1) == b"A"
        world.space.close()
        assert os.pread(file, 1, 0) == b"A"

    def test_append_descriptor(self, world, tmp_path):
        (tmp_path / "log").write_bytes(b"abc")
        fd = os.open(tmp_path / "log", os.O_RDWR | os.O_APPEND)
        at = world.space.mmap(0, K4, RW, MAP_SHARED, fd, 0)
        os.close(fd)
        world.memory.write(at, b"X")
        world.space.munmap(at, K4)
        assert (tmp_path / "log").read_bytes() == b"Xbc"

    def test_anonymous_persists(self, world):
        at = world.space.mmap(0, 2 * K4, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        world.memory.write(at, b"kept")
        world.space.madvise(at, K4, 4)
        assert world.memory.read(at, 4) == b"kept"
        other = world.space.mremap(at, 0, 2 * K4, 1, 0)
        world.space.munmap(at, 2 * K4)
        assert world.memory.read(other, 4) == b"kept"
        world.space.munmap(other, 2 * K4)
        assert len(world.machine.free_frames) == world.machine.frames


def test_maps_text_is_the_kernels(tmp_path):
    """The kernel prints the same bytes for a mapping of its own, addresses apart."""
    import mmap as host_mmap

    path = tmp_path / "some file"
    path.write_bytes(bytes(2 * K4))
    fd = os.open(path, os.O_RDONLY)
    mapped = host_mmap.mmap(fd, K4, host_mmap.MAP_PRIVATE, host_mmap.PROT_READ, offset=K4)
    with open("/proc/self/maps", "rb") as maps:
        native = next(line for line in maps if b"some file" in line)
    mapped.close()
    world = World()
    world.space.mmap(AT, K4, 1, MAP_PRIVATE, fd, K4)
    world.space.mmap(AT + K4, K4, 7, ANON, -1, 0)
    os.close(fd)
    first, second, _ = world.space.maps_text().splitlines(keepends=True)
    assert first.split(b" ", 1)[1].split() == native.split(b" ", 1)[1].split()
    assert first.index(b"/") == native.index(b"/") == 73
    assert second == b"1000001000-1000002000 rwxp 00000000 00:00 0 \n"
    world.space.close()


def test_zero_reaches_read_only_pages():
    world = World()
    at = world.anonymous(K4)
    world.memory.write(at, b"x" * 16)
    world.space.mprotect(at, K4, 1)
    assert world.space.zero(at + 4, at + 8)
    assert world.memory.read(at, 16) == b"xxxx" + bytes(4) + b"x" * 8
    assert not world.space.zero(0x5000, 0x5001)
