"""What the hooks and Python share: one array of counters and scalars, and one array of pointers to arrays.

Hooks are compiled and run without Python; each gets the pointer array as its user data. Counters only grow.
"""

from enum import IntEnum, unique

__all__ = [
    "BUS_END",
    "DEVICES",
    "EVENTS",
    "RECENT_SLOTS",
    "TSC_READ",
    "Emitted",
    "Pointer",
    "Recent",
    "SoftState",
    "StopCode",
]


@unique
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
    TLB_GROWS = 8  #: a modelled TLB without bound wants more room
    SLICE_ENDS = 9  #: another vCPU's turn
    HELD = 10  #: who answers fills has more to do before the instruction may go on
    AT_ADDRESS = 11  #: the instruction is next before which the run is to end, or so many have been executed
    INTERRUPTED = 12  #: somebody asked for it
    RECORDS_FULL = 13  #: the buffer of accesses wants emptying


@unique
class SoftState(IntEnum):
    """Index of each scalar in the state array. From READS to BLOCKS they are event counters."""

    READS = 0
    WRITES = 1
    SPLITS = 2  #: accesses that cross a page
    FETCH_PAGES = 3  #: instruction-TLB lookups beyond one an instruction: blocks that cross a page
    WALKS = 4
    DIRTY_WALKS = 5  #: of them, walks of a translation that was cached, to set a dirty flag
    FAULTED_WALKS = 6  #: of them, walks that ended in a fault
    GUEST_REFERENCES = 7
    HOST_REFERENCES = 8
    FILLS = 9  #: translations handed to Unicorn's own TLB
    ALIASES = 10
    BLOCKS = 11
    # scalars
    STOP = 12
    FAULT_ACCESS = 13
    VECTOR = 14
    DETAIL = 15
    LAST_FETCH = 16  #: linear page of the last fetch, all ones for none
    LAST_BLOCK = 17
    LAST_BLOCK_SIZE = 18
    BLOCKS_KNOWN = 19
    LOG_USED = 20
    SKIP_SYNC_OFFSET = 21  #: of the engine's flag, 0 if it was not found
    SKIP_SYNC = 22  #: value to give that flag while hooks run
    MEMORY_WORDS = 23
    FILLS_LEFT = 24  #: fills until TLB_FULL
    EPOCH = (
        25  #: of the guest's code, in bits 63:61: grows when a frame that was fetched from is about to change
    )
    PASS_ALIASES = (
        26  #: 1: aliases do not stop this run of one instruction, which touches two pages of a frame
    )
    IMPLICIT_PAGE = (
        27  #: linear page + 1 that one instruction may reach as a supervisor: its descriptor table
    )
    END = 28  #: address at which the next run of the engine ends of itself; 0 again after it
    COUNT = 29  #: instructions after which it ends, 0 for no such end; 0 again after it
    SLICE = 30  #: blocks until SLICE_ENDS, of a guest with several vCPUs
    ANSWERED = 31  #: 1: the result array holds the walk of a fill by the time that the hook is called
    NODES = 32  #: 1: references are counted by node
    INTERRUPT = 33  #: 1: somebody wants the run to end; set by any thread, 0 again when it has ended
    RUNNING = 34  #: 1 while the Cpu runs: an interruption is to stop the engine, or to keep it from starting
    UNPLACED = 35  #: 1: the engine refused an I/O instruction of the last block, and does not say which
    LEFT = 36  #: instructions until AT_ADDRESS, of a run that ends after so many; as a signed number
    LAST_COUNTED = 37  #: linear address of the instruction taken off LEFT last
    EMITTED = 38  #: an Emitted
    BUS = 41  #: guest-physical address from which on, to 4 GiB, data are devices'; 0 without any
    BUS_BASE = 46  #: what hardware's addresses of devices have added to those of the guest
    TSC_SHARE = (
        42  #: instructions a tick of the time-stamp counter takes; 0: the hook of RDTSC does not answer
    )
    TSC_BASE = 43  #: its value but for instructions executed and for reads, modulo 2**64
    TSC_READS = 44  #: how often it was read
    TSC_AUX = 45
    CELLS = 40  #: address of the context of emitted operations, 0 without
    UNENDED = 39  #: 1: what the last run's last block did not do is still to be taken off, once RIP is known


class Emitted(IntEnum):
    """What operations in the engine's own code do, instead of hooks."""

    NOTHING = 0
    BLOCKS = 1  #: count blocks
    ACCESSES = 2  #: count accesses too, and look them up


#: The scalars that count events, in report order.
EVENTS: tuple[SoftState, ...] = tuple(field for field in SoftState if field < SoftState.STOP)


@unique
class Pointer(IntEnum):
    """Index of each array in the pointer array."""

    STATE = 0
    MEMORY = 1
    CONTEXT = 2
    RESULT = 3
    REVERSE = 4  #: by host frame: linear page + 1 of the last fill, where hooks count accesses
    TLB_ENTRIES = 5
    TLB_STATE = 6
    TLB_SHAPES = 7
    BLOCKS = 8  #: open-addressed pairs: key (linear address, size << 48, epoch << 61), times executed
    LOG = 9  #: code bytes of each new block: key, then ceil(size / 8) words
    RECENT_FETCH = 10  #: see Recent, by the low bits of the linear page
    RECENT_LOAD = 11  #: see Recent, by the low bits of the host frame
    RECENT_STORE = 12  #: as RECENT_LOAD, of pages to which a store needs no walk
    MEMO = 13  #: of walks, see the paging room's kernels
    PATH = 14  #: of a walk, see the tlb room's walker
    ENVIRONMENT = 15  #: the engine's CPU state
    ENGINE = 16  #: the library's handle
    REGISTER_NUMBERS = 17  #: of RIP, RSP and RFLAGS, as the library has them
    REGISTER_CELLS = 18  #: the address of each of their values
    REGISTER_VALUES = 19
    NODE_TABLE = 20  #: the node of each 2 MiB of host memory, null without nodes
    NODE_COUNTS = 21  #: see the tlb room's nodes
    LINES = 22  #: of the last cache before memory
    NEAR = 23  #: cells that emitted operations reach, null without
    FRAMES = 24  #: see FrameCell


class Recent(IntEnum):
    """Columns of a recent-page slot: where in the nearest TLB a page was found last.

    A slot is valid while the entry still holds the tag, so invalidation and eviction need not know of slots. A
    hit renews the entry's stamp as a full lookup would: counts and replacement are the same, only found sooner.
    """

    PAGE = 0  #: host frame of a data slot, linear page of a fetch slot
    INDEX = 1  #: of the entry
    TAG = 2  #: that it held


#: Where the engine finds devices, above any host memory: there plus their guest-physical address, which is below 4 GiB.
DEVICES, BUS_END = 1 << 44, 1 << 32
#: Ticks that pass when a guest reads the time-stamp counter: or one that waits for time to pass would read it a hundred
#: times as often.
TSC_READ = 1000
#: Slots of each recent-page array; a power of two.
RECENT_SLOTS = 256
