"""Which structures of a modelled TLB are nearest to data, and which look-ups change them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quire.arch import WORD, Side
from quire.cpu.soft.tcg.cells import PAIRS
from quire.tlb import Shape, Shapes, Tlb
from quire.tlb.layout import KIND_SHIFTS, LEVELS, SIDE_NUMBERS, SIZES, Keeping

__all__ = ["FirstLevel", "first_level"]

#: In the order of Access.
_SIDES = (Side.LOAD, Side.STORE, Side.FETCH)


class FirstLevel(NamedTuple):
    """`split`: stores have structures of their own; `unbounded`: one of the structures has no bound.

    `pairs`: as Cell.PAIRS has them, a row for each access.
    """

    split: bool
    unbounded: bool
    pairs: npt.NDArray[np.uint64]


def first_level(tlb: Tlb) -> FirstLevel:
    """Return what the first level of `tlb` is for data."""
    nearest = {side: {row for row, _ in _rows(tlb, side, 0)} for side in (Side.LOAD, Side.STORE)}
    watched = nearest[Side.LOAD] | nearest[Side.STORE]
    pairs = np.full((len(_SIDES), PAIRS), WORD, np.uint64)
    for access, side in enumerate(_SIDES):
        changed = {pair for level in range(LEVELS) for pair in _rows(tlb, side, level)}
        kept = [
            row << 8 | shift
            for row, shift in sorted(changed)
            if row in watched and tlb.shapes[row + Shape.POLICY] != Keeping.UNBOUNDED
        ]
        pairs[access, : len(kept)] = kept
    unbounded = any(tlb.shapes[row + Shape.POLICY] == Keeping.UNBOUNDED for row in watched)
    return FirstLevel(nearest[Side.LOAD] != nearest[Side.STORE], unbounded, pairs)


def _rows(tlb: Tlb, side: Side, level: int) -> list[tuple[int, int]]:
    """Return the rows of the structures at `level` of `side`, each with log2 of a size of page that it holds."""
    at = (SIDE_NUMBERS[side] * LEVELS + level) * SIZES
    numbers = [int(tlb.shapes[at + size]) for size in range(SIZES)]
    return [(Shapes.ROWS + n * len(Shape), KIND_SHIFTS[size]) for size, n in enumerate(numbers) if n >= 0]
