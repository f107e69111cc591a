"""How the records of a pool lie in its arrays: what compiled code and Python both index.

Models: one array of words, ``records``, that begins with ``counts``, all counters of the pool and the places of
the rest: ``heads``, ``states`` (of contents) and ``ids`` (of owners), one element a frame; ``bits``, for each order
a bitmap of its free blocks with 64-ary summaries above it. A frame is an *index*: its number
less the pool's base, the base being a multiple of the largest block, so that alignment of indices is alignment
of frame numbers. Does not model: what changes them (kernels do). Fails: never.

Bit b of word w of a summary says that word 64 * w + b of the level below is not zero; the highest level is one
word. So the lowest free block of an order is one look at the lowest set bit on each level.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from quire.memory.owner import MAX_OWNERS

MAX_ORDER: Final = 18  # 2**18 frames of 4 KiB: 1 GiB, the largest x86-64 page
ORDER_COUNT: Final = MAX_ORDER + 1

# One byte for each frame: 0 inside a block, else the block that starts here.
TAKEN: Final = 0x40  # | order
FREE: Final = 0x80  # | order
MARKED: Final = 0x20  # beside TAKEN, only while a batch is checked for frames that it names twice
ORDER_MASK: Final = 0x1F

LEVELS: Final = 7  # of summaries at most: 64**7 is more than the 2**40 frames of 52 address bits


class Count(IntEnum):
    """Where each count is in ``counts`` (int64); the last five are where tables of counts begin."""

    BASE = 0  #: the frame number of index 0
    FIRST = 1  #: the first index of the pool
    END = 2  #: the index behind its last
    INITIAL = 3  #: blocks that it was made with
    SPLITS = 4
    JOINS = 5
    ALLOCATIONS = 6
    FREES = 7
    PEAK = 8  #: the most frames that were taken at one time
    HEADS_AT = 9  #: the first word of each array in the records ...
    STATES_AT = 10
    IDS_AT = 11
    BITS_AT = 12
    RECORDS_END = 13  #: ... and the word behind the last
    FREE_BLOCKS = 16  #: by order
    KINDS = 40  #: frames, by kind of owner; the first is FREE
    HEIGHTS = 56  #: levels of the bitmap, by order
    PLACES = 80  #: the first word in ``bits``, by order and level (LEVELS each)
    HELD = 256  #: frames, by number of owner


COUNTS: Final = int(Count.HELD) + MAX_OWNERS


class Step(IntEnum):
    """What a kernel answers when it gives no frame (an index is never negative)."""

    EXHAUSTED = -1  #: no block suffices, or claims hold what is left
    LOOK = -2  #: what the frame contains is Python's to prove: it should be a hole, or was written while free
    REFUSED = -3  #: not a block that this owner may free


class Handling(IntEnum):
    """What a kernel does with the contents of a frame that it gives out or takes back."""

    NUMBERS = 0  #: nothing: there is no memory
    LEAVE = 1  #: nothing, poison is off
    ZERO = 2
    POISON = 3
    DONE = 4  #: nothing, the caller has done it
    ASK = 5  #: nothing at all: which block would it be?


class Content(IntEnum):
    """What a frame contains as far as the pool knows. FRESH is 0: untouched records describe a new pool."""

    FRESH = 0  # never allocated: a hole
    POISONED = 1  # free, every byte 0x5A
    DISCARDED = 2  # free, a hole again
    STALE = 3  # free, whatever its last owner left (no memory, or poisoning switched off)
    LIVE = 4  # allocated


ALLOCATED_BYTE: Final = 0xA5
FREED_BYTE: Final = 0x5A
