"""Pages of 2 MiB that programs ask for: where they come, what they refuse, how they are joined and parted again."""

from __future__ import annotations

import errno
import random

import pytest
from guest_fakes import K4, M2, FakeMachine

from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.commons import Commons, LargePages
from quire.guest.mm.linux import (
    MADV_COLLAPSE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_PRIVATE,
)
from quire.guest.mm.uaccess import UserMemory

AT, RW = 0x10_0000_0000, 3
ANON = MAP_PRIVATE | MAP_ANONYMOUS


class World:
    """An address space where large pages come as `large` says."""

    def __init__(self, large: LargePages, frames: int = 4096) -> None:
        self.machine = FakeMachine(frames)
        commons = Commons(self.machine, large)  # type: ignore[arg-type]
        self.space = AddressSpace(self.machine, random.Random(1), commons=commons)  # type: ignore[arg-type]
        self.memory = UserMemory(self.machine, self.space)  # type: ignore[arg-type]
        self.space.mmap(AT, 4 * M2, RW, ANON | MAP_FIXED, -1, 0)

    def touch(self, offset: int, data: bytes = b"x") -> None:
        self.memory.write(AT + offset, data)

    def large(self) -> list[int]:
        return [(page - AT) // M2 for page in sorted(self.space.pages.large)]


@pytest.mark.parametrize(
    ("how", "expected"),
    [(LargePages.ALWAYS, [0, 2]), (LargePages.MADVISE, [0]), (LargePages.NEVER, [])],
)
def test_where_they_come(how: LargePages, expected: list[int]) -> None:
    world = World(how)
    assert world.space.madvise(AT, M2, MADV_HUGEPAGE) == 0
    assert world.space.madvise(AT + M2, M2, MADV_NOHUGEPAGE) == 0
    for region in range(3):
        world.touch(region * M2 + 7 * K4)
    assert world.large() == expected
    world.space.no_large = True  # PR_SET_THP_DISABLE
    world.touch(3 * M2)
    assert world.large() == expected


def test_areas_that_are_said_other_things_of_are_apart_and_become_one_again() -> None:
    world = World(LargePages.MADVISE)
    world.space.madvise(AT + M2, M2, MADV_HUGEPAGE)
    assert [(one.start - AT) // M2 for one in world.space.areas] == [0, 1, 2]
    world.space.madvise(AT, 4 * M2, MADV_HUGEPAGE)
    assert len(world.space.areas) == 1


def test_small_pages_are_joined_and_keep_what_they_hold() -> None:
    world = World(LargePages.MADVISE)
    for page in (0, 3, 511):
        world.touch(page * K4, bytes([page & 0xFF]) * 5)
    assert world.space.madvise(AT, M2, MADV_COLLAPSE) == 0
    assert world.large() == [0] and not world.space.pages.small
    for page in (0, 3, 511):
        assert world.memory.read(AT + page * K4, 6) == bytes([page & 0xFF]) * 5 + b"\0"
    assert world.memory.read(AT + 5 * K4, 4) == bytes(4)
    world.space.mprotect(AT + K4, K4, 1)  # parts them again
    assert world.large() == [] and len(world.space.pages.small) == 512
    world.space.mprotect(AT + K4, K4, RW)
    assert world.space.madvise(AT, M2, MADV_COLLAPSE) == 0
    assert world.memory.read(AT + 511 * K4, 1) == b"\xff"
    world.space.close()
    assert len(world.machine.free_frames) == world.machine.frames


def test_what_cannot_be_joined() -> None:
    world = World(LargePages.MADVISE, frames=600)
    world.touch(0)
    for page in range(100):
        world.touch(M2 + page * K4)
    assert world.space.madvise(AT, M2, MADV_COLLAPSE) == -errno.ENOMEM  # 499 frames are left
    assert world.memory.read(AT, 1) == b"x"
    small = world.space.mmap(0, M2, RW, ANON, -1, 0)
    inside = small if small % M2 else small + K4
    world.space.munmap(small, inside - small)
    assert world.space.madvise(inside, K4, MADV_COLLAPSE) == -errno.EINVAL


def test_huge_pages_are_there_at_once_and_whole() -> None:
    world = World(LargePages.NEVER)
    at = world.space.mmap(0, M2 + 1, RW, ANON | MAP_HUGETLB, -1, 0)
    assert at % M2 == 0 and sorted(world.space.pages.large) == [at, at + M2]
    assert world.memory.read(at + 2 * M2 - 4, 4) == bytes(4)
    for cut in (at + K4, at + M2 + K4):
        assert world.space.munmap(cut, M2) == -errno.EINVAL
        assert world.space.mprotect(cut, M2, 1) == -errno.EINVAL
    assert world.space.mremap(at, M2, 2 * M2, 1, 0) == -errno.EINVAL
    assert world.space.mprotect(at, M2, 1) == 0
    assert world.space.munmap(at, M2) == 0 and sorted(world.space.pages.large) == [at + M2]


def test_huge_pages_that_are_not_there_leave_nothing() -> None:
    world = World(LargePages.NEVER, frames=1024 + 100)
    before = len(world.machine.free_frames)
    assert world.space.mmap(0, 3 * M2, RW, ANON | MAP_HUGETLB, -1, 0) == -errno.ENOMEM
    assert len(world.machine.free_frames) == before and len(world.space.areas) == 1
    assert world.space.mmap(0, 2 * M2, RW, ANON | MAP_HUGETLB, -1, 0) > 0


def test_after_a_fork_both_have_one_page_until_one_writes() -> None:
    world = World(LargePages.ALWAYS)
    world.touch(0, b"both")
    used = len(world.machine.free_frames)
    child = world.space.fork(world.machine.another(1))  # type: ignore[arg-type]
    memory = UserMemory(child.machine, child)
    assert len(world.machine.free_frames) == used and sorted(child.pages.large) == [AT]
    memory.write(AT, b"mine")
    assert world.large() == [0] and not child.pages.large and len(world.machine.free_frames) == used - 1
    assert world.memory.read(AT, 4) == b"both" and memory.read(AT, 4) == b"mine"
    world.touch(K4, b"here")
    assert memory.read(AT + K4, 4) == bytes(4)
    for space in (child, world.space):
        space.release()
        space.machine.close()
        space.free_all()
    assert len(world.machine.free_frames) == world.machine.frames
