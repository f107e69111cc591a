"""Where the tables lie that a played kernel builds for its guest: in guest frames, by guest-physical addresses."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SHIFT
from quire.mmu.host import Host

__all__ = ["GuestFrames"]

Row = npt.NDArray[np.uint64]


class FrameOwner(Protocol):
    """The Mmu whose guest's frames they are."""

    host: Host

    @property
    def plain(self) -> bool:
        """Whether an entry may be written as any memory is: nobody has to hear of it."""
        ...

    def entry_hpa(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of the guest's table entry at `gpa`, which is to be written if `write` says so."""
        ...

    def store(self, gpa: int, entry: int) -> None:
        """Write the 8-byte entry at guest-physical `gpa` for the guest's kernel."""
        ...

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of guest-physical `gpa`, making it present first if need be."""
        ...

    def allocate_table_frame(self) -> int:
        """Return the guest frame number of a new page for the guest's tables. Raises OutOfFrames."""
        ...

    def free_table_frame(self, gfn: int) -> None:
        """Take back what :meth:`allocate_table_frame` returned."""
        ...


class GuestFrames:
    """Where guest tables live: guest-physical frames, reached as the guest's kernel reaches them."""

    def __init__(self, mmu: FrameOwner) -> None:
        self._mmu = mmu
        self._memory = mmu.host.memory

    @property
    def row(self) -> Callable[[int], Row]:
        """Returns the entries of a table in place; not there (AttributeError) while writes have to be told."""
        if not self._mmu.plain:
            raise AttributeError("row")
        return self._row

    def _row(self, address: int) -> Row:
        found: Row = self._memory.frames[self._mmu.entry_hpa(address) >> PAGE_SHIFT]
        return found

    def load(self, address: int) -> int:
        return self._memory.load(self._mmu.entry_hpa(address))

    def store(self, address: int, entry: int) -> None:
        self._mmu.store(address, entry)

    def allocate_table(self) -> int:
        address = self._mmu.allocate_table_frame() << PAGE_SHIFT
        try:
            hpa = self._mmu.reach(address, write=True)
        except BaseException:
            self.free_table(address)
            raise
        self._memory.fill(hpa >> PAGE_SHIFT, 1, 0)
        return address

    def free_table(self, address: int) -> None:
        self._mmu.free_table_frame(address >> PAGE_SHIFT)
