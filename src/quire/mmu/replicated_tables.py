"""Tables of which every node has a copy: the memory of a hierarchy that stores each entry as often as there are nodes.

After Mitosis (Achermann et al., ASPLOS 2020) and vMitosis (Panwar et al., ASPLOS 2021). A table is known by its copy
on node 0. An entry that references a table references, on each node, that node's copy; accessed and dirty flags, which
hardware sets in the copy that it walks, are read as the union of all copies. What a leaf maps is never itself one of
these tables: the pool that both come from gives a frame one owner.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quire.arch import PTE
from quire.memory import FRAME_SHIFT, FRAME_SIZE, Fill, Owner
from quire.memory.numa import NodePools
from quire.mmu.host import Host
from quire.paging import PagingFormat
from quire.paging.shadow.tables import EntryMemory

__all__ = ["ReplicatedTables"]

_OFFSET = FRAME_SIZE - 1
_ADDRESS = PTE.mask("addr")


class ReplicatedTables:
    """Frames of `owner` on every node of `pools` as the memory of tables in `form`. Addresses are HPAs, in bytes."""

    def __init__(self, host: Host, pools: NodePools, owner: Owner, form: PagingFormat) -> None:
        self.entries: EntryMemory = host.memory  #: what loads and stores an entry of a copy, and may note it
        self._frames = host.memory.frames
        self._pools, self._owner = pools, owner
        self._flags = form.accessed | form.dirty
        self._copies: dict[int, Sequence[int]] = {}

    def copy_on(self, node: int, table: int) -> int:
        """Return the HPA of the copy on `node` of the table at HPA `table`."""
        return self._copies[table][node]

    def copies(self) -> dict[int, Sequence[int]]:
        """Return the HPAs of every table's copies, in the order of nodes, by that on node 0."""
        return dict(self._copies)

    def rows(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return the entries of the tables in these frames, on node 0, 512 each, as :meth:`load` has them."""
        found: npt.NDArray[np.uint64] = self._frames[frames]
        for node in range(1, self._pools.topology.count):
            copies = [self._copies[frame << FRAME_SHIFT][node] >> FRAME_SHIFT for frame in frames.tolist()]
            found |= self._frames[copies] & np.uint64(self._flags) * (found != 0)
        return found

    def load(self, address: int) -> int:
        """Return the entry at `address` as node 0 has it, with the flags that hardware set on any node."""
        first = self.entries.load(address)
        if not first:
            return 0
        offset = address & _OFFSET
        for copy in self._copies[address & ~_OFFSET][1:]:
            first |= self.entries.load(copy | offset) & self._flags
        return first

    def store(self, address: int, entry: int) -> None:
        """Write `entry`, which references node 0's copy if it references a table, on every node."""
        offset = address & _OFFSET
        copies = self._copies[address & ~_OFFSET]
        below = self._copies.get(entry & _ADDRESS) if entry else None
        if below is None:
            for copy in copies:
                self.entries.store(copy | offset, entry)
            return
        rest = entry & ~_ADDRESS
        for copy, child in zip(copies, below, strict=True):
            self.entries.store(copy | offset, rest | child)

    def allocate_table(self) -> int:
        """Return the HPA of node 0's copy of a new table of zeros. Raises OutOfFrames unless every node has a frame."""
        taken: list[int] = []
        try:
            for node in range(self._pools.topology.count):
                taken.append(self._pools.allocate(0, self._owner, Fill.ZERO, (node,)))
        except BaseException:
            for hfn in taken:
                self._pools.free(hfn, 0, self._owner)
            raise
        copies = [hfn << FRAME_SHIFT for hfn in taken]
        self._copies[copies[0]] = copies
        return copies[0]

    def free_table(self, address: int) -> None:
        """Take every copy back."""
        for copy in self._copies.pop(address):
            self._pools.free(copy >> FRAME_SHIFT, 0, self._owner)
