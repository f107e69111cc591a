"""Trees of forked address spaces against a model: what each process may see, and no frame that is lost."""

from __future__ import annotations

import errno
import random

from guest_fakes import K4, M2, FakeMachine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.linux import MADV_COLLAPSE, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from quire.guest.mm.uaccess import BadAddress, UserMemory

AT, PAGES, SHARED_AT = 0x10_0000_0000, 6, 0x20_0000_0000
FRAMES = 256
#: Of two regions of 2 MiB: first and last pages, and others.
LARGE_PAGES = (0, 1, 511, 512, 700, 1023)


class ForkTrees(RuleBasedStateMachine):
    """Spaces with what each holds at its private pages, None where nothing is mapped; all have one shared page."""

    frames, largest, places = FRAMES, K4, range(PAGES)

    def __init__(self) -> None:
        super().__init__()
        machine = FakeMachine(self.frames, self.largest)
        first = AddressSpace(machine, random.Random(0))
        length = -(-(self.places[-1] + 1) * K4 // self.largest) * self.largest
        first.mmap(AT, length, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        first.mmap(SHARED_AT, K4, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        self.machine = machine
        self.spaces = [(first, [0] * PAGES)]
        self.shared = 0

    def pick(self, number):
        return self.spaces[number % len(self.spaces)]

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1), value=st.integers(1, 255))
    def write(self, number, page, value):
        space, held = self.pick(number)
        memory = UserMemory(space.machine, space)
        try:
            memory.write(AT + self.places[page] * K4, bytes([value]))
        except BadAddress:
            assert held[page] is None
        else:
            held[page] = value

    @rule(number=st.integers(0, 99), value=st.integers(1, 255))
    def write_shared(self, number, value):
        space, _ = self.pick(number)
        UserMemory(space.machine, space).write(SHARED_AT, bytes([value]))
        self.shared = value

    @precondition(lambda self: len(self.spaces) < 6)
    @rule(number=st.integers(0, 99))
    def fork(self, number):
        space, held = self.pick(number)
        self.spaces.append((space.fork(space.machine.another(1)), list(held)))

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1))
    def unmap(self, number, page):
        space, held = self.pick(number)
        space.munmap(AT + self.places[page] * K4, K4)
        held[page] = None

    @rule(number=st.integers(0, 99), page=st.integers(0, PAGES - 1), prot=st.sampled_from([0, 1, 3]))
    def protect_and_back(self, number, page, prot):
        space, _ = self.pick(number)
        space.mprotect(AT + self.places[page] * K4, K4, prot)
        space.mprotect(AT + self.places[page] * K4, K4, 3)

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(number=st.integers(0, 99), whole=st.booleans())
    def end(self, number, whole):
        space, _ = self.spaces.pop(number % len(self.spaces))
        if whole:
            space.release()
            space.machine.close()
            space.free_all()
        else:
            space.close()

    @invariant()
    def each_sees_its_own(self):
        for space, held in self.spaces:
            memory = UserMemory(space.machine, space)
            assert memory.read(SHARED_AT, 1)[0] == self.shared
            for page, value in enumerate(held):
                try:
                    found = memory.read(AT + self.places[page] * K4, 1)[0]
                except BadAddress:
                    found = None
                assert found == value

    def teardown(self):
        for space, _ in self.spaces:
            space.close()
        assert len(self.machine.free_frames) == self.frames, "a frame is lost"


TestForkTrees = ForkTrees.TestCase
TestForkTrees.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class LargeForkTrees(ForkTrees):
    """The same with large pages, shared whole until somebody writes, protects or unmaps a part, or joins it."""

    frames, largest, places = 8192, M2, LARGE_PAGES

    @rule(number=st.integers(0, 99), region=st.integers(0, 1))
    def join(self, number, region):
        space, held = self.pick(number)
        if all(held[3 * region + n] is not None for n in range(3)):
            result = space.madvise(AT + region * M2, M2, MADV_COLLAPSE)
            assert result == 0 or space.areas.find(AT + region * M2) is None or result == -errno.ENOMEM

    @rule(number=st.integers(0, 99), region=st.integers(0, 1))
    def write_whole(self, number, region):
        space, held = self.pick(number)
        memory = UserMemory(space.machine, space)
        for n in range(3 * region, 3 * region + 3):
            if held[n] is not None:
                memory.write(AT + self.places[n] * K4, b"w")
                held[n] = ord("w")


TestLargeForkTrees = LargeForkTrees.TestCase
TestLargeForkTrees.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_a_fork_that_finds_no_frame_leaves_nothing():
    machine = FakeMachine(FRAMES)
    space = AddressSpace(machine, random.Random(0))
    space.mmap(AT, PAGES * K4, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    memory = UserMemory(machine, space)
    for page in range(PAGES):
        memory.write(AT + page * K4, b"x")
    for budget in range(PAGES):
        other = machine.another(1)
        other.map_budget = budget
        try:
            space.fork(other)
        except Exception as error:
            assert type(error).__name__ == "OutOfFrames"
        else:
            raise AssertionError("there was no room")
        assert not other.leaves
        memory.write(AT, b"y")
    space.close()
    assert len(machine.free_frames) == FRAMES
