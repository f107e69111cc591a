"""The guest's kernel as the vCPU's loop sees it at each seat, with what a run watches for on the way."""

import itertools
from collections.abc import Callable, Sequence
from typing import cast

from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.system import Kernel
from quire.guest.region import Region
from quire.guest.sampler import Sampler
from quire.machine import Vcpu

__all__ = ["Seats"]


class Seats:
    """Runs the tasks of `kernel` on `vcpus`, each at the seat of its process. `region` may end the run."""

    def __init__(
        self, vcpus: Sequence[Vcpu], kernel: Kernel, region: Region, sampler: Sampler | None
    ) -> None:
        self.vcpus, self.kernel, self.region, self.sampler = vcpus, kernel, region, sampler
        self.audited: Callable[[], None] | None = None
        kernel.sit = self._sit

    def audit_after(self, calls: int, audit: Callable[[], None]) -> None:
        """Call `audit` after every so many system calls."""
        done = itertools.count(1)

        def audited() -> None:
            if next(done) % calls == 0:
                audit()

        self.audited = audited

    def run(self) -> None:
        """Run the guest until it has ended: at the seat of its first process."""
        scheduler, first = self.kernel.scheduler, self.kernel.first_seat
        try:
            self._run_at(first)
        finally:
            scheduler.over = True
            first.close()
            scheduler.close()
        if scheduler.failure is not None:
            raise scheduler.failure

    def _run_at(self, seat: Seat) -> None:
        """Run what has the turn at `seat`, on whichever vCPU, until there is no more to run there."""
        scheduler = self.kernel.scheduler
        while not (scheduler.over or self.region.ended or seat.over):
            self.vcpus[scheduler.lane.number].run(_SeatKernel(self, seat))

    def _sit(self, seat: Seat) -> None:
        """Run what has the turn at `seat` until its process has ended; have the first seat know of a bug."""
        scheduler = self.kernel.scheduler
        if scheduler.over:
            return
        try:
            if not scheduler.settle():
                scheduler.switch(seat)
            self._run_at(seat)
        except BaseException as error:
            scheduler.failure = error
        if not scheduler.over and (self.region.ended or scheduler.failure is not None):
            scheduler.over = True
            self.kernel.first_seat.give()


class _SeatKernel:
    """What stops the tasks of one seat goes to the task that has the turn; then others may have it."""

    def __init__(self, seats: Seats, seat: Seat) -> None:
        self._seat, self._seats = seat, seats
        self._scheduler = seats.kernel.scheduler
        self._region, self._audited = seats.region, seats.audited
        self._ran = seats.kernel.clock.ran
        self._lane = self._scheduler.lane

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run here, or another vCPU is at work."""
        scheduler = self._scheduler
        return scheduler.over or self._region.ended or self._seat.over or scheduler.lane is not self._lane

    def syscall(self) -> None:
        region = self._region
        if region.points and region.at_syscall():
            return
        task = self._task()
        task.syscall()
        self._after(task)
        if self._audited is not None:
            self._audited()

    def page_fault(self, gva: int, error_code: int) -> None:
        task = self._task()
        task.page_fault(gva, error_code)
        self._after(task)

    def exception(self, vector: int, error_code: int) -> None:
        task = self._task()
        task.exception(vector, error_code)
        self._after(task)

    def software_interrupt(self, vector: int) -> None:
        task = self._task()
        task.software_interrupt(vector)
        self._after(task)

    def interrupted(self) -> None:
        if self._region.at_interruption():
            return
        sampler = self._seats.sampler
        if sampler is not None:
            sampler.sample_if_due()
        task = self._task()
        if self._scheduler.interrupted():
            task.deliver_signals()
            self._after(task)
        else:
            self._scheduler.switch(self._seat)

    def _task(self) -> ProcessGuest:
        """Return the task that has stopped; the clock has gone on with it."""
        self._ran()
        return cast(ProcessGuest, self._scheduler.current)

    def _after(self, task: ProcessGuest) -> None:
        """Let others have the turn if the task that had it does not go on."""
        if not task.runs:
            self._scheduler.switch(self._seat)
