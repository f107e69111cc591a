"""Compiled TLB lookups, insertions and invalidations: fixed-trip tag scans with age stamps, no lists moved.

``entries`` is tags, stamps and translations one after the other (see layout.py). An index identifies an entry;
-1 is a miss. The slow twin is ``reference.py``.
"""

import numpy as np
from numba import njit, types

from quire.tlb.layout import TAG, Role, Shape, TlbState

U = np.uint64
WORDS = types.uint64[::1]
SHAPES = types.int64[:, ::1]

_VALID = U(TAG.mask("valid"))
_SIZE_SHIFT, _SPACE_SHIFT = U(TAG.shift("size")), U(TAG.shift("space"))
_SPACE_MASK = U(TAG.mask("space"))
_L1I_4K, _L1I_2M, _L1D_4K, _L1D_2M, _L1D_1G, _L2, _L2_1G = (int(r) for r in Role)
_START, _SET_MASK, _WAYS = (int(s) for s in Shape)
_CLOCK, _SPACE, _GLOBAL_SPACE, _GLOBALS, _LARGE, _EVICTIONS = (int(s) for s in TlbState)
_0, _1, _2, _12, _21, _30 = (U(n) for n in (0, 1, 2, 12, 21, 30))


@njit(types.uint64(types.uint64, types.uint64, types.uint64), cache=True, nogil=True)
def make_tag(gva, size, space):
    """Return the tag of the page of `size` (0, 1, 2 for 4 KiB, 2 MiB, 1 GiB) that holds `gva`."""
    page = (gva & U((1 << 48) - 1)) >> (_12 + size * U(9))
    return _VALID | (space << _SPACE_SHIFT) | (size << _SIZE_SHIFT) | page


@njit(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64), cache=True, nogil=True)
def probe(entries, state, shapes, role, tag):
    """Return the entry of structure `role` that holds `tag`, its stamp renewed, or -1."""
    ways = shapes[role, _WAYS]
    start = shapes[role, _START] + np.int64(tag & U(shapes[role, _SET_MASK])) * ways
    found = np.int64(-1)
    for way in range(ways):
        if entries[start + way] == tag:
            found = start + way
    if found >= 0:
        entries[entries.size // 3 + found] = state[_CLOCK]
    return found


@njit(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), cache=True, nogil=True)
def insert(entries, state, shapes, role, tag, translation):
    """Put `tag` into structure `role` in place of itself, else of a free, else of the oldest entry of its set."""
    count = entries.size // 3
    ways = shapes[role, _WAYS]
    if ways == 0:
        return np.int64(-1)
    start = shapes[role, _START] + np.int64(tag & U(shapes[role, _SET_MASK])) * ways
    victim = start
    oldest = U((1 << 64) - 1)
    for way in range(ways):
        index = start + way
        if entries[index] == tag:
            victim = index
            break
        if entries[count + index] < oldest:
            oldest = entries[count + index]
            victim = index
    if entries[victim] != _0 and entries[victim] != tag:
        state[_EVICTIONS] += _1
    entries[victim] = tag
    entries[count + victim] = state[_CLOCK]
    entries[2 * count + victim] = translation
    return victim


@njit(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.uint64, types.boolean), cache=True, nogil=True)
def probe_level_1(entries, state, shapes, gva, space, fetch):
    """Return the L1 entry that translates `gva` in address space `space`, or -1."""
    found = probe(entries, state, shapes, _L1I_4K if fetch else _L1D_4K, make_tag(gva, _0, space))
    if found < 0 and state[_LARGE]:
        found = probe(entries, state, shapes, _L1I_2M if fetch else _L1D_2M, make_tag(gva, _1, space))
        if found < 0 and not fetch:
            found = probe(entries, state, shapes, _L1D_1G, make_tag(gva, _2, space))
    return found


@njit(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.uint64), cache=True, nogil=True)
def probe_level_2(entries, state, shapes, gva, space):
    """Return the L2 entry that translates `gva` in address space `space`, or -1."""
    found = probe(entries, state, shapes, _L2, make_tag(gva, _0, space))
    if found < 0 and state[_LARGE]:
        found = probe(entries, state, shapes, _L2, make_tag(gva, _1, space))
        if found < 0:
            found = probe(entries, state, shapes, _L2_1G, make_tag(gva, _2, space))
    return found


@njit(types.int64(types.uint64, types.boolean), cache=True, nogil=True)
def level_1_role(size, fetch):
    """Return the L1 structure for pages of `size`; 1 GiB fetches use the large-page ITLB."""
    if fetch:
        return np.int64(_L1I_4K if size == _0 else _L1I_2M)
    if size == _0:
        return np.int64(_L1D_4K)
    return np.int64(_L1D_2M if size == _1 else _L1D_1G)


@njit(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.boolean), cache=True, nogil=True)
def lookup(entries, state, shapes, gva, fetch):
    """Look `gva` up: return its entry's index, plus 2**32 when it was in L2 and was copied to L1; -1 is a miss."""
    state[_CLOCK] += _1
    found = probe_level_1(entries, state, shapes, gva, state[_SPACE], fetch)
    if found < 0 and state[_GLOBALS]:
        found = probe_level_1(entries, state, shapes, gva, state[_GLOBAL_SPACE], fetch)
    if found >= 0:
        return found
    found = probe_level_2(entries, state, shapes, gva, state[_SPACE])
    if found < 0 and state[_GLOBALS]:
        found = probe_level_2(entries, state, shapes, gva, state[_GLOBAL_SPACE])
    if found < 0:
        return found
    tag = entries[found]
    size = (tag >> _SIZE_SHIFT) & U(3)
    copied = insert(
        entries, state, shapes, level_1_role(size, fetch), tag, entries[2 * (entries.size // 3) + found]
    )
    return (copied if copied >= 0 else found) + (np.int64(1) << 32)


@njit(
    types.int64(WORDS, WORDS, SHAPES, types.uint64, types.boolean, types.uint64, types.boolean, types.uint64),
    cache=True,
    nogil=True,
)
def fill(entries, state, shapes, gva, fetch, shift, is_global, translation):
    """Insert the translation of `gva` into L2 and L1; `shift` is log2 of the page that both dimensions share.

    Returns the index of the L1 entry.
    """
    size = _0 if shift < _21 else (_1 if shift < _30 else _2)
    space = state[_SPACE]
    if is_global:
        space = state[_GLOBAL_SPACE]
        state[_GLOBALS] += _1
    if size:
        state[_LARGE] += _1
    tag = make_tag(gva, size, space)
    insert(entries, state, shapes, _L2_1G if size == _2 else _L2, tag, translation)
    return insert(entries, state, shapes, level_1_role(size, fetch), tag, translation)


@njit(types.int64(WORDS, WORDS, types.uint8[::1], types.uint64, types.boolean), cache=True, nogil=True)
def invalidate(entries, state, spaces, gva, one_page):
    """Drop every entry whose address space is marked in `spaces`, of the page holding `gva` if `one_page`.

    Returns how many were dropped.
    """
    count = entries.size // 3
    dropped = np.int64(0)
    for index in range(count):
        tag = entries[index]
        if tag == _0 or spaces[np.int64((tag & _SPACE_MASK) >> _SPACE_SHIFT)] == 0:
            continue
        if one_page:
            size = (tag >> _SIZE_SHIFT) & U(3)
            if tag != make_tag(gva, size, (tag & _SPACE_MASK) >> _SPACE_SHIFT):
                continue
        entries[index] = _0
        entries[count + index] = _0
        dropped += 1
    return dropped
