"""A small world for walks: 4 KiB frames in an array, tables wired by hand, contexts by flag."""

import random

import numpy as np

from quire.arch import SKYLAKE_X
from quire.paging import Context, new_context

FRAMES = 64
GVA = 0x0000_7F12_3456_7ABC
P, RW, US, A, D, PS, XD = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
INDICES = [GVA >> shift & 511 for shift in (39, 30, 21, 12)]


class World:
    """Guest tables at GPA 1..4 pages, EPT tables above; identity-mapped guest frames unless changed."""

    def __init__(self, *, ept: bool) -> None:
        self.memory = np.zeros(FRAMES * 512, np.uint64)
        self.context = new_context(SKYLAKE_X, FRAMES * 4096)
        self.context[Context.CR3] = 0x1000
        if ept:
            self.context[Context.EPTP] = 0x10000 | 3 << 3 | 6

    def set(self, frame: int, index: int, entry: int) -> None:
        self.memory[frame * 512 + index] = np.uint64(entry & (1 << 64) - 1)

    def guest(self, entries: list[int]) -> None:
        """Wire PML4E, PDPTE, PDE, PTE of GVA; an entry's address is added unless it has one."""
        for level, entry in enumerate(entries):
            target = (level + 2) << 12 if level < 3 else 0x5000
            if not entry & 0x000F_FFFF_FFFF_F000:
                entry |= target
            self.set(level + 1, INDICES[level], entry)

    def identity_ept(self, rights: int = 7, flags: int = 0) -> None:
        """Map every frame to itself with 4 KiB EPT pages: root at frame 16."""
        for frame in (16, 17, 18):
            self.set(frame, 0, (frame + 1) << 12 | 7 | flags)
        for frame in range(FRAMES):
            self.set(19, frame, frame << 12 | rights | 6 << 3 | flags)


def random_context(world: World, rng: random.Random) -> None:
    """Flip every control that a walk depends on."""
    for field in (
        Context.NXE,
        Context.WP,
        Context.SMEP,
        Context.SMAP,
        Context.USER,
        Context.PAGE_1G,
        Context.EPT_EXECUTE_ONLY,
        Context.EPT_2M,
        Context.EPT_1G,
        Context.UPDATE,
        Context.ADVANCED,
    ):
        world.context[field] = rng.getrandbits(1)
    if world.context[Context.EPTP]:
        world.context[Context.EPTP] = 0x10000 | 3 << 3 | 6 | rng.getrandbits(1) << 6
