"""A small world for walks: a few 4 KiB frames in an array, tables wired by hand, controls by flag.

Guest tables begin at frame ROOT and the page at frame PAGE; EPT tables begin at frame EPT_ROOT and map every frame to
itself unless changed. Frames of the log, of the #VE information area and of the sub-page table lie above.
"""

import random

import numpy as np
import numpy.typing as npt

from quire.arch import LOW32, PDE, PTE, SKYLAKE_X, WORD, PagingMode, gva_index
from quire.paging import Context, new_context

__all__ = [
    "EPT_ROOT",
    "EPT_ROOT_5",
    "FRAMES",
    "GVA",
    "INDICES",
    "INFO_FRAME",
    "LOG_FRAME",
    "NEAR",
    "PAGE",
    "ROOT",
    "SPPT_FRAME",
    "World",
]

FRAMES = 64
ROOT, PAGE, EPT_ROOT, EPT_ROOT_5, LOG_FRAME, INFO_FRAME, SPPT_FRAME = 1, 6, 16, 20, 24, 25, 26
GVA = 0x0000_7F12_3456_7ABC  #: a linear address with another index at each level
NEAR = 0x0000_7F12_4000_6ABC  #: near the start of the pages of any size that hold it
_PS, _XD = PDE.mask("PS"), PTE.mask("XD")
INDICES = [GVA >> shift & 511 for shift in (39, 30, 21, 12)]


Words = npt.NDArray[np.uint64]


class World:
    """Memory, a context, the address to walk, and `entries`: the (frame, index) of what was wired, to be spoiled."""

    def __init__(self, *, ept: bool, frames: int = FRAMES) -> None:
        self.frames = frames
        self.memory: Words = np.zeros(frames * 512, np.uint64)
        self.context = new_context(SKYLAKE_X, frames * 4096)
        self.context[Context.CR3] = 0x1000
        self.gva = GVA
        self.entries: list[tuple[int, int]] = []
        if ept:
            self.context[Context.EPTP] = 0x10000 | 3 << 3 | 6

    def set(self, frame: int, index: int, entry: int) -> None:
        """Store the 8-byte `entry` at `index` of `frame`."""
        self.memory[frame * 512 + index] = np.uint64(entry & WORD)

    def guest(self, entries: list[int]) -> None:
        """Wire PML4E, PDPTE, PDE, PTE of GVA; an entry's address is added unless it has one."""
        for level, entry in enumerate(entries):
            target = (level + 2) << 12 if level < 3 else 0x5000
            if not entry & 0x000F_FFFF_FFFF_F000:
                entry |= target
            self.set(level + 1, INDICES[level], entry)

    def wire(self, mode: PagingMode, rng: random.Random) -> None:
        """Wire GVA in guest tables of `mode`, with leaves of any size and random rights in every entry."""
        shapes = (7, 7, 7, 0x27, 0x67, 0x47, 0x67, 3, 0x63, 0x65, 7 | _XD)
        top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
        gva = self.gva if mode >= PagingMode.LEVEL_4 else self.gva & LOW32
        self.context[Context.PDPTE0 + (gva >> 30 & 3)] = ROOT << 12 | 1
        for level in range(top, 0, -1):
            frame = ROOT + top - level
            entry = rng.choice(shapes)
            if level in (2, 3) and rng.random() < 0.2:
                entry |= _PS
            else:
                entry |= (frame + 1) << 12 if level > 1 else PAGE << 12
            if level == 1 or entry & _PS:
                entry |= rng.getrandbits(4) << 59
            index = gva_index(gva, level, mode)
            if mode is PagingMode.BITS_32:
                self.memory[frame * 512 + (index >> 1)] |= np.uint64((entry & LOW32) << 32 * (index & 1))
                index >>= 1
            else:
                self.set(frame, index, entry)
            self.entries.append((frame, index))

    def sub_pages(self, rng: random.Random) -> None:
        """A sub-page-permission table that covers the first 2 MiB."""
        for n in range(3):
            self.set(SPPT_FRAME + n, 0, (SPPT_FRAME + n + 1) << 12 | (rng.random() < 0.9))
            self.entries.append((SPPT_FRAME + n, 0))
        for page in range(self.frames):
            odd = (rng.random() < 0.1) << rng.randrange(1, 64, 2)
            self.set(SPPT_FRAME + 3, page, rng.getrandbits(64) & 0x5555_5555_5555_5555 | odd)

    def identity_ept(self, rights: int = 7, flags: int = 0) -> None:
        """Map every frame to itself with 4 KiB EPT pages: root at frame 16."""
        self.set(EPT_ROOT_5, 0, EPT_ROOT << 12 | 0x407 | flags)
        self.entries.append((EPT_ROOT_5, 0))
        for frame in (16, 17, 18):
            self.set(frame, 0, (frame + 1) << 12 | 0x407 | flags)
            self.entries.append((frame, 0))
        for frame in range(self.frames):
            self.set(19, frame, frame << 12 | rights | 6 << 3 | flags)
        self.entries += [(19, frame) for frame in range(1, 7)] * 2

    def large_ept(self, bits: int) -> None:
        """Map every frame to itself by one 2 MiB EPT page with `bits` instead."""
        self.set(18, 0, bits | _PS | 6 << 3)
