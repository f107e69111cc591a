"""The reverse map against a dict of sets."""

import hypothesis.strategies as st
from hypothesis import given, settings

from quire.paging.shadow.reverse_map import ReverseMap

leaves = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 4))
steps = st.lists(st.tuples(st.booleans(), leaves), max_size=60)


def place(leaf: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return frame, level and entry: the frame of a large leaf is the first of its frames."""
    n, level, slot = leaf
    return n << 9 * (level - 1), level, 0x1000 + 8 * slot


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps=steps, first=st.integers(0, 1100), count=st.sampled_from((1, 2, 5, 100, 600, 1 << 20)))
def test_against_a_dict_of_sets(
    steps: list[tuple[bool, tuple[int, int, int]]], first: int, count: int
) -> None:
    found = ReverseMap()
    model: dict[tuple[int, int], set[int]] = {}
    for add, leaf in steps:
        frame, level, where = place(leaf)
        known = model.setdefault((frame, level), set())
        if add:
            found.add(frame, level, where)
            known.add(where)
        elif where in known:
            found.remove(frame, level, where)
            known.remove(where)
        assert found.leaves(frame, level) == sorted(known)
    everything = sorted((f, lv, where) for (f, lv), known in model.items() for where in known)
    assert sorted(found) == everything
    reached = [
        one for one in everything if one[0] < first + count and first < one[0] + (1 << 9 * (one[1] - 1))
    ]
    assert sorted(found.within(first, count)) == reached


def test_a_frame_that_nothing_maps() -> None:
    found = ReverseMap()
    assert found.leaves(1, 1) == []
    assert found.within(0, 10) == []
    found.add(1, 1, 0x1000)
    found.add(1, 1, 0x1000)
    assert list(found) == [(1, 1, 0x1000)]
    found.remove(1, 1, 0x1000)
    assert list(found) == []
