"""Where things go in a process's address space: stack, mappings, program and heap.

Models the x86-64 layout of Linux (arch/x86/mm/mmap.c, fs/binfmt_elf.c) and its randomisation, which here
comes from a seeded generator: the same seed gives the same addresses. Placement is top-down from the mmap
base, as the kernel does it by default.
"""

import random
from dataclasses import dataclass

from quire.guest.mm.linux import MMAP_MIN_ADDR, PAGE_4K, STACK_GUARD_GAP, TASK_SIZE, page_up
from quire.guest.mm.vma import VmaList

__all__ = ["DEFAULT_STACK_LIMIT", "Layout", "choose_layout", "find_gap"]

#: RLIMIT_STACK as every distribution sets it.
DEFAULT_STACK_LIMIT = 8 << 20

_PIE_BASE = 0x5555_5555_4000
_MINIMUM_GAP = 128 << 20
_STACK_RANDOM_PAGES = 1 << 22
_MMAP_RANDOM_PAGES = 1 << 28
_BRK_RANDOM_PAGES = (32 << 20) // PAGE_4K
_LOW_START = 0x4000_0000
_LOW_END = 0x8000_0000


@dataclass(frozen=True, slots=True)
class Layout:
    """The four anchors, in bytes; `brk_gap` is added to the end of the program."""

    stack_top: int
    mmap_base: int
    pie_base: int
    brk_gap: int


def choose_layout(rng: random.Random, aslr: bool) -> Layout:
    """Return a layout drawn from `rng`, or Linux's fixed one (``setarch -R``) without `aslr`."""
    if not aslr:
        return Layout(TASK_SIZE, TASK_SIZE - _MINIMUM_GAP, _PIE_BASE, 0)
    stack_top = TASK_SIZE - rng.randrange(_STACK_RANDOM_PAGES) * PAGE_4K
    gap = _MINIMUM_GAP + _STACK_RANDOM_PAGES * PAGE_4K + STACK_GUARD_GAP
    return Layout(
        stack_top=stack_top,
        mmap_base=TASK_SIZE - gap - rng.randrange(_MMAP_RANDOM_PAGES) * PAGE_4K,
        pie_base=_PIE_BASE + rng.randrange(_MMAP_RANDOM_PAGES) * PAGE_4K,
        brk_gap=rng.randrange(_BRK_RANDOM_PAGES) * PAGE_4K,
    )


def find_gap(
    areas: VmaList, length: int, base: int, align: int = PAGE_4K, *, low: bool = False
) -> int | None:
    """Return where `length` bytes aligned to `align` are free, or None.

    As high as possible below `base`; if nothing is free there, as high as possible below the end of user
    space. `low` (MAP_32BIT) means as low as possible in the second GiB.
    """
    if low:
        return _find_low(areas, length, align)
    found = _find_below(areas, length, base, align)
    return found if found is not None else _find_below(areas, length, TASK_SIZE, align)


def _find_below(areas: VmaList, length: int, limit: int, align: int) -> int | None:
    for vma in reversed(areas):
        if vma.end < limit:
            candidate = (limit - length) & -align
            if candidate >= vma.end:
                return candidate
        limit = min(limit, vma.guarded_start)
        if limit - length < MMAP_MIN_ADDR:
            return None
    candidate = (limit - length) & -align
    return candidate if candidate >= page_up(MMAP_MIN_ADDR) else None


def _find_low(areas: VmaList, length: int, align: int) -> int | None:
    candidate = _LOW_START
    for vma in areas.overlapping(_LOW_START, _LOW_END):
        if candidate + length <= vma.guarded_start:
            break
        candidate = (max(candidate, vma.end) + align - 1) & -align
    return candidate if candidate + length <= _LOW_END else None
