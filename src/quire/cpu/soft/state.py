"""What the hooks and Python share: one array of counters and scalars, and one array of pointers to arrays.

Hooks are compiled and run without Python; each gets the pointer array as its user data. Counters only grow.
"""

from enum import IntEnum

__all__ = ["EVENTS", "RECENT_SLOTS", "Detail", "Pointer", "Recent", "SoftState", "StopCode"]


class Detail(IntEnum):
    """How much a run records."""

    EXITS = 0  #: translations that Unicorn's own TLB misses, faults and exits
    FULL = 1  #: every read, write and instruction fetch goes through the modelled TLB


class StopCode(IntEnum):
    """Which hook asked to stop."""

    NONE = 0
    FAULT = 1  #: a translation failed; the result array says how
    SYSCALL = 2
    TRAP = 3  #: VECTOR holds the exception
    ALIAS = 4  #: a second linear page reached a frame whose first is still cached
    BLOCKS_FULL = 5  #: the table of blocks wants emptying
    TLB_FULL = 6  #: the engine's own TLB is too small for the guest: it grows when it is flushed
    CODE_ALIAS = 7  #: as ALIAS, and one page writes what the other executes: compiled code goes as well
    HELD = 8  #: who answers fills has more to do before the instruction may go on


class SoftState(IntEnum):
    """Index of each scalar in the state array. From READS to BLOCKS they are event counters."""

    READS = 0
    WRITES = 1
    SPLITS = 2  #: accesses that cross a page
    L1D_MISSES = 3
    L2D_HITS = 4
    L1I_MISSES = 5
    L2I_HITS = 6
    FETCH_PAGES = 7  #: instruction-TLB lookups beyond one an instruction: blocks that cross a page
    WALKS = 8
    DIRTY_WALKS = 9  #: of them, walks of a translation that was cached, to set a dirty flag
    FAULTED_WALKS = 10  #: of them, walks that ended in a fault
    GUEST_REFERENCES = 11
    HOST_REFERENCES = 12
    FILLS = 13  #: translations handed to Unicorn's own TLB
    ALIASES = 14
    BLOCKS = 15
    # scalars
    STOP = 16
    FAULT_ACCESS = 17
    VECTOR = 18
    DETAIL = 19
    LAST_FETCH = 20  #: linear page of the last fetch, all ones for none
    LAST_BLOCK = 21
    LAST_BLOCK_SIZE = 22
    BLOCKS_KNOWN = 23
    LOG_USED = 24
    SKIP_SYNC_OFFSET = 25  #: of the engine's flag, 0 if it was not found
    SKIP_SYNC = 26  #: value to give that flag while hooks run
    MEMORY_WORDS = 27
    TLB_WORDS = 28
    TLB_CAPACITY = 29
    FILLS_LEFT = 30  #: fills until TLB_FULL
    EPOCH = (
        31  #: of the guest's code, in bits 63:61: grows when a frame that was fetched from is about to change
    )
    PASS_ALIASES = (
        32  #: 1: aliases do not stop this run of one instruction, which touches two pages of a frame
    )
    IMPLICIT_PAGE = (
        33  #: linear page + 1 that one instruction may reach as a supervisor: its descriptor table
    )
    END = 34  #: address at which the next run of the engine ends of itself; 0 again after it
    COUNT = 35  #: instructions after which it ends, 0 for no such end; 0 again after it
    ANSWERED = 36  #: 1: the result array holds the walk of a fill by the time that the hook is called


#: The scalars that count events, in report order.
EVENTS: tuple[SoftState, ...] = tuple(field for field in SoftState if field < SoftState.STOP)


class Pointer(IntEnum):
    """Index of each array in the pointer array."""

    STATE = 0
    MEMORY = 1
    CONTEXT = 2
    RESULT = 3
    REVERSE = (
        4  #: by host frame: linear page + 1 of the last fill; bit 63 marks a frame that was fetched from
    )
    TLB_ENTRIES = 5
    TLB_STATE = 6
    TLB_SHAPES = 7
    BLOCKS = 8  #: open-addressed pairs: key (linear address, size << 48, epoch << 61), times executed
    LOG = 9  #: code bytes of each new block: key, then ceil(size / 8) words
    RECENT_DATA = 10  #: see Recent, by the low bits of the host frame
    RECENT_FETCH = 11  #: see Recent, by the low bits of the linear page
    MEMO = 12  #: of walks, see the paging room's kernels
    ENVIRONMENT = 13  #: the engine's CPU state, of a Cpu in ring 0; else null
    ENGINE = 14  #: the library's handle
    REGISTER_NUMBERS = 15  #: of RIP, RSP and RFLAGS, as the library has them
    REGISTER_CELLS = 16  #: the address of each of their values
    REGISTER_VALUES = 17


class Recent(IntEnum):
    """Columns of a recent-page slot: where in the L1 TLB a page was found last.

    A slot is valid while the entry still holds the tag, so invalidation and eviction need not know of slots. A
    hit renews the entry's stamp as a full lookup would: counts and replacement are the same, only found sooner.
    """

    PAGE = 0  #: host frame of a data slot, linear page of a fetch slot
    WRITABLE = 1  #: the same page if a write needs no walk, else all ones
    INDEX = 2  #: of the entry
    TAG = 3  #: that it held


#: Slots of each recent-page array; a power of two.
RECENT_SLOTS = 256
