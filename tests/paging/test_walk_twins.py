"""The walk kernel and its slow twin agree: result, references, and every byte of memory afterwards."""

import itertools
import random

import numpy as np
import pytest

from quire.arch import Access
from quire.paging import Context, Status, WalkRecord
from quire.testing.random_world import random_access, random_world
from quire.testing.walks import walk_both
from quire.testing.world import GVA, World

XD = 1 << 63

pytestmark = pytest.mark.jitless


def compare(world: World, gva: int, access: Access) -> WalkRecord:
    """Walk with both, compare all that they say and do, return the twin's record."""
    both = walk_both(world, gva, access)
    assert both.kernel == both.twin
    return both.record


def test_every_combination_of_low_bits_and_controls_in_one_dimension() -> None:
    outcomes = set()
    leaf_bits = [
        sum(bits) for bits in itertools.product((0, 1), (0, 2), (0, 4), (0, 0x20), (0, 0x40), (0, XD))
    ]
    controls = list(itertools.product((0, 1), repeat=5))
    rng = random.Random(1)
    for leaf in leaf_bits:
        for nxe, wp, smep, smap, user in rng.sample(controls, 6):
            world = World(ept=False)
            world.guest([7, 7, 7, leaf])
            for field, value in (
                (Context.NXE, nxe),
                (Context.WP, wp),
                (Context.SMEP, smep),
                (Context.SMAP, smap),
                (Context.USER, user),
            ):
                world.context[field] = value
            for access in Access:
                outcomes.add(compare(world, GVA, access).status)
    assert outcomes == {Status.OK, Status.PAGE_FAULT}


@pytest.mark.parametrize("seed", range(8))
def test_random_worlds_of_every_mode(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = set()
    for _ in range(800):
        world = random_world(rng)
        outcomes.add(compare(world, world.gva, random_access(rng)).status)
    assert outcomes >= {
        Status.OK,
        Status.PAGE_FAULT,
        Status.EPT_VIOLATION,
        Status.EPT_MISCONFIGURATION,
        Status.VIRTUALIZATION_EXCEPTION,
        Status.LOG_FULL,
    }


@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_every_single_bit_of_a_guest_entry(level: int) -> None:
    for bit, ept in itertools.product(range(64), (False, True)):
        world = World(ept=ept)
        if ept:
            world.identity_ept()
        entries = [7, 7, 7, 7]
        world.guest(entries)
        world.memory[(5 - level) * 512 + (GVA >> (12 + 9 * (level - 1)) & 511)] ^= np.uint64(1 << bit)
        for access in Access:
            compare(world, GVA, access)


@pytest.mark.parametrize("frame", [16, 17, 18])
def test_every_single_bit_of_an_ept_table_entry(frame: int) -> None:
    for bit in range(64):
        world = World(ept=True)
        world.identity_ept()
        world.guest([7, 7, 7, 7])
        world.memory[frame * 512] ^= np.uint64(1 << bit)
        for access in Access:
            compare(world, GVA, access)


@pytest.mark.parametrize(
    ("gva", "status"),
    [
        (0x0000_8000_0000_0000, Status.NON_CANONICAL),
        (0xFFFF_7FFF_FFFF_FFFF, Status.NON_CANONICAL),
        (0xFFFF_8000_0000_0000, Status.PAGE_FAULT),
        (0, Status.PAGE_FAULT),
    ],
)
def test_edges_of_the_address_space(gva: int, status: Status) -> None:
    world = World(ept=False)
    world.guest([7, 7, 7, 7])
    assert compare(world, gva, Access.READ).status is status


def test_a_table_beyond_memory_is_a_value_and_never_read() -> None:
    world = World(ept=False)
    world.guest([7, 7 | 0x3_0000_0000, 7, 7])
    assert compare(world, GVA, Access.READ).status is Status.BUS_ERROR
    world = World(ept=True)
    world.identity_ept()
    world.guest([7, 7, 7, 7 | 0x7000_0000_0000])
    assert compare(world, GVA, Access.READ).status is Status.PAGE_FAULT  # beyond MAXPHYADDR: reserved
