"""Every combination of entry bits, control bits and access kind: the kernel against the slow twin.

One case a leaf size and access. A sample is taken by a stride that is coprime to the space, so that every value of
every dimension occurs; with ``--whole`` nothing is left out (tens of millions of walks, most of an hour a core).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from quire.arch import EPT_PTE, PDE, PTE, Access, MemoryType, PagingMode
from quire.paging import Context
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.testing.walks import compare_walks
from quire.testing.world import EPT_ROOT, GVA, INDICES, PAGE, ROOT, World

__all__ = ["SUITES", "Space"]

_SAMPLE = 6_000  # walks of a case that is not whole
_STRIDE = 7919


class Space:
    """A product of dimensions; point n is found by division, so that any subset can be walked in order."""

    def __init__(self, *dimensions: Sequence[Any]) -> None:
        self.dimensions = dimensions
        self.size = math.prod(map(len, dimensions))

    def point(self, n: int) -> list[Any]:
        """Return the coordinates of point `n`, 0 to size - 1."""
        chosen = []
        for dimension in reversed(self.dimensions):
            n, at = divmod(n, len(dimension))
            chosen.append(dimension[at])
        return chosen[::-1]

    def points(self, setting: Setting, sample: int | None = None) -> Iterator[list[Any]]:
        """Yield every point, or `sample` of them spread over the space from a start that the seed chooses."""
        count = self.size if setting.whole else min(_SAMPLE if sample is None else sample, self.size)
        stride = 1 if setting.whole else _STRIDE
        while math.gcd(stride, self.size) != 1:
            stride += 1
        start = setting.seed * 104729 % self.size
        return (self.point((start + n * stride) % self.size) for n in range(count))


def _bits(layout_mask: Callable[..., int], *names: str) -> list[int]:
    """Return every combination of the named bits."""
    masks = [layout_mask(name) for name in names]
    return [sum(chosen) for chosen in itertools.product(*((0, mask) for mask in masks))]


# (PKE, PKS, PKRU, IA32_PKRS) for key 3: off, and each way that a key forbids something.
_KEY = 3
_KEYS = [
    (0, 0, 0, 0),
    (1, 0, 1 << 2 * _KEY, 0),
    (1, 0, 2 << 2 * _KEY, 0),
    (0, 1, 0, 1 << 2 * _KEY),
    (0, 1, 0, 2 << 2 * _KEY),
]
_KEYED, _GLOBAL, _PS = PTE.encode(pkey=_KEY), PTE.mask("G"), PDE.mask("PS")
_CONTROLS = (Context.NXE, Context.WP, Context.SMEP, Context.SMAP, Context.AC, Context.USER, Context.IMPLICIT)
_GUEST_LEAF = _bits(PTE.mask, "P", "RW", "US", "A", "D", "G", "XD")
_GUEST_UPPER = [bits | 1 for bits in _bits(PTE.mask, "RW", "US", "XD", "A")]
_GUEST = Space(_GUEST_LEAF, _GUEST_UPPER, *[(0, 1)] * len(_CONTROLS), _KEYS)


def place_guest(world: World, point: list[Any], large: bool) -> None:
    """Bring a one-dimensional world to `point` of the guest space; a large leaf is a 2 MiB page at address 0."""
    leaf, upper, *controls, keys = point
    world.memory[:] = 0
    for field, value in zip(_CONTROLS, controls, strict=True):
        world.context[field] = value
    fields = (Context.PKE, Context.PKS, Context.PKRU, Context.PKRS)
    for field, value in zip(fields, keys, strict=True):
        world.context[field] = value
    # In one half of the space flags are set; in the other the walk only looks.
    world.context[Context.UPDATE] = not leaf & _GLOBAL
    tables = [7 | 1 << 5] * 2 if large else [7 | 1 << 5] * 3
    tables[-1] = upper
    for level, entry in enumerate(tables):
        world.set(ROOT + level, INDICES[level], entry | (ROOT + level + 1) << 12)
    last = len(tables)
    world.set(ROOT + last, INDICES[last], leaf | _KEYED | (_PS if large else PAGE << 12))


def _guest_case(large: bool, access: Access) -> Callable[[Setting, Tally], None]:
    gva = GVA & ~0x1F_FFFF | 0x6ABC if large else GVA

    def run(setting: Setting, tally: Tally) -> None:
        world = World(ept=False, frames=8)
        for point in _GUEST.points(setting):
            place_guest(world, point, large)
            compare_walks(tally, world, gva, access, str(point))

    return run


_EPT_LEAF = _bits(EPT_PTE.mask, "R", "W", "X", "XU", "A", "D")
_EPT_MARKS = _bits(EPT_PTE.mask, "verify_guest_paging", "SSS", "SPP", "suppress_VE", "IPAT")
_EPT_UPPER = _bits(EPT_PTE.mask, "R", "W", "X", "XU")
_EPT_CONTROLS = (Context.EPT_EXECUTE_ONLY, Context.MBEC, Context.ADVANCED, Context.VE, Context.SPP)
_EPT = Space(_EPT_LEAF, range(8), _EPT_UPPER, *[(0, 1)] * len(_EPT_CONTROLS), (0, 1 << 6, 1 << 7))
_MARKED = Space(_EPT_LEAF, _EPT_MARKS, *[(0, 1)] * len(_EPT_CONTROLS), (0, 1 << 6, 1 << 7), (0, 1))


def _ept_world() -> World:
    """Return a world without guest paging."""
    world = World(ept=True, frames=24)
    world.context[Context.MODE] = PagingMode.NONE
    return world


def place_ept(
    world: World, leaf: int, upper: int, controls: list[int], eptp_flags: int, large: bool, *, user: int = 1
) -> None:
    """Bring a world to one page that is mapped by an EPT leaf of these bits, 4 KiB or 2 MiB."""
    world.memory[:] = 0
    world.context[Context.EPTP] = EPT_ROOT << 12 | 3 << 3 | 6 | eptp_flags
    world.context[Context.USER] = user
    for field, value in zip(_EPT_CONTROLS, controls, strict=True):
        world.context[field] = value
    world.context[Context.VE_INFO] = 0x2000
    world.context[Context.SPPTP] = 0x3000
    levels = 3 if large else 4
    for level in range(levels - 1):
        entry = upper if level == levels - 2 else 0x407
        world.set(EPT_ROOT + level, 0, (EPT_ROOT + level + 1) << 12 | entry)
    index = 0 if large else PAGE
    world.set(EPT_ROOT + levels - 1, index, leaf | (_PS if large else PAGE << 12))


def _ept_case(large: bool, access: Access) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        world = _ept_world()
        for leaf, kind, upper, *controls, flags in _EPT.points(setting):
            entry = leaf | kind << EPT_PTE.shift("MT")
            place_ept(world, entry, upper, controls, flags, large)
            compare_walks(tally, world, 0x6ABC, access, f"EPT leaf {entry:#x} under {upper:#x}, {controls}")

    return run


def _marked_case(large: bool, access: Access) -> Callable[[Setting, Tally], None]:
    write_back = EPT_PTE.encode(MT=MemoryType.WB)

    def run(setting: Setting, tally: Tally) -> None:
        world = _ept_world()
        for leaf, marks, *controls, flags, user in _MARKED.points(setting):
            entry = leaf | marks | write_back
            place_ept(world, entry, 0x407, controls, flags, large, user=user)
            compare_walks(tally, world, 0x6ABC, access, f"EPT leaf {entry:#x}, {controls}, EPTP {flags:#x}")

    return run


def _suite() -> Suite:
    suite = Suite(
        "walk-matrix",
        oracle="slow twin",
        title="entry bits x control bits x access kinds, 4K and 2M leaves, kernel against the twin",
    )
    for size, large in (("4k", False), ("2m", True)):
        for access in Access:
            name = access.name.lower().replace("_", "-")
            suite.case(f"guest-{size}-{name}")(_guest_case(large, access))
            suite.case(f"ept-{size}-{name}")(_ept_case(large, access))
            suite.case(f"ept-marks-{size}-{name}")(_marked_case(large, access))
    return suite


SUITES = [_suite()]
