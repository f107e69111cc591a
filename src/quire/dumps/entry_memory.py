"""Physical memory of which only the entries of one walk are known, put where the walk looks for them.

The entries of a dump say what they hold and not where they lie: their places follow from the address that was walked
and, from one level to the next, from the entry above.
"""

from collections.abc import Sequence

from quire.arch import EPT_PTE, PDE, PTE, PagingMode, entry_layout, ept_layout, gva_index
from quire.errors import MisuseError
from quire.state.images import ImageMemory

__all__ = ["EntryMemory", "free_page", "levels_of"]

_PAGE = 0x1000
_FRAME = 0x000F_FFFF_FFFF_F000
_PDPT = 0xFFFF_FFE0  # of CR3 in PAE paging
_PRESENT = {False: PTE.mask("P"), True: EPT_PTE.mask("R", "W", "X")}
_PS = PDE.mask("PS")
_MAY_MAP = (2, 3)  # levels whose entries may map a page


class EntryMemory:
    """8-byte words by number, IndexError where the dump has none."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self._given: set[int] = set()  # byte addresses of entries

    def __getitem__(self, index: int) -> int:
        try:
            return self.words[index]
        except KeyError:
            raise IndexError(f"the entry at {index << 3:#x} was not given") from None

    def put(
        self,
        root: int,
        address: int,
        entries: Sequence[int],
        mode: PagingMode,
        *,
        ept: bool = False,
        no_address: int = 0,
    ) -> None:
        """Put `entries`, from the highest level of `mode` down, where a walk for `address` from `root` reads them.

        Bits of `no_address` stand among those of an entry's address and are none of them.
        Raises MisuseError if two of them would have to lie in one place.
        """
        top = 2 if mode is PagingMode.BITS_32 else int(mode)
        table = root & (_PDPT if mode is PagingMode.PAE else _FRAME)
        if mode is PagingMode.PAE:  # MOV to CR3 loads all four: what was not given is not present
            self.words |= dict.fromkeys(range(table >> 3, (table >> 3) + 4), 0)
            self.words.pop((table >> 3) + gva_index(address, 3, mode))
        for level, entry in zip(range(top, 0, -1), entries, strict=False):
            self._put_entry(table, gva_index(address, level, mode), entry, mode)
            maps = (level in _MAY_MAP and mode is not PagingMode.PAE) or level == 2
            if not entry & _PRESENT[ept] or (maps and entry & _PS):
                return  # what is said to lie below is not reached
            layout = ept_layout(level, level == 1) if ept else entry_layout(level, level == 1, mode)
            table = layout.get(entry & ~no_address, "addr")

    def _put_entry(self, table: int, index: int, entry: int, mode: PagingMode) -> None:
        size = 4 if mode is PagingMode.BITS_32 else 8
        at = table + size * index
        shift = 8 * (at & 7)
        if entry >> 8 * size:
            raise MisuseError(
                f"Entry {entry:#x} has more than {size} bytes: the levels of the walk are mixed up"
            )
        word = self.words.get(at >> 3, 0)
        known = at in self._given
        if known and word >> shift & (1 << 8 * size) - 1 != entry:
            raise MisuseError(
                f"Another entry than {entry:#x} would lie at {at:#x} as well: "
                "the levels of one walk are mixed up, give them from the highest to the lowest"
            )
        self._given.add(at)
        self.words[at >> 3] = word | entry << shift

    def image(self) -> ImageMemory:
        """Return the same as the memory of an image, with holes where nothing was given."""
        return ImageMemory(
            (index << 3, memoryview(entry.to_bytes(8, "little"))) for index, entry in self.words.items()
        )


def levels_of(entries: Sequence[int], mode: PagingMode | None = None) -> tuple[PagingMode, list[int]]:
    """Return the paging mode of entries from the highest level down, and one entry a level.

    Linux prints five: with 4-level paging the second, of a level that is not there, repeats the first.
    """
    found = list(entries)
    if len(found) > 1 and found[0] == found[1] and mode is not PagingMode.LEVEL_5:
        del found[1]
    five = mode is PagingMode.LEVEL_5 or (mode is None and len(found) == PagingMode.LEVEL_5)
    return PagingMode.LEVEL_5 if five else PagingMode.LEVEL_4, found


def free_page(entries: Sequence[int]) -> int:
    """Return a page that no entry names: where a root lies of which the dump does not say it."""
    taken = {entry & _FRAME for entry in entries}
    page = _PAGE
    while page in taken:
        page += _PAGE
    return page
