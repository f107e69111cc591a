"""The log of a guest's writes: started, harvested, cleared, stopped; the same for every way.

A harvest arms every page that it reports again and flushes what the vCPUs cached of it (SDM 3C §28.4.3.4), so that a
write after it is noticed whether the page has been cleared by then or not. Not logged: the #VE information area, which
the processor writes by host-physical address.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from quire import failpoints
from quire.arch import EPT_VIOLATION_QUALIFICATION, EPTP, PAGE_SHIFT, PAGE_SIZE, ExitReason
from quire.errors import MisuseError
from quire.exits import RESUME, ExitContext, Handler, Next, StopGuest
from quire.mmu.abilities import Mapped
from quire.observe.dirty.large_pages import SplitPages
from quire.observe.dirty.leaves import Leaves
from quire.observe.dirty.page_log import PageLog
from quire.observe.dirty.pages import DirtyPages, members
from quire.observe.dirty.ring import DirtyRing
from quire.observe.dirty.way import DirtyWay
from quire.observe.watched import WatchedMachine, WatchedVcpu
from quire.paging import Context
from quire.tlb import Operation
from quire.vcpu import Exit

__all__ = ["DirtyLog"]

_TO_WRITE = EPT_VIOLATION_QUALIFICATION.mask("W")
_VIOLATION, _FULL = ExitReason.EPT_VIOLATION, ExitReason.PAGE_MODIFICATION_LOG_FULL
_FAULT = ExitReason.EXCEPTION_OR_NMI
_ALL = 1 << 48


class DirtyLog:
    """What the guest of `machine` writes, from now until :meth:`close`. Frames are guest frame numbers of 4 KiB.

    Harvest between two runs of the guest, or in a handler of an exit that an instruction of the guest caused: Quire may
    be about to write what it has reached already. Raises MisuseError for a way that the Mmu does not have,
    OutOfFrames when there is no frame for a log or a table.
    """

    def __init__(self, machine: WatchedMachine, way: DirtyWay) -> None:
        self._machine, self._mapped = machine, _logging_mmu(machine, way)
        self.way = way
        self._map = self._mapped.memory_map
        self._count = self._mapped.guest_bytes >> PAGE_SHIFT
        self._regions = self._mapped.regions
        self._leaves = Leaves(machine.mmu.host.memory, self._map, way, self._count)
        self._written = np.zeros(self._count, np.bool_)  # noticed, and not armed since
        self._reported = np.zeros(self._count, np.bool_)  # harvested, and not cleared
        self._ring: DirtyRing | None = None
        self._stop: Exit | None = (
            None  # the exit that is being dealt with, if the guest's own instruction caused it
        )
        self._logs: dict[WatchedVcpu, PageLog] = {}
        self._split = SplitPages(self._map)
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()

    def harvest(self, *, clear: bool = True) -> DirtyPages:
        """Return the pages written since they were cleared last, or since the start; `clear` clears them at once."""
        if self._ring is not None:
            raise MisuseError("This log fills a ring: take its entries, there is no bitmap to harvest")
        self._collect()
        found = DirtyPages.of(self._reported)
        if clear:
            self._reported[:] = False
        return found

    def clear(self, pages: DirtyPages | npt.NDArray[np.uint64] | Iterable[int]) -> None:
        """Let what was harvested be reported no more, unless it was written since: a harvest, a bitmap, or frames.

        As ``KVM_CLEAR_DIRTY_LOG``, but that a write between harvest and clear is never lost.
        """
        self._reported[members(pages, self._count)] = False

    def ring(self, capacity: int, drain: Callable[[DirtyRing], None] | None = None) -> DirtyRing:
        """Return a ring that gets frames in the order of their first writes, from now on, instead of the bitmap."""
        if not self.way.ordered:
            raise MisuseError(
                f"Logging by {self.way} knows no order of writes: log by {DirtyWay.PML} or {DirtyWay.WRITE_PROTECT}"
            )
        if self._ring is not None:
            raise MisuseError("This log has a ring already: go on with that one")
        ring = DirtyRing(capacity, drain, self._gather, self._rearm_taken)
        self._gather()
        for frame in np.flatnonzero(self._written).tolist():
            ring.push(frame)
        self._ring = ring
        return ring

    def written(self, gpa: int) -> None:
        """Quire itself is about to write at `gpa`."""
        # Quire may write what the guest may not, which a log by write protection has nothing to note in.
        if self._leaves.soil(gpa) or (self._regions is not None and not self._leaves.soiled(gpa)):
            self._note(gpa >> PAGE_SHIFT)

    def violated(self, gpa: int) -> bool:
        """A write at `gpa` was not allowed: allow it, if it was this log that forbade it, and return whether it was."""
        if self.way is not DirtyWay.WRITE_PROTECT:
            return False
        if not self._leaves.armed(gpa):
            return self._leaves.soiled(gpa)  # allowed already: this vCPU had an older translation
        self._check_ring()
        self._leaves.soil(gpa)
        self._note(gpa >> PAGE_SHIFT)
        return True

    def backed(self, gpa: int, size: int) -> None:
        """`size` bytes at `gpa` have memory now: they wait for their first write."""
        self._map.rewrite(gpa, size, self.way.arm)
        self._split.add(gpa, size)

    def close(self) -> None:
        """Stop: give rights back, join large pages that still are alike, turn the processors' logs off. Idempotent."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, undo: ExitStack) -> None:
        machine = self._machine
        undo.callback(self._flush)
        undo.callback(self._split.join)
        self._split.split()
        if self.way is DirtyWay.PML:
            self._logs = {one: PageLog(one, undo) for one in machine.vcpus}
        if failpoints.armed is not None:
            failpoints.reach("protect", self._map.exhausted)
        self._put_handlers(undo)
        undo.callback(self._map.rewrite, 0, _ALL, self.way.release)
        self._tell_shadow(0, _ALL)
        self._map.rewrite(0, _ALL, self.way.arm)
        undo.callback(setattr, self._map, "on_change", self._map.on_change)
        self._before_change = self._map.on_change
        self._map.on_change = self._changes
        for one in machine.vcpus:
            one.mmu.log = self
            undo.callback(setattr, one.mmu, "log", None)
        machine.dirty_log = self
        undo.callback(setattr, machine, "dirty_log", None)
        self._flush()

    def _put_handlers(self, undo: ExitStack) -> None:
        """Deal with the exits that logging makes, before whoever deals with others of their kind."""
        handlers = self._machine.handlers
        own: dict[ExitReason, Handler] = {}
        if self.way is DirtyWay.PML:
            own[_FULL] = self._log_full
        elif self.way is DirtyWay.WRITE_PROTECT:
            own = (
                {_VIOLATION: self._violation}
                if self._mapped.hardware_walks_map
                else {_FAULT: self._page_fault}
            )
        for reason, handler in own.items():
            before = handlers.get(reason)
            self._before = before
            handlers[reason] = handler
            undo.callback(_put_back, handlers, reason, handler, before)

    def _violation(self, context: ExitContext, stop: Exit) -> Next:
        self._stop = stop if context.cpu_exit is stop else None
        if stop.qualification & _TO_WRITE and self.violated(stop.gpa):
            return RESUME
        return self._handle_otherwise(context, stop)

    def _page_fault(self, context: ExitContext, stop: Exit) -> Next:
        self._stop = stop if context.cpu_exit is stop else None
        return self._handle_otherwise(context, stop)  # the Mmu asks :meth:`violated`

    def _handle_otherwise(self, context: ExitContext, stop: Exit) -> Next:
        return StopGuest(stop) if self._before is None else self._before(context, stop)

    def _log_full(self, context: ExitContext, stop: Exit) -> Next:
        self._stop = stop if context.cpu_exit is stop else None
        for vcpu, log in self._logs.items():
            if vcpu.vmcs is context.vmcs:
                self._note_all(log.drain())
        self._check_ring()
        return RESUME

    def _check_ring(self) -> None:
        """Let a ring that is full be drained, or stop the guest, where no access of Quire's own is half done."""
        if self._ring is not None and self._stop is not None:
            self._ring.check(self._stop)

    def _changes(self, start: int, size: int) -> None:
        """The hypervisor changes the map: what the guest sees there may be another page, or have other rights."""
        found = self._map.leaves(max(start, 0), min(size, _ALL - start)).starts >> np.uint64(PAGE_SHIFT)
        self._note_all(found.astype(np.int64))
        self._before_change(start, size)

    def _note(self, frame: int) -> None:
        """Note a write, under every address that the frame has."""
        if self._regions is None or not self._regions.has_aliases:
            self._note_one(frame)
        else:
            for name in self._regions.names(frame << PAGE_SHIFT):
                self._note_one(name >> PAGE_SHIFT)

    def _note_one(self, frame: int) -> None:
        if not self._written[frame]:
            self._written[frame] = True
            if self._ring is not None:
                self._ring.push(frame)

    def _note_all(self, frames: npt.NDArray[np.int64]) -> None:
        if self._ring is None and (self._regions is None or not self._regions.has_aliases):
            self._written[frames] = True
        else:
            for frame in frames.tolist():
                self._note(frame)

    def _gather(self) -> None:
        """Note what the processors know."""
        for log in self._logs.values():
            self._note_all(log.drain())
        if self.way is DirtyWay.DIRTY_BITS:
            found = self._leaves.scan()
            self._written |= found
            if self._regions is not None and self._regions.has_aliases:
                self._note_all(np.flatnonzero(found))

    def _collect(self) -> None:
        """Move what was written to what is reported, and arm it again."""
        self._gather()
        frames = np.flatnonzero(self._written)
        self._reported[frames] = True
        self._rearm(frames)

    def _rearm_taken(self, frames: list[int]) -> None:
        self._rearm(np.unique(np.array(frames, np.int64)))

    def _rearm(self, frames: npt.NDArray[np.int64]) -> None:
        if not frames.size:
            return
        if failpoints.armed is not None:
            failpoints.reach("protect", self._map.exhausted)
        try:
            if self._machine.mmu.page_faults_exit:
                for run in np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1):
                    self._tell_shadow(int(run[0]) << PAGE_SHIFT, run.size * PAGE_SIZE)
            self._leaves.arm(frames)
            self._written[frames] = False
        finally:
            self._flush()

    def _tell_shadow(self, start: int, size: int) -> None:
        """Have a shadow drop what it made of leaves that are about to lose the right to write."""
        if self._machine.mmu.page_faults_exit:
            before = self._map.on_change if self._map.on_change != self._changes else self._before_change
            before(start, size)

    def _flush(self) -> None:
        """INVEPT on every vCPU: dirty flags were cleared, rights taken, page sizes changed (SDM 3C §28.4.3.4)."""
        if self._mapped.hardware_walks_map:
            self._machine.shoot_down(Operation.INVEPT_CONTEXT)


def _put_back(
    handlers: dict[ExitReason, Handler], reason: ExitReason, own: Handler, before: Handler | None
) -> None:
    """Restore a handler, unless somebody has put another in its place."""
    if handlers.get(reason) != own:
        return
    if before is None:
        del handlers[reason]
    else:
        handlers[reason] = before


def _logging_mmu(machine: WatchedMachine, way: DirtyWay) -> Mapped:
    """Return the Mmu whose map is to be logged in `way`; raises MisuseError if that cannot be."""
    name, mapped = machine.mmu.name, machine.mmu.mapped
    if machine.dirty_log is not None:
        raise MisuseError("The guest's writes are logged already: close that log first")
    if mapped is None:
        raise MisuseError(
            f"The {name} Mmu has no memory map to log writes in: make the guest with mmu='ept', or with "
            f"mmu='shadow' for {DirtyWay.WRITE_PROTECT}"
        )
    if way is DirtyWay.WRITE_PROTECT:
        return mapped
    if not mapped.hardware_walks_map:
        raise MisuseError(
            f"Under {name} no hardware walks the memory map, so that {way} finds nothing: log by "
            f"{DirtyWay.WRITE_PROTECT}, or make the guest with mmu='ept'"
        )
    if not EPTP.get(int(mapped.context[Context.EPTP]), "AD"):
        raise MisuseError(
            f"EPT keeps no accessed and dirty flags, on which {way} rests: set EPTP.AD, or log by "
            f"{DirtyWay.WRITE_PROTECT}"
        )
    return mapped
