"""Scans of sets of every size: the way that holds a tag, the way used longest ago; nothing of the words behind."""

import numpy as np
import pytest
from numba import types

from quire.kernels import kernel
from quire.paging._kernels_ept import WORDS, pointer
from quire.tlb._kernels_replacement import lanes, oldest, scan

pytestmark = pytest.mark.jitless

INT, WORD, ARRAY = types.int64, types.uint64, types.uint64[::1]
START, MOST = 3, 128


@kernel(WORD(WORDS, INT, WORD))
def lanes_at(words, at, word):
    return lanes(words, at, word)


@kernel(WORD(ARRAY, INT, WORD))
def lanes_of(words, at, word):
    return lanes_at(pointer(words), at, word)


@kernel(INT(ARRAY, INT, INT, WORD))
def scan_of(entries, start, ways, tag):
    return scan(pointer(entries), start, ways, tag)


@kernel(INT(ARRAY, INT, INT))
def oldest_of(stamps, start, ways):
    return oldest(pointer(stamps), start, ways)


def test_four_lanes_are_compared_at_once() -> None:
    words = np.array([0, 7, 9, 7, 7, 1 << 63], np.uint64)
    assert [int(lanes_of(words, at, np.uint64(7))) for at in range(3)] == [0b1010, 0b1101, 0b0110]
    assert lanes_of(words, 2, np.uint64(1 << 63)) == 0b1000


@pytest.mark.parametrize("ways", range(1, MOST + 1))
def test_the_way_that_holds_a_tag(ways: int) -> None:
    tag = 0xFEDC_BA98_7654_3210
    for held in (*range(ways), None):
        entries = np.arange(1, START + MOST + 9, dtype=np.uint64)
        entries[[START - 1, *range(START + ways, START + ways + 4)]] = tag  # of the sets beside
        if held is not None:
            entries[START + held] = tag
        found = scan_of(entries, START, ways, np.uint64(tag))
        assert found == (-1 if held is None else START + held)


@pytest.mark.parametrize("ways", range(1, MOST + 1))
def test_the_way_used_longest_ago(ways: int) -> None:
    stamps = np.random.default_rng(ways).permutation(START + MOST + 9).astype(np.uint64) + np.uint64(5)
    stamps[[START - 1, START + ways]] = 0  # of the sets beside
    assert oldest_of(stamps, START, ways) == START + int(np.argmin(stamps[START : START + ways]))
    stamps[START + ways // 2 : START + ways] = 0
    assert oldest_of(stamps, START, ways) == START + ways // 2, "free ways, the first of them"
