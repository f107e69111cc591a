"""A replay with walks does what one look-up, walk and fill after another does: same counts, entries, flags."""

import random

import numpy as np
import pytest

from quire.arch import PTE, profile_by_name, profile_names
from quire.kernels import kernel, types
from quire.paging import MEMO_WORDS, RESULT_WORDS, Context, Result, Status
from quire.paging._kernels_ept import WORDS, pointer
from quire.study.big_tables import BigTables, big_tables
from quire.tlb import TRANSLATION, AddressSpace, Tlb, TlbState
from quire.tlb._kernels_arrays import fill, lookup
from quire.tlb.walker import PATH_WORDS, Walker
from quire.tlb.walker._kernels import translation
from quire.tlb.walker._kernels_arrays import walk_behind_caches
from quire.trace import RECORD, Walks, replay_walks

ARRAY = types.uint64[::1]
SIZE, ACCESSES = 64 << 20, 2500
FETCH, LOAD, STORE = range(3)
#: What a walk is asked for, by side.
ACCESS = {FETCH: 2, LOAD: 0, STORE: 1}
P, D, G = (PTE.mask(name) for name in ("P", "D", "G"))


@kernel(types.uint64(WORDS))
def translation_of(result):
    return translation(result)


@kernel(types.uint64(ARRAY))
def made_of(result):
    return translation_of(pointer(result))


def leaf_at(tables: BigTables, gva: int) -> int:
    """Return the index of the guest's leaf for `gva`; guest-physical is host-physical there."""
    table = int(tables.context[Context.CR3])
    for shift in (39, 30, 21, 12):
        at = (table >> 3) + (gva >> shift & 511)
        entry = int(tables.memory[at])
        if shift == 12 or entry & 1 << 7:
            return at
        table = entry & PTE.mask("addr")
    raise AssertionError


def world(
    guest: int, host: int, rng: random.Random, *, globals_too: bool
) -> tuple[BigTables, list[tuple[int, int]]]:
    """Return tables some of whose leaves are clean, absent or global, and accesses to a part of their pages."""
    tables = big_tables(SIZE, guest, host)
    pages = [int(one) >> 12 << 12 for one in tables.addresses(400, rng.randrange(1000))]
    for gva in pages:
        change = rng.choice((0, 0, D, D, P, G if globals_too and rng.random() < 0.1 else 0))
        tables.memory[leaf_at(tables, gva)] ^= np.uint64(change)
    tables.context[Context.PGE] = 1
    drawn = (pages[min(int(rng.expovariate(0.01)), len(pages) - 1)] for _ in range(ACCESSES))
    return tables, [(rng.choice((FETCH, LOAD, LOAD, STORE)), gva + rng.randrange(4096)) for gva in drawn]


def one_by_one(tlb: Tlb, accesses: list[tuple[int, int]], tables: BigTables) -> Walks:
    """Look up, walk and fill for each access on its own."""
    memory, context = tables.memory, tables.context
    memo, result = np.zeros(MEMO_WORDS, np.uint64), np.zeros(RESULT_WORDS, np.uint64)
    path, counts = np.zeros(PATH_WORDS, np.uint64), [0, 0, 0, 0]
    for side, gva in accesses:
        where = (tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), side)
        index = int(lookup(*where))
        if index >= 0:
            value = int(tlb.entries[2 * tlb.capacity + (index & 0xFFFF_FFFF)])
            if side != STORE or TRANSLATION.get(value, "dirty"):
                continue
        walker = Walker(memory, context, memo, result, tlb.entries, tlb.state, tlb.shapes, path)
        status = walk_behind_caches(walker, np.uint64(gva), np.uint64(ACCESS[side]))
        counts[0] += 1
        counts[1] += status != Status.OK
        counts[2] += int(result[Result.GUEST_REFERENCES])
        counts[3] += int(result[Result.HOST_REFERENCES])
        if status == Status.OK:
            size = {12: 0, 21: 1}[int(min(result[Result.GUEST_SHIFT], result[Result.HOST_SHIFT]))]
            fill(*where, np.uint64(size), bool(result[Result.GLOBAL]), made_of(result), index < 0)
            if tlb.state[TlbState.FULL]:
                tlb.grow()
    return Walks(*counts)


@pytest.mark.parametrize("globals_too", [False, True], ids=["", "globals"])
@pytest.mark.parametrize(("guest", "host"), [(4096, 4096), (2 << 20, 4096), (2 << 20, 2 << 20)])
@pytest.mark.parametrize("name", profile_names())
def test_as_one_after_another(name: str, guest: int, host: int, globals_too: bool) -> None:
    rng = random.Random(f"{name} {guest} {host} {globals_too}")
    tables, accesses = world(guest, host, rng, globals_too=globals_too)
    twin_tables = BigTables(tables.memory.copy(), tables.context.copy(), tables.guest_bytes)
    tlb, twin = Tlb(profile_by_name(name)), Tlb(profile_by_name(name))
    stream = np.array([RECORD.encode(side=side, gva=gva) for side, gva in accesses], np.uint64)
    for space in (AddressSpace(1, 0, 1), AddressSpace(1, 5, 1), AddressSpace(1, 0, 1)):
        tlb.enter(space)
        twin.enter(space)
        walks = replay_walks(tlb, stream, tables.memory, tables.context)
        assert walks == one_by_one(twin, accesses, twin_tables)
        assert 0 < walks.faulted <= walks.walks, "absent pages are walked each time"
    assert (tlb.misses(), tlb.walk_hits(), tlb.conflicts) == (twin.misses(), twin.walk_hits(), twin.conflicts)
    capacity = tlb.capacity
    assert np.array_equal(tlb.entries[:capacity], twin.entries[:capacity])
    assert np.array_equal(tlb.entries[2 * capacity : 3 * capacity], twin.entries[2 * capacity : 3 * capacity])
    assert np.array_equal(tables.memory, twin_tables.memory)
    assert sum(tlb.lookups().values()) == 3 * ACCESSES
