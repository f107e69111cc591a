"""What the emitted operations, the compiled functions behind them and Python share, of one engine.

A context: an array of :class:`Cell`. Beside it cells near the engine's CPU state, which emitted operations reach by a
32-bit displacement: :class:`Near`, then stamps of the pages that the modelled first level holds, then how often each
block ran. Contexts are found by their CPU state, in a table at an address that compiled code has as a constant.
"""

from enum import IntEnum, unique

__all__ = [
    "BLOCKS",
    "CONTEXTS",
    "ENTRY_KIND",
    "ENTRY_PLACE",
    "ENTRY_SIZE",
    "LOG_BYTES",
    "MANY_ACCESSES",
    "MANY_BLOCKS",
    "MANY_STARTS",
    "PAIRS",
    "PATCHES",
    "REGISTRY",
    "REPAIRS",
    "SIDE_SLOTS",
    "SLOTS",
    "STARTS",
    "Cell",
    "Near",
    "Record",
    "Repair",
    "Saved",
]

#: Where the table of contexts is: pairs of a CPU state's address and a context's, this many.
REGISTRY, CONTEXTS = 0x5175_6972_0000, 1 << 12
#: Blocks that may be translated before all are forgotten, their accesses, their instructions; three quarters are used.
BLOCKS, LOG_BYTES, STARTS = 1 << 18, 1 << 22, 1 << 22
MANY_BLOCKS, MANY_ACCESSES, MANY_STARTS = (n * 3 // 4 for n in (BLOCKS, LOG_BYTES, STARTS))
#: Stamps, by the low bits of the linear page; entries of the engine's TLB that are kept, likewise.
SLOTS, SIDE_SLOTS = 1 << 12, 1 << 18
#: Constants within a block that are only known at its end: the generator ends a block of some 4,000 operations, and an
#: access takes nine.
PATCHES = 1 << 12
#: Rows of the table of repairs: a power of two, twice as many as there are, so that searches end.
REPAIRS = 1 << 9
#: Of the second word of an entry of the buffer of accesses: bits of the instruction's address, or the block's number;
#: where the kind begins, and log2 of the size.
ENTRY_PLACE, ENTRY_KIND, ENTRY_SIZE = 48, 48, 50
#: Structures, in a size each, that look-ups of a side may change.
PAIRS = 12


@unique
class Near(IntEnum):
    """Offsets in the cells near the CPU state."""

    CLOCK = (
        0  #: of the modelled TLB, as after all accesses of the running block but those counted as they happen
    )
    LAST_FETCH = 8  #: linear page
    LAST_BLOCK = 16  #: number of the block that runs, or ran last; all ones for none
    DONE = 24  #: accesses that the block had made when it called something that may not come back
    READS = 32  #: that were counted as they happened
    WRITES = 40
    ENTRY = 64  #: where the next entry of the buffer of accesses is
    PLACE = 72  #: of an instruction of the library's own that may make some
    LOST = 80  #: entries that had no room
    NOT_EXECUTED = 88  #: instructions, loads and stores of blocks that did not run whole
    NOT_READ = 96
    NOT_WRITTEN = 104
    SLICE = 56  #: blocks that are left of a slice
    EXECUTED = 112  #: instructions of blocks that were translated since a slice was first asked for
    FILLED = 48  #: 1: the engine's TLB took an entry in since its victims were looked through: they may have any page
    STAMPS = (
        4096  #: of loads, or of all data; then those of stores, where these have a structure of their own
    )
    COUNTS = 4096 + 2 * 8 * SLOTS
    END = 4096 + 2 * 8 * SLOTS + 8 * BLOCKS


class Record(IntEnum):
    """Words of a block's record."""

    PC = 0
    SIZE = 1
    INSTRUCTIONS = 2
    ACCESSES = 3  #: that every execution makes
    WRITES = 4  #: of them
    LOG = 5  #: index of the first one's byte in the log of accesses: 1 for a write
    STARTS = 6  #: index of the first instruction's offset from PC in the array of starts
    WORDS = 8


class Saved(IntEnum):
    """Words of an entry of the engine's TLB that is kept."""

    KEY = 0  #: linear page, mmu index << 45, epoch << 47
    RIGHTS = 1  #: 1 read, 2 write without a detour
    ADDEND = 2
    HPA = 3
    IO = 4  #: and 5
    WORDS = 8


class Repair(IntEnum):
    """Words of a row of the table of repairs, in which a helper's row is found from its address on."""

    HELPER = 0  #: 0: no row
    STAND_IN = 1  #: what is called for it, with an argument more
    OPERATION = 2  #: that argument
    RAISES = 3  #: 1: with two more, the other its instruction's address; the one has how its flags are from bit 16 on
    WORDS = 4


@unique
class Cell(IntEnum):
    """Words of a context."""

    USER = 0  #: the pointer array of hooks
    ENV = 1
    NEAR = 2
    NEAR_OFFSET = 3  #: from ENV
    FULL = 4  #: 1: accesses are counted and looked up; 0: blocks are counted
    RECORDS = 5
    LOG = 6
    SAVED = 7
    EPOCH = 8  #: of the engine's TLB: grows with each flush
    NEXT = 9  #: number of the next block
    LOGGED = 10
    # of the block that is being translated
    BEGUN = 11  #: 1 behind its exit check
    LABELLED = 12  #: 1 behind a label: what follows may be jumped over, and is counted as it happens
    ACCESSES = 13
    WRITES = 14
    PAGE_MOVE = 15  #: the operation that has the block's page as a constant
    PATCHED = 16
    TEMPS = 17  #: temporaries of the emitted operations, three
    PATCHES = 20  #: array of pairs: an operation, the accesses before it
    # of the modelled first level
    SPLIT = 21  #: 1: stores have stamps of their own
    PAIRS = 22  #: structures and sizes that look-ups of each side may change: row << 8 | shift
    OWNERS = 23  #: by slot: linear page that has its stamp there, all ones for none
    ENTRIES = 24  #: by slot: the TLB entry that holds that page
    TAGS = 25  #: by slot: the tag that this entry had
    FOLLOWERS = 26  #: by slot: the next slot of the same entry, all ones for none
    HEADS = 27  #: by TLB entry: its first slot, all ones for none
    # functions
    LOOK_UP = 28
    FETCH = 29
    CHECK = 30  #: the library's exit check
    PURE_ALL = 31  #: functions of the library that are called often and touch no memory of the guest
    PURE_CARRY = 32
    PURE_NEXT = 33
    PRIVILEGE = 34  #: what tells walks the privilege of an access, 0 for none
    # of a request to stop at the next block
    RETURNS = 35
    LEAVE = 36
    LOOKED_AT = 37
    # of instructions
    STARTS = 38  #: array of offsets, 16 bits each
    STARTED = 39
    TCG = 40  #: TCGContext of the block
    UNBOUNDED = 41  #: 1: a first-level structure for data has no bound, and is not among PAIRS
    # of helpers of the library that others stand for
    REPAIRS = 42  #: table of Repair, by the helper's address
    PROTOTYPE = 43  #: a helper of the library that may do anything, as the generator's idea of those others
    CALL = 44  #: arguments of a call that is emitted, up to eight
    RESOLVE = 52  #: function that loads who stands for the helper of a row
    SLICED = 54  #: 1: each block takes one off the slice, and runs only if there was one
    SLICE_ENDS = 55  #: function that ends the run in front of a block when there is none
    COUNTS = 53  #: 1: blocks at least are counted; 0: the generator is as it was, but for repairs
    # of a buffer of all accesses
    RECORDING = 56  #: 1: there is one
    ENTRIES_LIMIT = 57  #: where less room is left than a block may need
    ENTRIES_END = 58
    SOON_FULL = 59  #: function that ends the run in front of a block that finds no more room than that
    # of the model when slots were looked through last
    SEEN_DROPS = 60
    SEEN_SPACE = 61
    SEEN_GLOBAL = 62
    SUM_MOVE = 63  #: operation of the block at hand whose constant is to be how many instructions it has
    CELLS = 64
