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
_PRESENT = {False: PTE.mask("P"), True: EPT_PTE.mask("R", "W", "X")}
_PS = PDE.mask("PS")
_MAY_MAP = (2, 3)  # levels whose entries may map a page


class EntryMemory:
    """8-byte words by number, IndexError where the dump has none."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        try:
            return self.words[index]
        except KeyError:
            raise IndexError(f"the entry at {index << 3:#x} was not given") from None

    def put(self, root: int, address: int, entries: Sequence[int], top: int, *, ept: bool = False) -> None:
        """Put `entries`, from level `top` down, where a walk for `address` from the table at `root` reads them.

        Raises MisuseError if two of them would have to lie in one place.
        """
        mode = PagingMode.LEVEL_5 if top == PagingMode.LEVEL_5 else PagingMode.LEVEL_4
        table = root & _FRAME
        for level, entry in zip(range(top, 0, -1), entries, strict=False):
            at = (table >> 3) + gva_index(address, level, mode)
            if self.words.setdefault(at, entry) != entry:
                raise MisuseError(
                    f"Entries {self.words[at]:#x} and {entry:#x} would both lie at {at << 3:#x}: "
                    "the levels of one walk are mixed up, give them from the highest to the lowest"
                )
            layout = ept_layout(level, level == 1) if ept else entry_layout(level, level == 1, mode)
            if not entry & _PRESENT[ept] or (level in _MAY_MAP and entry & _PS):
                return  # what is said to lie below is not reached
            table = layout.get(entry, "addr")

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
