"""How a TLB hierarchy lies in arrays: tags, stamps, translations, and the index of every field.

One ``uint64`` array holds three blocks of equal length, an element an entry: tags, LRU stamps, translations. One
``uint64`` array of :class:`TlbState` holds what changes, one ``int64``-valued table of :class:`Shape` rows says
where each structure begins. A tag is a valid bit, an address-space number and a page number of the entry's size;
the number stands for one (VPID, PCID, EP4TA) triple, see :mod:`quire.tlb.spaces`.
"""

from enum import IntEnum

from quire.arch import Layout, bit, bits, ignored

__all__ = ["TAG", "TRANSLATION", "Role", "Shape", "TlbState"]

TAG = Layout(
    "TLB_TAG",
    64,
    "SDM 3C §28.4.1",
    (
        bits(0, 35, "page", "linear address above the page offset"),
        bits(36, 37, "size", "0: 4 KiB, 1: 2 MiB, 2: 1 GiB"),
        bits(38, 53, "space", "number of the (VPID, PCID, EP4TA) triple"),
        ignored(54, 62),
        bit(63, "valid", "the entry holds a translation"),
    ),
)

TRANSLATION = Layout(
    "TLB_TRANSLATION",
    64,
    "SDM 3A §4.10.2.2",
    (
        bits(0, 2, "rights", "combined R, W, X at the privilege of the access"),
        bit(3, "dirty", "a write needs no walk: the dirty flags are set"),
        bits(4, 9, "walk_shift", "log2 of the guest page's size, before splintering"),
        ignored(10, 11),
        bits(12, 51, "frame", "host-physical frame number of the entry's page"),
        ignored(52, 63),
    ),
)


class Role(IntEnum):
    """The structures of a hierarchy, in the order of the shape table: level, side and page size."""

    L1I_4K = 0
    L1I_2M = 1
    L1D_4K = 2
    L1D_2M = 3
    L1D_1G = 4
    L2 = 5  #: unified, 4 KiB and 2 MiB
    L2_1G = 6


class Shape(IntEnum):
    """Columns of the shape table, a row a :class:`Role`; a structure that a CPU lacks has 0 ways."""

    START = 0  #: index of its first entry
    SET_MASK = 1  #: sets - 1
    WAYS = 2


class TlbState(IntEnum):
    """Index of each mutable scalar."""

    CLOCK = 0  #: grows by one a lookup; the stamp of the entry that it touched
    SPACE = 1  #: number of the current (VPID, PCID, EP4TA)
    GLOBAL_SPACE = 2  #: number of (VPID, any PCID, EP4TA), under which global pages are held
    GLOBALS = 3  #: how many global translations were inserted since the last flush of all
    LARGE = 4  #: how many 2 MiB and 1 GiB translations were inserted since the last flush of all
    EVICTIONS = 5
