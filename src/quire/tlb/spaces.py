"""Address spaces: the tags of cached mappings, which class they make, and the small numbers that stand for them.

The manual has three classes (SDM 3C §28.4.1): linear mappings, made without EPT and tagged VPID and PCID;
guest-physical mappings, tagged EP4TA; combined mappings, tagged all three. Global pages are kept under PCID None: they
match any PCID. Numbers are given once and never reused; there are 65,535, from 1 on.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.tlb.invalidation import MappingClass, Operand, Operation, Rule

__all__ = ["MARKS", "AddressSpace", "AddressSpaces", "Extent"]

_CAPACITY = (1 << 16) - 1
_REMEMBERED = 64  # operations whose marks are kept, until a space is new


class Extent(StrEnum):
    """How much of an address space an operation drops."""

    NOTHING = "nothing"
    ALL = "all"
    GVA = "gva"  #: what translates the operand's linear address
    GPA = "gpa"  #: what translates the operand's guest-physical address


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """One (VPID, PCID, EP4TA). None: `vpid` of guest-physical mappings, `pcid` of global pages, `ep4ta` without EPT."""

    vpid: int | None
    pcid: int | None
    ep4ta: int | None

    @property
    def mapping_class(self) -> MappingClass:
        """The class of the mappings that have these tags."""
        if self.vpid is None:
            return MappingClass.GUEST_PHYSICAL
        return MappingClass.LINEAR if self.ep4ta is None else MappingClass.COMBINED

    @property
    def shared(self) -> "AddressSpace":
        """Where global pages of this space are kept."""
        return AddressSpace(self.vpid, None, self.ep4ta)

    @property
    def guest_physical(self) -> "AddressSpace | None":
        """The guest-physical mappings that this space's combined ones are made with, None without EPT."""
        return None if self.ep4ta is None else AddressSpace(None, None, self.ep4ta)

    def extent(self, rule: Rule, operand: Operand) -> Extent:
        """Return how much of this space an operation with `rule` drops."""
        of_ept = self.vpid is None
        if self.mapping_class not in rule.classes or (rule.ep4ta and self.ep4ta != operand.ep4ta):
            return Extent.NOTHING
        if not of_ept:
            if (rule.vpid and self.vpid != operand.vpid) or (rule.spare_vpid_0 and self.vpid == 0):
                return Extent.NOTHING
            if not rule.global_pages if self.pcid is None else rule.pcid and self.pcid != operand.pcid:
                return Extent.NOTHING
        if not rule.page:
            return Extent.ALL
        return Extent.GPA if of_ept else Extent.GVA


#: How :meth:`AddressSpaces.marks` writes each extent.
MARKS = {Extent.NOTHING: 0, Extent.ALL: 1, Extent.GVA: 2, Extent.GPA: 3}


class AddressSpaces:
    """The numbers given so far. Raises MisuseError for the 65,536th space."""

    def __init__(self) -> None:
        self._numbers: dict[AddressSpace, int] = {}
        self._spaces: list[AddressSpace] = []
        self._marks: dict[tuple[object, ...], npt.NDArray[np.uint8]] = {}

    def number(self, space: AddressSpace) -> int:
        """Return the number of `space`, given at its first use."""
        found = self._numbers.get(space)
        if found is None:
            found = len(self._spaces) + 1
            if found > _CAPACITY:
                raise MisuseError(
                    f"There are {_CAPACITY:#x} address spaces already: flush all and start anew"
                )
            self._numbers[space] = found
            self._spaces.append(space)
            self._marks.clear()
        return found

    def space(self, number: int) -> AddressSpace:
        """Return the space that `number` stands for."""
        return self._spaces[number - 1]

    def marks(self, operation: Operation, operand: Operand) -> npt.NDArray[np.uint8]:
        """Return what `operation` drops of each space, by number: see :data:`MARKS`."""
        key = (operation, operand.vpid, operand.pcid, operand.ep4ta)
        found = self._marks.get(key)
        if found is None:
            if len(self._marks) == _REMEMBERED:
                self._marks.clear()
            found = self._marks[key] = np.zeros(len(self._spaces) + 1, np.uint8)
            for number, space in enumerate(self._spaces, 1):
                found[number] = MARKS[space.extent(operation.value, operand)]
        return found
