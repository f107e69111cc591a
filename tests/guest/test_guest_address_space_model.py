"""The memory map against a naive one: a dict from page to protection and contents."""

from __future__ import annotations

import random

from guest_fakes import K4, M2, FakeMachine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sampling import some

from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.linux import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE
from quire.guest.mm.uaccess import BadAddress, UserMemory

BASE, PAGES = 0x10_0000_0000, 1536
PAGE = st.integers(0, PAGES - 1) | st.sampled_from([0, 511, 512, 513, 1023, 1024])
COUNT = st.integers(1, 8) | st.sampled_from([512, 600, 1024])
PROT = st.sampled_from([0, 1, 3, 7])


class Model(RuleBasedStateMachine):
    @initialize(size=st.sampled_from([K4, M2]))
    def make(self, size):
        self.machine = FakeMachine(PAGES + 512, size)
        self.space = AddressSpace(self.machine, random.Random(0))
        self.memory = UserMemory(self.machine, self.space)
        self.model = {}

    def clip(self, page, count):
        return page, min(count, PAGES - page)

    @rule(page=PAGE, count=COUNT, prot=PROT)
    def mmap(self, page, count, prot):
        page, count = self.clip(page, count)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        at = BASE + page * K4
        assert self.space.mmap(at, count * K4, prot, flags, -1, 0) == at
        for n in range(page, page + count):
            self.model[n] = (prot, 0)

    @rule(page=PAGE, count=COUNT)
    def munmap(self, page, count):
        page, count = self.clip(page, count)
        assert self.space.munmap(BASE + page * K4, count * K4) == 0
        for n in range(page, page + count):
            self.model.pop(n, None)

    @rule(page=PAGE, count=COUNT, prot=PROT)
    def mprotect(self, page, count, prot):
        page, count = self.clip(page, count)
        result = self.space.mprotect(BASE + page * K4, count * K4, prot)
        for n in range(page, page + count):
            if n not in self.model:
                assert result == -12
                break
            self.model[n] = (prot, self.model[n][1])
        else:
            assert result == 0

    @rule(page=PAGE, count=COUNT)
    def dontneed(self, page, count):
        page, count = self.clip(page, count)
        result = self.space.madvise(BASE + page * K4, count * K4, 4)
        present = [n for n in range(page, page + count) if n in self.model]
        assert result == (0 if len(present) == count else -12)
        for n in present:
            self.model[n] = (self.model[n][0], 0)

    @rule(page=PAGE, count=st.integers(1, 600), to=PAGE)
    def mremap(self, page, count, to):
        page, count = self.clip(page, count)
        to, count = self.clip(to, count)
        old, new, size = BASE + page * K4, BASE + to * K4, count * K4
        whole = [self.model.get(n) for n in range(page, page + count)]
        overlap = page < to + count and to < page + count
        result = self.space.mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, new)
        if overlap:
            assert result == -22
            return
        for n in range(to, to + count):
            self.model.pop(n, None)
        if None in whole or len({prot for prot, _ in whole}) > 1:
            assert result == -14
            return
        assert result == new
        for n, state in enumerate(whole):
            del self.model[page + n]
            self.model[to + n] = state

    @rule(page=PAGE, value=st.integers(1, 255))
    def write(self, page, value):
        state = self.model.get(page)
        try:
            self.memory.write(BASE + page * K4 + 7, bytes([value]))
            assert state is not None and state[0] & 2
            self.model[page] = (state[0], value)
        except BadAddress:
            assert state is None or not state[0] & 2

    @rule(page=PAGE)
    def read(self, page):
        state = self.model.get(page)
        try:
            assert self.memory.read(BASE + page * K4 + 7, 1) == bytes([state[1] if state else 0])
            assert state is not None and state[0]
        except BadAddress:
            assert state is None or not state[0]

    @invariant()
    def areas_agree(self):
        if not hasattr(self, "space"):
            return
        covered = {}
        end = 0
        for vma in self.space.areas:
            assert end <= vma.start < vma.end
            end = vma.end
            for n in range((vma.start - BASE) // K4, (vma.end - BASE) // K4):
                covered[n] = vma.prot
        assert covered == {n: prot for n, (prot, _) in self.model.items()}
        assert self.space.mapped_bytes == K4 * len(covered)

    @invariant()
    def frames_agree(self):
        if hasattr(self, "space"):
            used = (self.machine.frames - len(self.machine.free_frames)) * K4
            assert used == self.space.resident_bytes

    def teardown(self):
        if hasattr(self, "space"):
            for page, (prot, value) in self.model.items():
                if prot:
                    assert self.memory.read(BASE + page * K4 + 7, 1) == bytes([value])
            self.space.close()
            assert len(self.machine.free_frames) == self.machine.frames and not self.machine.leaves


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=some(60, 30), stateful_step_count=30, deadline=None)
