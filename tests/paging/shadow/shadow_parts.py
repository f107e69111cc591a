"""What the world of the shadow tests is made of: bits, frames, addresses, a translation as a TLB holds it."""

from dataclasses import dataclass

from quire.arch import PDE, PTE, PagingMode
from quire.memory import Fill, HostMemory, Owner, OwnerKind, Pool
from quire.paging import Rights

P, RW, US, A, D, G, XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
PS = PDE.mask("PS")
ALL = Rights.READ | Rights.WRITE | Rights.EXECUTE
LARGE = 512  #: the first guest frame of the large page
SMALL_FRAMES = 16
FRAMES = (*range(SMALL_FRAMES), *range(LARGE, LARGE + 4))  #: frames that may be tables
TABLES = (0, 1, 2, 3, 4, 5, LARGE + 1)  #: frames that entries above the leaves are made to reference
DATA = (*range(8), 8, 9, 10, LARGE, LARGE + 1, LARGE + 3)  #: frames that leaves are made to map
_SHADOW = Owner(OwnerKind.SHADOW_TABLE, "shadow tables")

#: Indices that are used at each level, from the top; the rest of a table stays empty.
INDICES = {
    PagingMode.LEVEL_4: ((0, 511), (0, 1), (0, 1), (0, 1, 9)),
    PagingMode.LEVEL_5: ((0,), (0, 511), (0, 1), (0, 1), (0, 1, 9)),
    PagingMode.PAE: ((0, 1, 3), (0, 1), (0, 1, 9)),
    PagingMode.BITS_32: ((0, 1, 513), (0, 1, 9, 1023)),
}


class Frames:
    """Frames of a pool for tables of one owner."""

    def __init__(self, memory: HostMemory, pool: Pool) -> None:
        self.load, self.store, self.pool = memory.load, memory.store, pool

    def allocate_table(self) -> int:
        return self.pool.allocate(0, _SHADOW, Fill.ZERO) << 12

    def free_table(self, address: int) -> None:
        self.pool.free(address >> 12, 0, _SHADOW)


@dataclass(frozen=True, slots=True)
class Cached:
    """A translation as a TLB holds it: the guest's page, what all entries allow, dirty and global flags of the leaf."""

    gva: int
    gpa: int
    shift: int
    writable: bool
    user: bool
    no_execute: bool
    dirty: bool
    is_global: bool


def addresses(mode: PagingMode) -> list[int]:
    """Return every linear page address whose indices are all in use."""
    if mode is PagingMode.NONE:
        return [frame << 12 for frame in (*range(SMALL_FRAMES), LARGE, LARGE + 1, LARGE + 511, 1024)]
    found, width = [0], 10 if mode is PagingMode.BITS_32 else 9
    for indices in INDICES[mode]:
        found = [place << width | index for place in found for index in indices]
    top = {PagingMode.LEVEL_4: 47, PagingMode.LEVEL_5: 56}.get(mode)
    found = [place << 12 for place in found]
    if top:
        found = [gva | (-1 << top & (1 << 64) - 1 if gva >> top & 1 else 0) for gva in found]
    return found
