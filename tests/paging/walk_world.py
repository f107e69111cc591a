"""A small world for walks: 4 KiB frames in an array, tables wired by hand, contexts by flag."""

import random

import numpy as np

from quire.arch import SKYLAKE_X, Access, PagingMode, gva_index
from quire.paging import Context, new_context

FRAMES = 64
ROOT, PAGE, EPT_ROOT, EPT_ROOT_5, LOG_FRAME, INFO_FRAME, SPPT_FRAME = 1, 6, 16, 20, 24, 25, 26
GVA = 0x0000_7F12_3456_7ABC
NEAR = 0x0000_7F12_4000_6ABC  #: near the start of the pages of any size that hold it
P, RW, US, A, D, PS, XD = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 63
INDICES = [GVA >> shift & 511 for shift in (39, 30, 21, 12)]


class World:
    """Guest tables at GPA 1..4 pages, EPT tables above; identity-mapped guest frames unless changed."""

    def __init__(self, *, ept: bool) -> None:
        self.memory = np.zeros(FRAMES * 512, np.uint64)
        self.context = new_context(SKYLAKE_X, FRAMES * 4096)
        self.context[Context.CR3] = 0x1000
        self.gva = GVA
        self.entries: list[tuple[int, int]] = []
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

    def wire(self, mode: PagingMode, rng: random.Random) -> None:
        """Wire GVA in guest tables of `mode`, with leaves of any size and random rights in every entry."""
        shapes = (7, 7, 7, 0x27, 0x67, 0x47, 0x67, 3, 0x63, 0x65, 7 | XD)
        top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
        gva = self.gva if mode >= PagingMode.LEVEL_4 else self.gva & 0xFFFF_FFFF
        self.context[Context.PDPTE0 + (gva >> 30 & 3)] = ROOT << 12 | 1
        for level in range(top, 0, -1):
            frame = ROOT + top - level
            entry = rng.choice(shapes)
            if level in (2, 3) and rng.random() < 0.2:
                entry |= PS
            else:
                entry |= (frame + 1) << 12 if level > 1 else PAGE << 12
            if level == 1 or entry & PS:
                entry |= rng.getrandbits(4) << 59
            index = gva_index(gva, level, mode)
            if mode is PagingMode.BITS_32:
                self.memory[frame * 512 + (index >> 1)] |= np.uint64(
                    (entry & 0xFFFF_FFFF) << 32 * (index & 1)
                )
                index >>= 1
            else:
                self.set(frame, index, entry)
            self.entries.append((frame, index))

    def sub_pages(self, rng: random.Random) -> None:
        """A sub-page-permission table that covers the first 2 MiB."""
        for n in range(3):
            self.set(SPPT_FRAME + n, 0, (SPPT_FRAME + n + 1) << 12 | (rng.random() < 0.9))
            self.entries.append((SPPT_FRAME + n, 0))
        for page in range(FRAMES):
            self.set(
                SPPT_FRAME + 3, page, rng.getrandbits(64) & 0x5555_5555_5555_5555 | (rng.random() < 0.1) << 1
            )

    def identity_ept(self, rights: int = 7, flags: int = 0) -> None:
        """Map every frame to itself with 4 KiB EPT pages: root at frame 16."""
        self.set(EPT_ROOT_5, 0, EPT_ROOT << 12 | 0x407 | flags)
        self.entries.append((EPT_ROOT_5, 0))
        for frame in (16, 17, 18):
            self.set(frame, 0, (frame + 1) << 12 | 0x407 | flags)
            self.entries.append((frame, 0))
        for frame in range(FRAMES):
            self.set(19, frame, frame << 12 | rights | 6 << 3 | flags)
        self.entries += [(19, frame) for frame in range(1, 7)] * 2


#: Controls that are one bit; a random context flips each.
SWITCHES = (
    *(Context.NXE, Context.WP, Context.SMEP, Context.SMAP, Context.AC, Context.USER, Context.IMPLICIT),
    *(Context.PAGE_1G, Context.EPT_EXECUTE_ONLY, Context.EPT_2M, Context.EPT_1G, Context.UPDATE),
    *(Context.ADVANCED, Context.PSE, Context.PKE, Context.PKS, Context.STACK),
    *(Context.MBEC, Context.PAGING_WRITE, Context.VERIFY_PAGING, Context.SPP, Context.PML, Context.VE),
)


def random_context(world: World, rng: random.Random) -> None:
    """Flip every control that a walk depends on, and choose its operands."""
    for field in SWITCHES:
        world.context[field] = rng.getrandbits(1)
    for field in (Context.PKE, Context.PKS, Context.SMAP, Context.SMEP):
        world.context[field] = rng.random() < 0.2
    for field in (Context.NXE, Context.EPT_2M, Context.EPT_1G):
        world.context[field] = rng.random() < 0.8
    for field in (Context.PKRU, Context.PKRS):
        world.context[field] = rng.getrandbits(32)
    world.context[Context.PML_ADDRESS] = LOG_FRAME << 12
    world.context[Context.PML_INDEX] = rng.choice((511, 3, 0, 511, 0xFFFF))
    world.context[Context.VE_INFO] = INFO_FRAME << 12
    world.context[Context.SPPTP] = SPPT_FRAME << 12
    world.context[Context.EPTP_INDEX] = 7
    if world.context[Context.EPTP]:
        length = 3 if rng.random() < 0.8 else 4
        flags = rng.getrandbits(1) << 6 | rng.getrandbits(1) << 7
        root = (EPT_ROOT if length == 3 else EPT_ROOT_5) << 12
        world.context[Context.EPTP] = root | length << 3 | 6 | flags


def random_world(rng: random.Random) -> World:
    """A world of any mode with tables that mostly lead somewhere, then a few bits spoiled in either dimension."""
    world = World(ept=rng.random() < 0.7)
    world.gva = rng.choice((GVA, *[NEAR] * 8, NEAR | 0xFF << 48, NEAR | 0xFFFF_8000 << 32))
    mode = rng.choice(list(PagingMode))
    world.wire(mode, rng)
    if world.context[Context.EPTP]:
        marks = rng.choice((0, 0, *(1 << bit for bit in (57, 58, 60, 61, 63)), 3 << 57))
        world.identity_ept(
            rng.choice((*[0x407] * 8, 7, 1, 3, 5, 0x401, 0x403)) | marks, rng.choice((0, 0x100, 0x300))
        )
        world.set(19, PAGE, PAGE << 12 | rng.choice((0x407, 7, 4, 1, 3)) | marks | 6 << 3)
        world.sub_pages(rng)
    random_context(world, rng)
    world.context[Context.MODE] = mode
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3)) if world.entries else 0):
        frame, index = rng.choice(world.entries)
        bit = rng.choice((*range(52), 0, 1, 1, 2, 2, 5, 6, 7, 8, 9, 10, 63, 57, 58, 60, 61))
        world.memory[frame * 512 + index] ^= np.uint64(1 << bit)
    return world


def random_access(rng: random.Random) -> Access:
    """Return an access, seldom one to a shadow stack."""
    return rng.choice(
        (Access.READ, Access.WRITE, Access.FETCH) * 3 + (Access.SHADOW_READ, Access.SHADOW_WRITE)
    )
