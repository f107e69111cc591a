"""Random worlds: any mode, any control, tables that mostly lead somewhere, a few bits spoiled. Seeded by the caller."""

import random

import numpy as np

from quire.arch import Access, PagingMode, physical_reserved, pse36_reserved
from quire.paging import Context
from quire.testing.world import (
    EPT_ROOT,
    EPT_ROOT_5,
    GVA,
    INFO_FRAME,
    LOG_FRAME,
    NEAR,
    PAGE,
    SPPT_FRAME,
    World,
)

__all__ = ["random_access", "random_context", "random_world"]

# Controls that are one bit; a random context flips each.
_SWITCHES = (
    Context.NXE,
    Context.WP,
    Context.SMEP,
    Context.SMAP,
    Context.AC,
    Context.USER,
    Context.IMPLICIT,
    Context.PAGE_1G,
    Context.EPT_EXECUTE_ONLY,
    Context.EPT_2M,
    Context.EPT_1G,
    Context.UPDATE,
    Context.ADVANCED,
    Context.PSE,
    Context.PKE,
    Context.PKS,
    Context.STACK,
    Context.MBEC,
    Context.PAGING_WRITE,
    Context.VERIFY_PAGING,
    Context.SPP,
    Context.PML,
    Context.VE,
)


def random_context(world: World, rng: random.Random) -> None:
    """Flip every control that a walk depends on, and choose its operands."""
    for field in _SWITCHES:
        world.context[field] = rng.getrandbits(1)
    for field in (Context.PKE, Context.PKS, Context.SMAP, Context.SMEP):
        world.context[field] = rng.random() < 0.2
    for field in (Context.NXE, Context.EPT_2M, Context.EPT_1G):
        world.context[field] = rng.random() < 0.8
    width = rng.choice((36, 46, 52, 52))
    world.context[Context.RESERVED] = physical_reserved(width)
    world.context[Context.PSE_RESERVED] = pse36_reserved(width, rng.random() < 0.8)
    for field in (Context.PKRU, Context.PKRS):
        world.context[field] = rng.getrandbits(32)
    world.context[Context.PML_ADDRESS] = LOG_FRAME << 12
    world.context[Context.PML_INDEX] = rng.choice((511, 3, 0, 511, 0xFFFF))
    world.context[Context.VE_INFO] = INFO_FRAME << 12
    world.set(INFO_FRAME, 4, rng.getrandbits(64))
    world.context[Context.SPPTP] = SPPT_FRAME << 12
    world.context[Context.EPTP_INDEX] = rng.choice((6, 7))
    if world.context[Context.EPTP]:
        length = 3 if rng.random() < 0.8 else 4
        flags = rng.getrandbits(1) << 6 | rng.getrandbits(1) << 7
        root = (EPT_ROOT if length == 3 else EPT_ROOT_5) << 12
        world.context[Context.EPTP] = root | length << 3 | 6 | flags


def random_world(rng: random.Random) -> World:
    """A world of any mode with tables that mostly lead somewhere, then a few bits spoiled in either dimension."""
    world = World(ept=rng.random() < 0.7)
    world.gva = rng.choice((GVA, *[NEAR] * 9, NEAR | 0xFF << 48, NEAR | 0xFFFF_8000 << 32, NEAR ^ _edge(rng)))
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
    if world.context[Context.EPTP] and rng.random() < 0.1:
        world.context[Context.SPP] = 1
        world.set(19, PAGE, PAGE << 12 | 1 | 1 << 61 | 6 << 3)
    if rng.random() < 0.15:
        _point_at_the_edge(world, rng)
    if rng.random() < 0.05:
        world.context[Context.PDPTE0 + (world.gva >> 30 & 3)] ^= np.uint64(1)
    if world.context[Context.EPTP] and rng.random() < 0.15:
        world.large_ept(rng.choice((7, 1, 3, 0x407)) | rng.choice((0, 0, 0x300, 1 << 57, 1 << 58, 1 << 61)))
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3)) if world.entries else 0):
        frame, index = rng.choice(world.entries)
        bit = rng.choice((*range(52), 0, 1, 1, 2, 2, 5, 6, 7, 8, 9, 10, 63, 57, 58, 60, 61))
        world.memory[frame * 512 + index] ^= np.uint64(1 << bit)
    return world


def _edge(rng: random.Random) -> int:
    """Return bits at the border of what makes an address canonical, in 48 or 57 bits."""
    top = rng.choice((46, 47, 48, 49, 55, 56, 57, 58, 63))
    return rng.choice((1 << top, (1 << 64) - (1 << top)))


def _point_at_the_edge(world: World, rng: random.Random) -> None:
    """Let one entry lead to the first byte that is not memory, and walk an address without an offset."""
    world.gva &= ~0xFFF
    if not world.entries or world.context[Context.MODE] == PagingMode.BITS_32:
        return
    frame, index = rng.choice(world.entries)
    entry = int(world.memory[frame * 512 + index])
    world.set(frame, index, entry & ~0x000F_FFFF_FFFF_F000 | world.frames << 12)


def random_access(rng: random.Random) -> Access:
    """Return an access, seldom one to a shadow stack."""
    return rng.choice(
        (Access.READ, Access.WRITE, Access.FETCH) * 3 + (Access.SHADOW_READ, Access.SHADOW_WRITE)
    )
