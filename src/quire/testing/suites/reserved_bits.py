"""Every single bit and every pair of bits of the entries at each level of both dimensions: kernel against twin.

Reserved bits are among them whatever the processor: MAXPHYADDR, NXE, large pages and walk length vary.
"""

import itertools
from collections.abc import Callable

import numpy as np

from quire.arch import LOW32, Access, PagingMode, gva_index, physical_reserved, pse36_reserved
from quire.paging import Context
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.testing.walks import compare_walks
from quire.testing.world import EPT_ROOT, EPT_ROOT_5, NEAR, PAGE, ROOT, World

__all__ = ["SUITES"]

_PS = 1 << 7
_WIDTHS = (36, 40, 46, 52)


def _guest(mode: PagingMode, large: int) -> World:
    """Return a world of `mode` whose leaf is at level `large`, or at level 1."""
    world = World(ept=False, frames=24)
    world.context[Context.MODE] = mode
    world.context[Context.PSE] = 1
    top = 2 if mode in (PagingMode.BITS_32, PagingMode.PAE) else int(mode)
    gva = NEAR & LOW32 if top == 2 else NEAR
    world.gva = gva
    world.context[Context.PDPTE0 + (gva >> 30 & 3)] = ROOT << 12 | 1
    for level in range(top, max(large, 1) - 1, -1):
        frame = ROOT + top - level
        leaf = level == max(large, 1)
        entry = 7 | (PAGE << 12 if level == 1 else _PS if leaf else (frame + 1) << 12)
        index = gva_index(gva, level, mode)
        if mode is PagingMode.BITS_32:
            world.memory[frame * 512 + (index >> 1)] |= np.uint64(entry << 32 * (index & 1))
            world.entries.append((frame, index))
        else:
            world.set(frame, index, entry)
            world.entries.append((frame, index))
    return world


def _flip(world: World, where: tuple[int, int], bits: tuple[int, ...], *, half: bool) -> None:
    frame, index = where
    place = 32 * (index & 1) if half else 0
    for bit in bits:
        world.memory[frame * 512 + (index >> 1 if half else index)] ^= np.uint64(1 << bit + place)


def _choices(width: int, setting: Setting, step: int) -> list[tuple[int, ...]]:
    """Return every bit and every pair of bits, or every bit and each `step`-th pair."""
    pairs = list(itertools.combinations(range(width), 2))
    chosen = pairs if setting.whole else pairs[setting.seed % step :: step]
    return [*((bit,) for bit in range(width)), *chosen]


def _guest_case(mode: PagingMode, large: int) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        half = mode is PagingMode.BITS_32
        choices = _choices(32 if half else 64, setting, 6)
        for n, bits in enumerate(choices):
            count = len(_guest(mode, large).entries)
            for at in range(count):
                world = _guest(mode, large)
                width = _WIDTHS[n % len(_WIDTHS)]
                world.context[Context.RESERVED] = physical_reserved(width)
                world.context[Context.PSE_RESERVED] = pse36_reserved(width, n % 3 > 0)
                world.context[Context.NXE] = n & 1
                world.context[Context.PAGE_1G] = n >> 1 & 1
                _flip(world, world.entries[at], bits, half=half)
                access = Access(n % 3)
                compare_walks(tally, world, world.gva, access, f"{mode.name}, entry {at}, bits {bits}")

    return run


def _ept(length: int, large: int) -> World:
    """Return an unpaged world under EPT of walk length `length`, the leaf at level `large` or 1."""
    world = World(ept=True, frames=24)
    world.context[Context.MODE] = PagingMode.NONE
    frames = [EPT_ROOT_5, EPT_ROOT, EPT_ROOT + 1, EPT_ROOT + 2, EPT_ROOT + 3][5 - length :]
    world.context[Context.EPTP] = frames[0] << 12 | (length - 1) << 3 | 6
    for level, frame in zip(range(length, max(large, 1) - 1, -1), frames, strict=False):
        leaf = level == max(large, 1)
        entry = 7 | (
            PAGE << 12 | 6 << 3 if level == 1 else _PS | 6 << 3 if leaf else frames[length - level + 1] << 12
        )
        index = PAGE if level == 1 else 0
        world.set(frame, index, entry)
        world.entries.append((frame, index))
    return world


def _ept_case(length: int, large: int) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        for n, bits in enumerate(_choices(64, setting, 6)):
            for at in range(len(_ept(length, large).entries)):
                world = _ept(length, large)
                world.context[Context.RESERVED] = physical_reserved(_WIDTHS[n % len(_WIDTHS)])
                for field, shift in ((Context.EPT_EXECUTE_ONLY, 0), (Context.EPT_2M, 1), (Context.EPT_1G, 2)):
                    world.context[field] = n >> shift & 1
                world.context[Context.MBEC] = n >> 3 & 1
                _flip(world, world.entries[at], bits, half=False)
                compare_walks(tally, world, 0x6ABC, Access(n % 3), f"EPT{length}, entry {at}, bits {bits}")

    return run


def _suite() -> Suite:
    suite = Suite(
        "reserved-bits",
        oracle="slow twin",
        title="every bit and every pair of bits at each level of both dimensions, kernel against the twin",
    )
    shapes = {
        PagingMode.BITS_32: (1, 2),
        PagingMode.PAE: (1, 2),
        PagingMode.LEVEL_4: (1, 2, 3),
        PagingMode.LEVEL_5: (1, 2, 3),
    }
    for mode, leaves in shapes.items():
        for leaf in leaves:
            suite.case(f"guest-{mode.name.lower().replace('_', '-')}-leaf-{leaf}")(_guest_case(mode, leaf))
    for length in (4, 5):
        for leaf in (1, 2, 3):
            suite.case(f"ept-length-{length}-leaf-{leaf}")(_ept_case(length, leaf))
    return suite


SUITES = [_suite()]
