"""A walk by the memo is the whole walk: same result, same counts, same flags, whatever the tables became."""

import random

import numpy as np
import pytest

from quire.arch import Access
from quire.kernels import kernel, types
from quire.paging import MEMO_WORDS, RESULT_WORDS, Context, Result, Status
from quire.paging._kernels import walk
from quire.paging._kernels_ept import pointer
from quire.paging._kernels_memo import recall, walk_with_memo
from quire.testing.random_world import random_context
from quire.testing.world import GVA, World

XD = 1 << 63

pytestmark = pytest.mark.jitless

FIELDS = slice(0, int(Result.REFERENCES))


ARRAY = types.uint64[::1]


@kernel(types.int64(ARRAY, ARRAY, ARRAY, types.uint64, types.uint64, ARRAY))
def recall_by_arrays(memory, context, memo, gva, access, result):  # type: ignore[no-untyped-def]
    return recall(pointer(memory), pointer(context), pointer(memo), gva, access, pointer(result))


def both(world: World, memo: np.ndarray, gva: int, access: Access) -> int:
    """Walk whole and by the memo from the same state; compare everything, return the status."""
    plain, quick = world.memory.copy(), world.memory.copy()
    expected, said = np.zeros(RESULT_WORDS, np.uint64), np.zeros(RESULT_WORDS, np.uint64)
    status = int(walk(plain, world.context, np.uint64(gva), np.uint64(access), expected))
    assert int(walk_with_memo(quick, world.context, memo, np.uint64(gva), np.uint64(access), said)) == status
    if status == Status.OK:
        assert said[FIELDS].tolist() == expected[FIELDS].tolist()
    assert (plain == quick).all()
    world.memory[:] = quick
    return status


@pytest.mark.parametrize("ept", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_leaves_may_change_at_any_time(ept: bool, seed: int) -> None:
    """Leaf entries of both dimensions change under the memo; what lies above them stays, as its contract says."""
    rng = random.Random(seed)
    world = World(ept=ept)
    if ept:
        world.identity_ept()
    world.guest([7, 7, 7, 7])
    random_context(world, rng)
    world.context[Context.UPDATE] = 1
    memo = np.zeros(MEMO_WORDS, np.uint64)
    pages = [GVA & ~0xFFF & ~(7 << 12) | n << 12 for n in range(8)]
    recalled = 0
    for _ in range(150):
        page = rng.choice(pages)
        if rng.random() < 0.3:
            leaf = rng.choice((7, 7, 5, 0x27, 0x67, 0, 7 | XD, 7 | 1 << rng.randrange(64)))
            world.set(4, page >> 12 & 511, leaf | rng.choice((5, 6, 7)) << 12)
        if ept and rng.random() < 0.2:
            frame = rng.choice((5, 6, 7))
            entry = rng.choice((7, 7, 1, 5, 3, 2, 4, 0, 7 | 1 << rng.randrange(64)))
            world.set(19, frame, frame << 12 | entry | 6 << 3)
        access = rng.choice(list(Access))
        probe = np.zeros(RESULT_WORDS, np.uint64)
        untouched = world.memory.copy()
        answer = recall_by_arrays(
            *(world.memory, world.context, memo, np.uint64(page | 0x123), np.uint64(access), probe)
        )
        recalled += int(answer) == Status.OK
        assert (world.memory == untouched).all()  # a recall sets no flag
        both(world, memo, page | 0x123, access)
    assert recalled or not world.context[Context.USER]


def test_a_new_version_makes_the_memo_stale() -> None:
    world = World(ept=True)
    world.identity_ept()
    world.guest([7, 7, 7, 7])
    memo = np.zeros(MEMO_WORDS, np.uint64)
    assert both(world, memo, GVA, Access.READ) == Status.OK
    world.set(1, GVA >> 39 & 511, 0)
    world.context[Context.VERSION] += np.uint64(1)
    assert both(world, memo, GVA, Access.READ) == Status.PAGE_FAULT


def test_addresses_that_differ_in_their_sign_only_are_not_mixed_up() -> None:
    world = World(ept=False)
    world.guest([7, 7, 7, 7])
    memo = np.zeros(MEMO_WORDS, np.uint64)
    assert both(world, memo, GVA, Access.READ) == Status.OK
    assert both(world, memo, GVA | 0xFFFF << 48, Access.READ) == Status.NON_CANONICAL
