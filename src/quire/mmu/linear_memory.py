"""A machine guest's memory by linear address, as event delivery and emulated instructions reach it.

Every access is a walk through the guest's own tables with accessed and dirty updates; a refusal is a value. All
pages of an access are translated before a byte is moved.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from quire.arch import PAGE_SIZE, WORD, Access, ExitReason, Vector
from quire.mmu.paged import PagedMmu
from quire.paging import RESULT_WORDS, Context, Result, Status
from quire.vcpu import Event, Exit, MemoryFault, Nested, exit_of_walk

__all__ = ["WalkedMemory"]


class WalkedMemory:
    """The memory behind `mmu`. `changed` hears of every host-physical range that is written, within `noting` its frame.

    The context's USER says at which privilege accesses are made that are not supervisor accesses by nature.
    """

    def __init__(
        self,
        mmu: PagedMmu,
        changed: Callable[[int, int], None],
        noting: Callable[[int], AbstractContextManager[None]] = lambda hpa: nullcontext(),
    ) -> None:
        self._mmu = mmu
        self._changed, self._noting = changed, noting
        self._bytes = mmu.host.memory.octets.data
        self._result = np.zeros(RESULT_WORDS, np.uint64)

    def read(self, gva: int, size: int, *, supervisor: bool) -> bytes | MemoryFault:
        """Return `size` bytes from `gva`, or why not."""
        pieces = self._reach(gva, size, Access.READ, supervisor)
        if not isinstance(pieces, list):
            return pieces
        return b"".join(bytes(self._bytes[hpa : hpa + count]) for hpa, count in pieces)

    def write(self, gva: int, data: bytes, *, supervisor: bool) -> MemoryFault | None:
        """Write `data` at `gva`; return None, or why not."""
        pieces = self._reach(gva, len(data), Access.WRITE, supervisor)
        if not isinstance(pieces, list):
            return pieces
        done = 0
        for hpa, count in pieces:
            self._changed(hpa, count)
            with self._noting(hpa):
                self._bytes[hpa : hpa + count] = data[done : done + count]
            done += count
        return None

    def _reach(
        self, gva: int, size: int, access: Access, supervisor: bool
    ) -> list[tuple[int, int]] | MemoryFault:
        """Return the host-physical pieces of an access."""
        pieces: list[tuple[int, int]] = []
        while size > 0:
            count = min(size, PAGE_SIZE - gva % PAGE_SIZE)
            found = self.translate(gva, access, supervisor=supervisor)
            if not isinstance(found, int):
                return found
            pieces.append((found, count))
            gva, size = gva + count & WORD, size - count
        return pieces

    def translate(self, gva: int, access: Access, *, supervisor: bool) -> int | MemoryFault:
        """Return the HPA of `gva`, or why an access there is refused."""
        from quire.paging._kernels import walk

        context, result = self._mmu.context, self._result
        virtualization = int(context[Context.VE])
        # No #VE while an event is being delivered (SDM 3C §25.5.7.1).
        context[Context.IMPLICIT], context[Context.VE] = supervisor, 0
        status = walk(self._mmu.host.memory.words, context, np.uint64(gva), np.uint64(access), result)
        context[Context.IMPLICIT], context[Context.VE] = 0, virtualization
        if status == Status.OK:
            return int(result[Result.HPA])
        if status == Status.PAGE_FAULT:
            return self._page_fault(gva, access, int(result[Result.ERROR]), supervisor)
        return _refusal(Status(status), result, gva)

    def _page_fault(self, gva: int, access: Access, error: int, supervisor: bool) -> MemoryFault:
        """Return the guest's own #PF, or the exit of one that the hypervisor has to mend."""
        own = self._mmu.own_fault(gva, access, error, implicit=supervisor)
        if own is not None:
            return Nested(Vector.PF, own, gva)
        return Exit(ExitReason.EXCEPTION_OR_NMI, gva, interruption=Event.exception(Vector.PF, error))


def _refusal(status: Status, result: "np.ndarray[tuple[int], np.dtype[np.uint64]]", gva: int) -> MemoryFault:
    """Return what a failed walk of exactly `gva` comes to. A machine check within delivery shuts the vCPU down."""
    if status is Status.NON_CANONICAL:
        return Nested(Vector.GP, 0)
    stop = exit_of_walk(result, gva)
    return stop if stop is not None else Exit(ExitReason.TRIPLE_FAULT, gpa=int(result[Result.FAULT_GPA]))
