"""Pages of files that all processes share until they write, against a model: what each sees, and no lost frame."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from guest_fakes import K4, FakeMachine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.file_pages import refresh_file
from quire.guest.mm.linux import MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from quire.guest.mm.uaccess import UserMemory

AT, PAGES, FRAMES = 0x10_0000_0000, 4, 64
READ, BOTH = 1, 3


class FilePages(RuleBasedStateMachine):
    """Spaces that map a file, with what each wrote to pages of its own: None where it sees the file's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = os.open(f"{self.folder.name}/file", os.O_RDWR | os.O_CREAT)
        self.held = [0] * PAGES
        os.ftruncate(self.file, PAGES * K4)
        machine = FakeMachine(FRAMES)
        self.machine = machine
        self.spaces = [(AddressSpace(machine, random.Random(0)), [None] * PAGES)]
        self.map(0)

    def pick(self, number):
        return self.spaces[number % len(self.spaces)]

    @rule(number=st.integers(0, 99))
    def map(self, number):
        space, own = self.pick(number)
        space.mmap(AT, PAGES * K4, BOTH, MAP_PRIVATE | MAP_FIXED, self.file, 0)
        own[:] = [None] * PAGES

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1))
    def forget(self, number, page):
        space, own = self.pick(number)
        assert space.madvise(AT + page * K4, K4, 4) == 0
        own[page] = None

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1), value=st.integers(1, 255))
    def write(self, number, page, value):
        space, own = self.pick(number)
        UserMemory(space.machine, space).write(AT + page * K4, bytes([value]))
        own[page] = value

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1))
    def zero(self, number, page):
        """execve clears the end of .data, whatever its protection."""
        space, own = self.pick(number)
        space.mprotect(AT + page * K4, K4, READ)
        assert space.zero(AT + page * K4, AT + page * K4 + 1)
        space.mprotect(AT + page * K4, K4, BOTH)
        own[page] = 0

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1), value=st.integers(1, 255))
    def write_through_a_mapping(self, number, page, value):
        space, _ = self.pick(number)
        at = space.mmap(0, K4, BOTH, MAP_SHARED, self.file, page * K4)
        UserMemory(space.machine, space).write(at, bytes([value]))
        self.held[page] = value
        self.each_sees_its_own()
        space.munmap(at, K4)

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1), value=st.integers(1, 255))
    def write_by_a_call(self, number, page, value):
        os.pwrite(self.file, bytes([value]), page * K4)
        refresh_file(self.pick(number)[0].pages, self.file, page * K4, 1)
        self.held[page] = value

    @precondition(lambda self: len(self.spaces) < 5)
    @rule(number=st.integers(0, 99))
    def fork(self, number):
        space, own = self.pick(number)
        self.spaces.append((space.fork(space.machine.another(1)), list(own)))

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(number=st.integers(0, 99))
    def end(self, number):
        space, _ = self.spaces.pop(number % len(self.spaces))
        space.files.forget()  # the descriptors stand for those of all
        space.release()
        space.machine.close()
        space.free_all()

    @rule()
    def reclaim(self):
        self.spaces[0][0].pages.shared.reclaim()

    @invariant()
    def each_sees_its_own(self):
        for space, own in self.spaces:
            memory = UserMemory(space.machine, space)
            for page, value in enumerate(own):
                assert memory.read(AT + page * K4, 1)[0] == (self.held[page] if value is None else value)

    def teardown(self):
        store = self.spaces[0][0].pages.shared
        while self.spaces:
            self.end(0) if len(self.spaces) > 1 else self.spaces.pop()[0].close()
        store.reclaim()
        assert len(self.machine.free_frames) == FRAMES, "a frame is lost"
        os.close(self.file)
        self.folder.cleanup()


TestFilePages = FilePages.TestCase
TestFilePages.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"\1" * K4 + b"\2" * K4)
    return tmp_path / "file"


def mapped(space: AddressSpace, path: Path, prot: int = READ) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return space.mmap(0, 2 * K4, prot, MAP_PRIVATE, fd, 0)
    finally:
        os.close(fd)


def first(space: AddressSpace, at: int, machine: ProcessMachine) -> bytes:
    return UserMemory(machine, space).read(at, 1)


def test_a_program_that_is_executed_again_finds_its_pages(path: Path) -> None:
    machine = FakeMachine(8)
    space = AddressSpace(machine, random.Random(0))
    at = mapped(space, path)
    assert first(space, at, machine) == b"\1" and first(space, at + K4, machine) == b"\2"
    space.munmap(at, 2 * K4)
    kept = machine.frames - len(machine.free_frames)
    again = AddressSpace(machine.another(1), random.Random(0), commons=space.commons)
    at = mapped(again, path)
    assert first(again, at, again.machine) == b"\1" and first(again, at + K4, again.machine) == b"\2"
    assert kept == machine.frames - len(machine.free_frames) == 2


def test_a_file_that_was_changed_from_outside_is_read_again(path: Path) -> None:
    machine = FakeMachine(8)
    space = AddressSpace(machine, random.Random(0))
    at, other = mapped(space, path), mapped(space, path)
    assert first(space, at, machine) == b"\1"
    path.write_bytes(b"changed")
    assert first(space, other, machine) == b"c"  # by a fault
    assert first(space, at, machine) == b"c"  # by the same
    fault = space.fault(other + K4, 4)
    assert fault is not None and fault.text == "the file ends before that page"


def test_pages_that_nobody_maps_make_room(path: Path) -> None:
    machine = FakeMachine(3)
    space = AddressSpace(machine, random.Random(0))
    at = mapped(space, path)
    assert first(space, at, machine) == b"\1" and first(space, at + K4, machine) == b"\2"
    space.munmap(at, 2 * K4)
    memory = space.mmap(0, 3 * K4, BOTH, MAP_PRIVATE | 0x20, -1, 0)
    UserMemory(machine, space).write(memory, b"x" * 3 * K4)
    assert space.exhausted is None and not machine.free_frames
