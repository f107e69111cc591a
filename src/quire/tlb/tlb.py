"""The modelled TLB of one vCPU: split L1, unified L2, tagged with VPID, PCID and EP4TA.

Geometry comes from a CPU profile; replacement is exact LRU in each set. Compiled callers use the arrays with the
kernels; Python uses the methods. Models what hardware may keep until it is told otherwise; does not model
paging-structure caches. Nothing fails but a MisuseError for a profile without a 4 KiB L1 or an L2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quire.arch import CpuProfile
from quire.tlb.invalidation import Operand, Operation
from quire.tlb.layout import TAG, TRANSLATION, Role, Shape, TlbState
from quire.tlb.spaces import AddressSpace, AddressSpaces

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Tlb", "TlbEntry"]

_ROLE_NAMES = {
    Role.L1I_4K: "l1i_4k",
    Role.L1I_2M: "l1i_2m",
    Role.L1D_4K: "l1d_4k",
    Role.L1D_2M: "l1d_2m",
    Role.L1D_1G: "l1d_1g",
    Role.L2: "l2_shared",
    Role.L2_1G: "l2_1g",
}


@dataclass(frozen=True, slots=True)
class TlbEntry:
    """One valid entry: which structure, whose (`space`), which page (`gva`, `size`), where to (`hpa`)."""

    role: Role
    space: AddressSpace
    gva: int
    size: int
    hpa: int
    rights: int
    dirty: bool
    stamp: int


class Tlb:
    """See the module. `entries`, `state` and `shapes` are what the kernels take, as layout.py describes them."""

    def __init__(self, profile: CpuProfile) -> None:
        self.profile = profile
        self.spaces = AddressSpaces()
        self.shapes: npt.NDArray[np.int64] = np.zeros((len(Role), len(Shape)), np.int64)
        start = 0
        for role, name in _ROLE_NAMES.items():
            geometry = profile.tlb(name)
            self.shapes[role] = (start, geometry.sets - 1, geometry.ways)
            start += geometry.entries
        self.capacity = start
        self.entries: npt.NDArray[np.uint64] = np.zeros(3 * start, np.uint64)
        self.state: npt.NDArray[np.uint64] = np.zeros(len(TlbState), np.uint64)
        #: Called with every operation and its operand, whether or not it drops anything.
        self.observers: list[Callable[[Operation, Operand], None]] = []

    def enter(self, space: AddressSpace) -> None:
        """Make `space` the one that lookups and insertions tag; nothing is invalidated."""
        self.state[TlbState.SPACE] = self.spaces.number(space)
        shared = AddressSpace(space.vpid, None, space.ep4ta)
        self.state[TlbState.GLOBAL_SPACE] = self.spaces.number(shared)

    def invalidate(
        self,
        operation: Operation,
        *,
        vpid: int = 0,
        pcid: int = 0,
        ep4ta: int | None = None,
        gva: int = 0,
        gpa: int = 0,
    ) -> int:
        """Apply one row of the invalidation table to its operand; return how many entries were dropped.

        Operands that the rule does not name are ignored. :attr:`observers` hear of every call.
        """
        from quire.tlb import _kernels

        if not self.observers and not self.state[TlbState.CLOCK]:
            return 0  # nothing was ever looked up
        operand = Operand(vpid, pcid, ep4ta, gva, gpa)
        for observer in self.observers:
            observer(operation, operand)
        if not self.state[TlbState.CLOCK]:
            return 0
        rule = operation.value
        marks = np.minimum(self.spaces.marks(rule, operand), 1).astype(np.uint8)
        return int(_kernels.invalidate(self.entries, self.state, marks, np.uint64(gva), rule.page))

    def evict(self, chosen: Callable[[], bool]) -> None:
        """Drop each valid entry that `chosen`, asked once an entry, answers true for."""
        for index in np.flatnonzero(self.entries[: self.capacity]).tolist():
            if chosen():
                self.entries[index] = 0
                self.entries[self.capacity + index] = 0

    def valid(self) -> "Iterator[TlbEntry]":
        """Yield every valid entry, structure by structure."""
        for role in Role:
            first, set_mask, ways = (int(n) for n in self.shapes[role])
            for index in range(first, first + (set_mask + 1) * ways):
                tag = int(self.entries[index])
                if not tag:
                    continue
                shift = 12 + 9 * TAG.get(tag, "size")
                translation = int(self.entries[2 * self.capacity + index])
                yield TlbEntry(
                    role=role,
                    space=self.spaces.space(TAG.get(tag, "space")),
                    gva=TAG.get(tag, "page") << shift,
                    size=1 << shift,
                    hpa=TRANSLATION.get(translation, "frame") << 12,
                    rights=TRANSLATION.get(translation, "rights"),
                    dirty=bool(TRANSLATION.get(translation, "dirty")),
                    stamp=int(self.entries[self.capacity + index]),
                )
