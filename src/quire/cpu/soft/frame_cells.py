"""What compiled hooks and Python share about the frames that an engine compiled code from, and those it may store to.

A word a frame for each: a linear page at which the engine's TLB may have the frame, in terms of how often that TLB was
flushed, for what it had before is gone.
"""

from enum import IntEnum, unique

__all__ = [
    "CODE",
    "EPOCHS",
    "EPOCH_SHIFT",
    "GIVEN_PAGES",
    "INBOX_FRAMES",
    "LARGE_BITS",
    "PAGE",
    "SEVERAL",
    "SIGN",
    "FrameCell",
]

#: Of a frame's word: a linear page + 1, whether there are more, the epoch in which the TLB got them; in that of code
#: also whether there may be any.
PAGE, SEVERAL, EPOCH_SHIFT, EPOCHS, CODE = (1 << 37) - 1, 1 << 37, 38, 1 << 25, 1 << 63
#: The sign of an address that is kept to 48 bits: a page of the upper half has it.
SIGN = 1 << 47
#: Pages that an instruction that runs alone may be given before all of the TLB goes after it.
GIVEN_PAGES = 16
#: Frames that other engines of the machine may leave for one to drop, before it drops everything.
INBOX_FRAMES = 64
#: Regions of 2 MiB, and of 1 GiB, in which the TLB may have parts of such a page, by the low bits of their number.
LARGE_BITS = 1 << 12


@unique
class FrameCell(IntEnum):
    """Words of the array of one engine."""

    RUNS = 0  #: array by frame: of what it may have compiled code from
    STORES = 1  #: array by frame: of pages that it may store to, and not execute
    EPOCH = 2  #: grows with each flush of the whole TLB
    CPU = 3  #: of the library, for DROP_PAGE; 0: nothing can be dropped but everything
    ENGINE = 4  #: likewise, for DROP_CODE
    DROP_PAGE = 5  #: function of the library that takes a page out of the TLB
    DROP_CODE = 6  #: and one that drops code compiled from so many bytes
    FETCHED = 7  #: frame + 1 that an instruction that runs alone was fetched from first
    ALIASED = 8  #: 1: it went on although more should have been dropped
    SHARED = 9  #: 1: other engines have the same memory
    NUMBER = 10  #: of this engine among them
    RUNNERS = 11  #: array by frame: a bit for each engine that may have code of it
    WRITERS = 12  #: array by frame: a bit for each that may store to it
    INBOXES = 13  #: for each engine a number of frames, above INBOX_FRAMES for all, and these frames
    GIVEN = 14  #: how many pages the instruction that runs alone was given, and these pages
    LARGE = 15 + GIVEN_PAGES  #: a bit for each region of 2 MiB, then one for each of 1 GiB
    CELLS = 15 + GIVEN_PAGES + 2 * LARGE_BITS // 64
