"""A machine without tables or processor: a dict maps pages, a bytearray is guest-physical memory."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from quire.arch import SKYLAKE_X, Access
from quire.arch.cpuid import cpuid
from quire.guest.kernel.machine import PageFault
from quire.guest.kernel.meter import Tally
from quire.memory import OutOfFrames, Owner, OwnerKind
from quire.paging import Mapping, Rights

K4, M2 = 0x1000, 0x200000
OWNER = Owner(OwnerKind.GUEST_PAGE, "fake")


@dataclass
class Leaf:
    gpa: int
    size: int
    rights: Rights
    accessed: bool = False
    dirty: bool = False


class FakeRegisters:
    def __init__(self):
        names = [
            "rax",
            "rbx",
            "rcx",
            "rdx",
            "rsi",
            "rdi",
            "rbp",
            "rsp",
            "rip",
            "rflags",
            "fs_base",
            "gs_base",
        ]
        self.values = dict.fromkeys([*names, *(f"r{n}" for n in range(8, 16))], 0)
        self.fpu = bytes(512)

    def read(self, name):
        return self.values[name]

    def write(self, name, value):
        assert name in self.values
        self.values[name] = value & ((1 << 64) - 1)

    def read_many(self, names):
        return [self.values[name] for name in names]

    def write_many(self, values):
        for name, value in values.items():
            self.write(name, value)

    def save(self, into=None):
        return dict(self.values), self.fpu

    def load(self, saved):
        self.values, self.fpu = dict(saved[0]), saved[1]

    def save_fpu(self):
        return self.fpu

    def load_fpu(self, image):
        assert len(image) == 512
        self.fpu = bytes(image)


class FakeMachine:
    """`frames` of 4 KiB; `map` raises OutOfFrames once `map_budget` reaches 0."""

    def __init__(self, frames=4096, page_size=K4):
        self.page_size = page_size
        self.registers = FakeRegisters()
        self.memory = bytearray(frames * K4)
        self.free_frames = set(range(frames))
        self.large_frames = set()
        self.leaves = {}
        self.map_budget = None
        self.frames = frames

        self.loaded, self.slice_over = True, False
        self.vcpu_count, self.node = 1, 0
        self.spaces = [self]

    def go_to(self, number):
        """There is one vCPU."""

    def together(self):
        return nullcontext()

    def begin_slice(self, blocks):
        """Nobody takes turns."""

    profile = SKYLAKE_X

    def cpuid(self, leaf, subleaf):
        return cpuid(self.profile, leaf, subleaf)

    def memory_sizes(self):
        return self.frames * K4, len(self.free_frames) * K4

    def tally(self):
        return Tally(0, 0, 0)

    table_count = 0

    def held(self):
        return 0

    def instructions(self):
        return 0

    def another(self, pcid):
        """Return an empty address space over the same frames."""
        made = FakeMachine(self.frames, self.page_size)
        made.memory, made.free_frames, made.large_frames = self.memory, self.free_frames, self.large_frames
        made.spaces = self.spaces
        self.spaces.append(made)
        return made

    def close(self):
        """Let the tables go as a whole."""
        self.leaves.clear()

    def copy_pages(self, other, pages):
        for page in pages:
            leaf = self.leaves[page]
            leaf.rights &= ~Rights.WRITE
            other.map(page, leaf.gpa, K4, leaf.rights)

    def allocate(self, size):
        if size == K4:
            if not self.free_frames:
                return None
            frame = min(self.free_frames)
            self.free_frames.remove(frame)
            self.memory[frame * K4 : frame * K4 + K4] = bytes(K4)
            return frame * K4
        assert size == M2
        for first in range(0, self.frames - 511, 512):
            block = set(range(first, first + 512))
            if block <= self.free_frames:
                self.free_frames -= block
                self.large_frames.add(first * K4)
                self.memory[first * K4 : first * K4 + M2] = bytes(M2)
                return first * K4
        return None

    def free(self, gpa, size):
        leaves = (leaf for space in self.spaces for leaf in space.leaves.values())
        assert not any(leaf.gpa < gpa + size and gpa < leaf.gpa + leaf.size for leaf in leaves)
        assert (gpa in self.large_frames) == (size == M2)
        self.large_frames.discard(gpa)
        block = set(range(gpa // K4, (gpa + size) // K4))
        assert not block & self.free_frames, "freed twice"
        self.free_frames |= block

    def _find(self, gva):
        for size in (K4, M2):
            leaf = self.leaves.get(gva & -size)
            if leaf is not None and leaf.size == size:
                return gva & -size, leaf
        return None, None

    def map(self, gva, gpa, size, rights):
        if self.map_budget is not None:
            if self.map_budget == 0:
                raise OutOfFrames(0, OWNER, 0, None)
            self.map_budget -= 1
        assert not gva % size and not gpa % size and rights and 0x10000 <= gva < 1 << 47
        assert not any(self._find(page)[1] for page in range(gva, gva + size, K4)), "mapped already"
        assert gpa // K4 not in self.free_frames
        self.leaves[gva] = Leaf(gpa, size, rights)

    def unmap(self, gva):
        found = self.lookup(gva)
        assert found is not None, f"{gva:#x} is not mapped"
        del self.leaves[found.start]
        return found

    def protect(self, gva, rights):
        _, leaf = self._find(gva)
        assert rights
        leaf.rights = rights

    def split(self, gva, *, divide=True):
        start, leaf = self._find(gva)
        assert leaf.size == M2
        del self.leaves[start]
        for offset in range(0, M2, K4):
            self.leaves[start + offset] = Leaf(leaf.gpa + offset, K4, leaf.rights, leaf.accessed, leaf.dirty)
        assert divide == (leaf.gpa in self.large_frames), "a block is divided once"
        self.large_frames.discard(leaf.gpa)

    def move_tables(self, start, end, to):
        assert not (start | end | to) % M2
        shift = to - start
        moving = [gva for gva, leaf in self.leaves.items() if start <= gva < end and leaf.size == K4]
        if moving and self.map_budget is not None:
            if self.map_budget == 0:
                raise OutOfFrames(0, OWNER, 0, None)
            self.map_budget -= 1
        assert not any(to <= gva < end + shift for gva in self.leaves), "mapped already"
        for gva in moving:
            self.leaves[gva + shift] = self.leaves.pop(gva)

    def dirty_pages(self, region):
        return sorted(
            gva
            for gva, leaf in self.leaves.items()
            if region <= gva < region + M2 and leaf.size == K4 and leaf.dirty
        )

    def lookup(self, gva):
        start, leaf = self._find(gva)
        if leaf is None:
            return None
        return Mapping(start, leaf.gpa, leaf.size, leaf.rights, leaf.accessed, leaf.dirty, 1, 0)

    def physical(self, gpa, length, *, write=False):
        assert gpa // K4 == (gpa + length - 1) // K4
        assert gpa // K4 not in self.free_frames
        view = memoryview(self.memory)[gpa : gpa + length]
        return view if write else view.toreadonly()

    def user(self, gva, length, access):
        assert gva // K4 == (gva + length - 1) // K4
        start, leaf = self._find(gva)
        code = 4 | {Access.READ: 0, Access.WRITE: 2, Access.FETCH: 16}[access]
        need = {Access.READ: Rights.READ, Access.WRITE: Rights.WRITE, Access.FETCH: Rights.EXECUTE}[access]
        if leaf is None:
            return PageFault(gva, code)
        if not leaf.rights & need:
            return PageFault(gva, code | 1)
        leaf.accessed = True
        leaf.dirty |= access == Access.WRITE
        at = leaf.gpa + gva - start
        return memoryview(self.memory)[at : at + length]
