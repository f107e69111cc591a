"""Address spaces: the small numbers that stand for (VPID, PCID, EP4TA) in TLB tags, and who they match.

A mapping is linear (no EPT; EP4TA is None) or combined (EPT on), SDM 3C §28.4.1; its tags are VPID, PCID and EP4TA.
Global pages are kept under PCID None: they match any PCID. Numbers are given once and never reused; there are 65,536.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError

__all__ = ["AddressSpace", "AddressSpaces"]

_CAPACITY = 1 << 16


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """One (VPID, PCID, EP4TA). `pcid` None: global pages. `ep4ta` None: linear mappings, made without EPT."""

    vpid: int
    pcid: int | None
    ep4ta: int | None


class AddressSpaces:
    """The numbers given so far. Raises MisuseError for the 65,537th space."""

    def __init__(self) -> None:
        self._numbers: dict[AddressSpace, int] = {}
        self._spaces: list[AddressSpace] = []

    def number(self, space: AddressSpace) -> int:
        """Return the number of `space`, given at its first use."""
        found = self._numbers.get(space)
        if found is None:
            found = len(self._spaces)
            if found == _CAPACITY:
                raise MisuseError(
                    f"There are {_CAPACITY:#x} address spaces already: flush all and start anew"
                )
            self._numbers[space] = found
            self._spaces.append(space)
        return found

    def space(self, number: int) -> AddressSpace:
        """Return the space that `number` stands for."""
        return self._spaces[number]

    def matching(
        self,
        *,
        vpid: int | None = None,
        pcid: int | None = None,
        ep4ta: int | None = None,
        global_pages: bool = True,
        vpid_zero: bool = True,
        linear: bool = True,
    ) -> npt.NDArray[np.uint8]:
        """Return a mark for each number whose space has the given tags; a tag that is None matches all.

        Global pages match any `pcid` but only when `global_pages`. VPID 0 matches a VPID of None only when
        `vpid_zero` (INVVPID all-context spares it). Linear mappings match only when `linear` (INVEPT spares
        them).
        """
        marks = np.zeros(max(1, len(self._spaces)), np.uint8)
        for number, space in enumerate(self._spaces):
            marks[number] = (
                (space.vpid == vpid if vpid is not None else vpid_zero or space.vpid != 0)
                and (global_pages if space.pcid is None else pcid is None or space.pcid == pcid)
                and (ep4ta is None or space.ep4ta == ep4ta)
                and (linear or space.ep4ta is not None)
            )
        return marks
