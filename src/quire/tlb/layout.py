"""How TLBs and walk caches lie in arrays: tags, stamps, values, words of sets, and the index of every field.

One ``uint64`` array holds three blocks of equal length, an element an entry: tags, stamps of the last use, values;
behind them, of each structure, a word a set of what its policy keeps, and then a word a set that counts fills. One
``uint64`` array of :class:`TlbState` holds what changes, one ``int64`` array of :class:`Shapes` says which structure
holds what and where each begins. A tag is an address-space number (never 0), a :class:`Kind` and the page number of
that kind; the number stands for (VPID, PCID, EP4TA), see :mod:`quire.tlb.spaces`.
"""

from enum import IntEnum, unique

from quire.arch import Held, Layout, Side, bit, bits

__all__ = [
    "KINDS",
    "KIND_OF_HELD",
    "KIND_SHIFTS",
    "LEVELS",
    "LISTED_WAYS",
    "SIDES",
    "SIDE_NUMBERS",
    "SIZES",
    "SIZE_OF_SHIFT",
    "TAG",
    "TRANSLATION",
    "Keeping",
    "Kind",
    "Shape",
    "Shapes",
    "TlbState",
]

TAG = Layout(
    "TLB_TAG",
    64,
    "SDM 3C §28.4.1",
    (
        bits(0, 44, "page", "address above the offset that the kind leaves out"),
        bits(45, 47, "kind", "what the entry holds: a page by size, a paging-structure entry by level"),
        bits(48, 63, "space", "number of the (VPID, PCID, EP4TA), from 1 on"),
    ),
)

TRANSLATION = Layout(
    "TLB_TRANSLATION",
    64,
    "SDM 3A §4.10.2.2",
    (
        bit(0, "RW", "writable at every level of the guest's tables"),
        bit(1, "US", "a user page at every level"),
        bit(2, "XD", "no fetches, at any level"),
        bit(3, "dirty", "a write needs no walk: the dirty flags are set"),
        bit(4, "G", "global"),
        bits(5, 8, "ept_rights", "R, W, X, user X of both: what EPT allows, all of them without EPT"),
        bits(9, 10, "walk_size", "guest page before splintering: 0 4 KiB, 1 2 MiB, 2 1 GiB"),
        bit(11, "IPAT", "EPT's memory type counts alone"),
        bits(12, 51, "frame", "host-physical frame number of the entry's page or table"),
        bits(52, 54, "pat", "index in IA32_PAT, of the guest's leaf"),
        bits(55, 57, "ept_type", "memory type of the EPT leaf, 6 without EPT"),
        bits(58, 61, "pkey", "protection key"),
        bits(62, 63, "unused", "0"),
    ),
)


class Kind(IntEnum):
    """What an entry holds."""

    PAGE_4K = 0
    PAGE_2M = 1
    PAGE_1G = 2
    PDE = 4
    PDPTE = 5
    PML4E = 6
    PML5E = 7

    @property
    def shift(self) -> int:
        """log2 of the bytes that one entry covers."""
        return KIND_SHIFTS[self]

    @property
    def is_page(self) -> bool:
        """Whether it is a translation, not a paging-structure entry."""
        return self < Kind.PDE


#: log2 of the bytes that an entry of each kind covers; 3 is no kind.
KIND_SHIFTS = (12, 21, 30, 0, 21, 30, 39, 48)
KIND_OF_HELD = {Held.PDE: Kind.PDE, Held.PDPTE: Kind.PDPTE, Held.PML4E: Kind.PML4E, Held.PML5E: Kind.PML5E}

SIZE_OF_SHIFT = {12: 0, 21: 1, 30: 2}

#: Sides of a TLB (fetch, load, store), levels at most, page sizes.
SIDES, LEVELS, SIZES = 3, 4, 3
SIDE_NUMBERS = {Side.FETCH: 0, Side.LOAD: 1, Side.STORE: 2}
_DIMENSIONS, KINDS = 2, 8

#: Ways of a set at most whose order of use is a list in the set's word, four bits a way.
LISTED_WAYS = 16


class Keeping(IntEnum):
    """What a structure's POLICY may say beside the number of a :class:`Replacement`, which is never below 0."""

    UNBOUNDED = -1  #: a table without bound
    LISTED = -2  #: LRU by a list of ways, of LISTED_WAYS at most, that every use of an entry goes through


class Shapes(IntEnum):
    """Parts of the shape array. HOLDERS: the structure for (side, level, size), -1 for none."""

    HOLDERS = 0
    WALK_HOLDERS = (
        SIDES * LEVELS * SIZES
    )  #: the structure for (linear 0 or guest-physical 1, kind), -1 for none
    ROWS = WALK_HOLDERS + _DIMENSIONS * KINDS  #: five words a structure, see Shape


class Shape(IntEnum):
    """Words of a structure's row."""

    START = 0  #: index of its first entry
    SET_MASK = 1  #: sets - 1; entries - 1 of a table without bound
    WAYS = 2
    POLICY = 3  #: number of a Replacement, or a Keeping
    SET_WORDS = (
        4  #: index of the word of its first set; behind the last set's, how often each set took an entry in
    )


@unique
class TlbState(IntEnum):
    """Index of each mutable scalar."""

    CLOCK = 0  #: grows by one a look-up, in a TLB or a walk cache; the stamp of the entry that it touched
    SPACE = 1  #: number of the current (VPID, PCID, EP4TA)
    GLOBAL_SPACE = 2  #: number of (VPID, any PCID, EP4TA), under which global pages are held
    EPT_SPACE = 3  #: number of the guest-physical mappings of EP4TA, 0 without EPT
    GLOBALS = 4  #: how many global translations were inserted
    LARGE = 5  #: how many entries of 2 MiB and 1 GiB were inserted
    EVICTIONS = 6
    CAPACITY = 7  #: entries of all structures
    DEPTH = 8  #: levels of TLBs
    RANDOM = 9  #: state of the generator of random replacement, never 0
    WALK_CACHES = 10  #: 1 if there is any cache of the walker
    LARGEST = 11  #: largest page that is held whole: 0 4 KiB, 1 2 MiB, 2 1 GiB
    CONFLICTS = 12  #: fills that found an entry of another page size for the same address
    CONFLICT_GVA = 13  #: of the last of them
    UNBOUNDED_START = 14  #: index of the first entry of tables without bound
    USED = 15  #: entries of tables without bound that are not free
    FULL = 16  #: 1: a table without bound should grow
    MARKS = 17  #: 1 if a hit changes the word that some structure keeps of the set
    REPLAY_PAGE = 18  #: by side, the page + 1 that a replay looked up last, if it is still there; three words
    LOOKUPS = 21  #: by side, of a replay; three words
    MISSES = 24  #: by side and level; twelve words
    WALK_HITS = 36  #: by dimension and kind; sixteen words
    KINDS_NESTED = 52  #: a bit for each kind of page that a nested TLB was given
    TABLES_BY_GPA = 53  #: 1: entries of linear walk caches hold the next table's guest-physical address
    PIECES = 54  #: how many entries were inserted that hold a part of a larger page
    DROPS = 55  #: entries dropped so far
    END = 56
