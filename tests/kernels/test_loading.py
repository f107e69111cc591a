"""Stored code and Numba give the same answers for the same arrays."""

import random
from typing import Any

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher
from sampling import WHOLE

from quire.arch import SKYLAKE_X, WORD
from quire.kernels import Kernel, load
from quire.kernels.jit import compile_now
from quire.memory._kernels import allocate, free
from quire.memory.blocks import BuddyBlocks
from quire.memory.layout import Handling
from quire.paging import RESULT_WORDS
from quire.paging._kernels import walk
from quire.testing.random_world import random_context, random_world
from quire.testing.world import GVA
from quire.tlb import Tlb, TlbOptions
from quire.tlb._kernels_arrays import fill, lookup

# A kernel is compiled once, in one worker.
pytestmark = pytest.mark.xdist_group("compiled by Numba")


def both(kernel: Kernel) -> tuple[Any, Any]:
    """Return the kernel as it is stored, and as Numba compiles it."""
    assert load(kernel).origin == "stored"
    made = compile_now(kernel)
    assert isinstance(made, CPUDispatcher)
    return kernel, made


@pytest.mark.parametrize("seed", range(20))
def test_walks(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    random_context(world, rng)
    answers = []
    addresses = [
        GVA,
        *(rng.getrandbits(64) for _ in range(10)),
        *(GVA + rng.getrandbits(22) for _ in range(20)),
    ]
    for one in both(walk):
        memory, context, result = world.memory.copy(), world.context.copy(), np.zeros(RESULT_WORDS, np.uint64)
        statuses = [
            (one(memory, context, gva & WORD, seed % 3, result), *result.tolist()) for gva in addresses
        ]
        answers.append((statuses, memory.tolist(), context.tolist()))
    assert answers[0] == answers[1]


@pytest.mark.skipif(not WHOLE, reason="a sample of kernels: walks and frames; all with QUIRE_TESTS=whole")
def test_look_ups_and_fills() -> None:
    answers = []
    for look, enter in zip(both(lookup), both(fill), strict=True):
        tlb, rng, found = Tlb(SKYLAKE_X, TlbOptions()), random.Random(3), []
        for _ in range(3000):
            gva, side, size = rng.getrandbits(24) << 8, rng.randrange(3), rng.choice((0, 0, 0, 1))
            found.append(look(tlb.entries, tlb.state, tlb.shapes, gva, side))
            if found[-1] < 0:
                found.append(enter(tlb.entries, tlb.state, tlb.shapes, gva, side, size, False, gva | 7, True))
        answers.append((found, tlb.entries.tolist(), tlb.state.tolist()))
    assert answers[0] == answers[1]
    assert any(one >= 0 for one in answers[0][0])


def test_frames_taken_and_given_back() -> None:
    answers = []
    for take, give in zip(both(allocate), both(free), strict=True):
        blocks, rng, held, found = BuddyBlocks(0, 1, 4096), random.Random(5), [], []
        memory = np.zeros(4096 * 512, np.uint64)
        for _ in range(2000):
            if held and rng.random() < 0.45:
                hfn, order = held.pop(rng.randrange(len(held)))
                found.append(give(blocks.records, memory, hfn, order, 7, 1, Handling.DONE))
            else:
                order = rng.choice((0, 0, 0, 1, 3))
                found.append(take(blocks.records, memory, order, 7, 1, Handling.DONE, 0))
                if found[-1] >= 0:
                    held.append((found[-1], order))
        answers.append((found, blocks.records.tolist(), memory.tolist()))
    assert answers[0] == answers[1]
    assert len(set(answers[0][0])) > 100
