"""A batch is the walks of its addresses in order: same values, same statuses, same flags in memory."""

import random

import numpy as np
import pytest

from quire.arch import Access
from quire.errors import MisuseError
from quire.paging import RESULT_WORDS, Context, Result, Status
from quire.paging._kernels import walk
from quire.paging.batch import walk_many
from quire.testing.random_world import random_world
from quire.testing.world import GVA, World

pytestmark = pytest.mark.jitless


def one_by_one(world: World, gvas: list[int], access: Access) -> tuple[list[int], list[int]]:
    values, statuses = [], []
    result = np.zeros(RESULT_WORDS, np.uint64)
    for gva in gvas:
        status = int(walk(world.memory, world.context, np.uint64(gva), np.uint64(access), result))
        statuses.append(status)
        values.append(int(result[Result.ERROR if status else Result.HPA]))
    return values, statuses


def compare(world: World, gvas: list[int], access: Access) -> list[int]:
    memory, context = world.memory.copy(), world.context.copy()
    values, statuses = walk_many(memory, context, np.array(gvas, np.uint64), access)
    expected = one_by_one(world, gvas, access)
    assert (values.tolist(), statuses.tolist()) == expected
    assert (memory == world.memory).all()
    assert (context == world.context).all()
    return expected[1]


@pytest.mark.parametrize("seed", range(6))
def test_random_worlds(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(120):
        world = random_world(rng)
        gvas = [rng.choice((world.gva, world.gva ^ 1 << rng.randrange(64))) for _ in range(rng.randrange(40))]
        compare(world, gvas, rng.choice(list(Access)))


@pytest.mark.parametrize("ept", [False, True])
@pytest.mark.parametrize("entry", [7, 0x67, 5, 0x67 | 1 << 63])
def test_neighbouring_pages_with_and_without_flags(ept: bool, entry: int) -> None:
    rng = random.Random(3)
    world = World(ept=ept)
    if ept:
        world.identity_ept(flags=0x300)
        world.context[Context.EPTP] |= 1 << 6
    world.guest([0x67, 0x67, 0x67, 7])
    base = GVA & ~0x1F_FFFF
    for page in range(48):
        world.set(4, page, entry | rng.randrange(5, 60) << 12)
    gvas = [base | rng.randrange(52) << 12 | rng.randrange(4096) for _ in range(400)]
    seen = set()
    for access in (Access.READ, Access.FETCH, Access.WRITE):
        seen |= set(compare(world, gvas, access))
    assert {Status.OK, Status.PAGE_FAULT} <= seen


def test_wrong_arrays() -> None:
    world = World(ept=False)
    with pytest.raises(MisuseError) as caught:
        walk_many(world.memory, world.context, np.zeros((2, 2), np.uint64), Access.READ)
    assert str(caught.value) == (
        "Addresses of shape (2, 2) and type uint64 cannot be walked: give one row of uint64"
    )
