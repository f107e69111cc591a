"""Scans of sets of every size: the way that holds a tag, the way used longest ago; nothing of the words behind.

And what it takes to add a policy of replacement: two files.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from sampling import some

import quire
from quire.arch import Replacement
from quire.cli.run import command
from quire.kernels import kernel, types
from quire.paging._kernels_ept import WORDS, pointer
from quire.tlb._kernels_replacement import lanes, oldest, scan
from quire.tlb.layout import Keeping

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


#: A policy that nobody else needs: of a full set goes the way behind the one that was used last.
TWIN = '''
class _Next:
    """The way behind the one that was used last."""

    def __init__(self, ways: int) -> None:
        self.ways, self.last = ways, 0

    def use(self, way: int, clock: int) -> None:
        self.last = way

    def victim(self, draw: Callable[[], int]) -> int:
        return (self.last + 1) % self.ways


class Replacement(StrEnum):
'''
MEMBER = """
    NEXT = "next", 7, "the way behind the one that was used last", True, _Next

    # The defaults"""
NUMBER = "\n_NEXT = np.int64(Replacement.NEXT.number)\nLRU = "
MARK = """    if policy == _NEXT:
        way = (index - shapes[row + _START]) % shapes[row + _WAYS]
        entries[word_of_set(state, shapes, row, index)] = U(way)
    elif policy == _PLRU:
        point_away"""
CHOICE = """    if policy == _NEXT:
        last = np.int64(entries[word_of_set(state, shapes, row, start)])
        return start + (last + _I1) % shapes[row + _WAYS]
    return least_recent
"""
#: Its twins agree on every access of a replay, by a profile and by an option; then what others make of it.
USE = """
import random
from pathlib import Path
import numpy as np
import quire
from quire.arch import Replacement, Side, profile_by_name
from quire.tlb import AddressSpace, Tlb, TlbOptions, TlbState
from quire.tlb.reference import ReferenceTlb
from quire.trace import records, replay

def agree(profile, options):
    tlb = Tlb(profile, options)
    twin = ReferenceTlb(profile, options, int(tlb.state[TlbState.RANDOM]))
    tlb.enter(AddressSpace(1, 0, None))
    twin.space, twin.global_space = int(tlb.state[TlbState.SPACE]), int(tlb.state[TlbState.GLOBAL_SPACE])
    rng = random.Random(7)
    accesses = [(rng.choice(list(Side)), int(rng.expovariate(1 / 700)) << 12) for _ in range(1500)]
    missed = {level: 0 for level in range(3)}
    for side, gva in accesses:
        replay(tlb, records(np.array([gva], np.uint64), side))
        found = twin.lookup(gva, side)
        for level in range(2 if found is None else found[0] - 1):
            missed[level] += 1
        if found is None:
            twin.fill(gva, side, 0, False, gva)
    counted = tlb.misses()
    assert [counted[f"l{n + 1}d_misses"] + counted[f"l{n + 1}i_misses"] for n in range(2)] == [missed[0], missed[1]]
    return missed[0], missed[1]

text = (Path(quire.__file__).parent / "arch/profiles/skylake-x.toml").read_text().replace('"lru"', '"next"')
Path("next.toml").write_text(text)
by_option = agree(profile_by_name("skylake-x"), TlbOptions(replacement=Replacement("next")))
by_profile = agree(profile_by_name("next.toml"), TlbOptions())
assert by_option == by_profile != agree(profile_by_name("skylake-x"), TlbOptions())
print(min(by_option) > 0)
"""


def test_a_policy_is_added_in_two_files(tmp_path: Path) -> None:
    """In a copy of Quire: declared in one, compiled in the other, and a TOML profile, a TLB and its twin have it.

    Compiled in runs that are whole; in a sample the kernels are Python, which compiles nothing.
    """
    copy = tmp_path / "quire"
    shutil.copytree(Path(quire.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in (
        (
            "arch/replacement.py",
            {"\nclass Replacement(StrEnum):\n": TWIN, "\n    # The defaults": MEMBER},
        ),
        (
            "tlb/_kernels_replacement.py",
            {
                "\nLRU = ": NUMBER,
                "    if policy == _PLRU:\n        point_away": MARK,
                "    return least_recent\n": CHOICE,
            },
        ),
    ):
        text = (copy / name).read_text(encoding="utf-8")
        for before, after in changes.items():
            assert text.count(before) == 1
            text = text.replace(before, after)
        (copy / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": some("0", "1")},
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


def test_numbers_of_policies_are_their_own() -> None:
    numbers = [one.number for one in Replacement]
    assert len(set(numbers)) == len(numbers) and min(numbers) >= 0
    assert max(Keeping) < 0, "what is no policy lies below"
    assert [Replacement(str(one)) for one in Replacement] == list(Replacement)


def test_the_command_offers_every_policy() -> None:
    (option,) = (one for one in command.params if one.name == "tlb_replacement")
    assert isinstance(option.type, click.Choice) and list(option.type.choices) == [
        str(one) for one in Replacement
    ]
