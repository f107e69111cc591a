"""Who runs where: vCPUs that take turns at so many blocks, and what happens when no task can run.

Each vCPU has a time of its own, and the one that has come least far goes on: so they run side by side. Deterministic:
the order follows from what the tasks do, and the length of turns from the seed. What the outside does, input and
signals, comes when it comes.
"""

import fcntl
import os
import select
from typing import Protocol

from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.lanes import Lane, Lanes, Runnable
from quire.guest.kernel.outside import Outside
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.turns import TurnChoice, Turns
from quire.own_descriptors import FIRST_OWN, move_high

__all__ = ["Scheduler"]

#: The shortest turn, for a timer that is nearly due.
_LEAST = 50
_MILLION = 1_000_000


class Timekeeper(Protocol):
    """Whose timers and signals there are: the kernel."""

    outside: Outside

    @property
    def is_interactive(self) -> bool:
        """Whether a person may type for a job in front: time passes for both."""
        ...

    def next_timer(self, at_work: Runnable | None) -> int | None:
        """Return the moment of the next timer, None without one: those of processor time run for who is at work."""
        ...

    def collect(self) -> None:
        """Send what came from outside and from timers."""
        ...

    def gives_up(self, moment: int | None) -> bool:
        """Whether nobody need be waited for, though something could come from outside, or at `moment`."""
        ...

    def all_wait(self) -> bool:
        """Nobody will run again by himself: stop with the host, or end what is left; return whether all is over."""
        ...


class Scheduler:
    """Of the tasks on the vCPUs of `cpu`, of which one is at work at a time."""

    def __init__(
        self, cpu: Turns, clock: VirtualClock | HostClock, turns: TurnChoice, keeper: Timekeeper, first: Seat
    ) -> None:
        self.clock = clock
        self.over = False  #: whether the guest has ended
        self.failure: BaseException | None = None  #: a bug, on its way to the first seat
        self.waiting: dict[Runnable, None] = {}  #: tasks whose call has a moment at which it ends
        self.lanes = Lanes(cpu.vcpu_count, clock.at)
        self.lane = self.lanes.all[0]  #: of the vCPU at work
        self._cpu, self._turns, self._keeper, self._first = cpu, turns, keeper, first
        self._poll: select.epoll | None = None
        self._polled: dict[int, Runnable] = {}
        self._ending: set[int] = set()  # vCPUs whose slice ends

    @property
    def current(self) -> Runnable | None:
        """The task whose turn it is."""
        return self.lane.current

    @property
    def switches(self) -> int:
        """How often another task was given a vCPU."""
        return sum(one.switches for one in self.lanes)

    def begin(self, task: Runnable) -> None:
        """`task`, the first, runs already."""
        self.lane.current = self.lane.loaded = task

    def add(self, task: Runnable) -> None:
        """Let `task` run when its turn comes."""
        task.ready_at = self.clock.now()
        self.lanes.put(task)
        current = self.lane.current
        if current is not None and current.runs and self.lane.number not in self._ending:
            self._begin_turn(None)

    def remove(self, task: object) -> None:
        """`task` is stopped or has ended: it gets no turn."""
        for lane in self.lanes:
            lane.remove(task)

    def move(self, task: Runnable) -> bool:
        """Have `task` go where it may run, if it may no longer where it is; return whether it had its turn there."""
        for lane in self.lanes:
            if task.affinity >> lane.number & 1:
                continue
            ran = lane.current is task
            if ran or task in lane.ready:
                lane.remove(task)
                self.add(task)
                return ran
        return False

    def yields(self, task: Runnable) -> bool:
        """Let others run here before `task` does again, whose turn it is; return whether there are any."""
        if not self.lane.ready:
            return False
        task.ready_at = self.clock.now()
        self.lane.current = None
        self.lane.ready.append(task)
        return True

    def goes_first(self, task: Runnable) -> None:
        """Have `task`, whose turn it is, go on at the seat that it has now: before the others here."""
        task.ready_at = self.clock.now()
        self.lane.current = None
        self.lane.ready.appendleft(task)

    def __contains__(self, task: object) -> bool:
        return task in self.lanes

    def is_busy(self, number: int) -> bool:
        """Whether a task is at work on vCPU `number`, or goes on when its turn comes."""
        return self.lanes.all[number].current is not None

    @property
    def _has_others(self) -> bool:
        """Whether another task can run, here or on another vCPU."""
        return bool(self.lane.ready) or any(one.work for one in self.lanes if one is not self.lane)

    def begin_slice(self) -> None:
        """Say for how long the task may run that is about to: for ever, if nobody else can and no timer is near."""
        moment = self._next_moment(self.lane.current)
        if self._has_others or moment is not None or self._polled:
            self._begin_turn(moment)

    def _begin_turn(self, moment: int | None) -> None:
        """Have the turn end some time, at `moment` if that is sooner."""
        self._ending.add(self.lane.number)
        length = self._turns.length(several=len(self.lanes.all) > 1)
        if moment is not None and self.clock.is_virtual:
            length = min(length, max((moment - self.clock.now()) // self._turns.unit, _LEAST))
        self._turns.begin(self._cpu, length)

    def _end_no_more(self) -> None:
        """Nobody else can run: the task at hand has its turn for ever, or until something changes that."""
        self._ending.discard(self.lane.number)
        self._turns.begin(self._cpu, 1 << 62)

    def _next_moment(self, at_work: Runnable | None) -> int | None:
        """Return when the next timer expires or the next call has waited long enough; None for never."""
        moments = [one.until for one in self.waiting]
        moments.append(self._keeper.next_timer(at_work))
        return min((moment for moment in moments if moment is not None), default=None)

    def interrupted(self) -> bool:
        """The task was interrupted, at the end of its turn or by what came from outside; return whether it goes on."""
        self._keeper.collect()
        self._expire()
        self._look(0)
        lane = self.lane
        if lane.number not in self._ending or not self._cpu.slice_over:
            return True
        if lane.ready and lane.current is not None:
            self.yields(lane.current)
            return False
        if self._has_others:
            return False
        self._end_no_more()
        self.begin_slice()
        return True

    def switch(self, here: Seat) -> None:
        """Let others run until a task of `here` does, or its process has ended, or all have."""
        while True:
            current = self.lane.current
            if current is not None and not current.runs:
                self.lane.current = None
            task = self._choose()
            seat = self._first if task is None else task.seat
            if seat is not here:
                seat.give()
                if here.over:
                    return
                here.wait()
            if self.over:
                return
            if self.settle():
                return

    def settle(self) -> bool:
        """Have the task that was chosen go on; return whether it runs."""
        lane = self.lane
        task = lane.current
        assert task is not None
        if lane.loaded is not task:
            lane.switches += 1
            self._bring(task)
            task.enter(lane.loaded)
            lane.loaded, task.home = task, lane.number
        else:
            task.enter(None)
        if not task.resume():
            return False
        self.begin_slice()
        return True

    def _bring(self, task: Runnable) -> None:
        """Have the registers of `task` at hand, which another vCPU may have."""
        here = self.lane
        for lane in self.lanes:
            if lane.loaded is task:
                self._go_to(lane)
                task.leave()
                lane.loaded = None
        self._go_to(here)

    def _go_to(self, lane: Lane) -> None:
        """Have the vCPU of `lane` be at work."""
        if lane is self.lane:
            return
        if self.lane.loaded is not None:
            self.lane.loaded.rest()
        self.clock.go_to(lane.number, lambda: self._cpu.go_to(lane.number))
        self.lane = lane

    def forget(self, task: Runnable) -> None:
        """`task` has ended: its registers are nobody's."""
        for lane in self.lanes:
            if lane.loaded is task:
                lane.loaded = None

    def prepare(self) -> select.epoll:
        """Return what watches descriptors: made before a second seat has its table, which must have it too."""
        if self._poll is None:
            low = select.epoll()
            self._poll = select.epoll.fromfd(move_high(low.fileno(), close=False))
            low.close()
        return self._poll

    def close(self) -> None:
        """The run is over: nobody has a turn, nothing is watched any more."""
        if self.lane.loaded is not None:
            self.lane.loaded.rest()
        if self._poll is not None:
            self._poll.close()

    def watch(self, task: Runnable, descriptor: int, events: int) -> int | None:
        """Wake `task` when `descriptor`, of its seat, has one of `events` (poll(2)).

        Return the number by which it is known: no other seat uses it, though each has a table of its own. None for a
        file of which nothing is ever told. Raises OSError when no number is left.
        """
        slot = FIRST_OWN
        while True:
            while slot in self._polled:
                slot += 1
            found = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, slot)
            if found not in self._polled:
                break
            os.close(found)
            slot = found + 1
        try:
            self.prepare().register(found, events | select.EPOLLONESHOT)
        except OSError as error:
            os.close(found)
            if isinstance(error, PermissionError):
                return None
            raise
        self._polled[found] = task
        return found

    def unwatch(self, slot: int) -> None:
        """Watch it no longer."""
        if self._polled.pop(slot, None) is not None and self._poll is not None:
            self._poll.unregister(slot)

    def _choose(self) -> Runnable | None:
        """Return the task whose turn it is, waiting for one if need be; None when the guest has ended."""
        while not self.over:
            if self._polled:
                self._look(0)
            lane = self.lanes.next()
            if lane is not None:
                self._go_to(lane)
                if lane.current is None:
                    lane.current = self._turns.take(lane.ready)
                    self.clock.begin_at(lane.current.ready_at)
                return lane.current
            self._keeper.collect()
            self._expire()
            if self.lanes.next() is None:
                self._idle()
        return None

    def _idle(self) -> None:
        """Nobody can run: wait for the world, or let time pass."""
        moment = self._next_moment(None)
        if (moment is None and not self._polled) or self._keeper.gives_up(moment):
            self.over = self._keeper.all_wait()
            return
        if self._polled or not self.clock.is_virtual or self._keeper.is_interactive:
            left = None if moment is None else max(moment - self.clock.now(), 0)
            if self._look(left):
                return
        if moment is not None:
            self.clock.skip_to(moment)
            self._expire()

    def _expire(self) -> None:
        """Wake those whose time is over."""
        if self.waiting:
            now = self.clock.now()
            for task in list(self.waiting):
                if task.until is not None and task.until <= now:
                    task.time_is_over()

    def _look(self, left: int | None) -> bool:
        """Wake those whose descriptors are ready, waiting up to `left` ns, None for ever; return whether one was."""
        if left == 0:
            return self._poll is not None and bool(self._polled) and self._wake(self._poll.poll(0))
        if self._poll is None:
            self._keeper.outside.sleep(left)
            return False
        return self._wait_outside(None if left is None else -(-left // _MILLION) / 1000)

    def _wait_outside(self, timeout: float | None) -> bool:
        """Wait until a descriptor is ready or a signal comes."""
        assert self._poll is not None
        wake = self._keeper.outside.wake_descriptor()
        if wake is not None:
            self._poll.register(wake, select.EPOLLIN)
        try:
            found = self._poll.poll(timeout)
        finally:
            if wake is not None:
                self._poll.unregister(wake)
        return self._wake([one for one in found if one[0] != wake]) or bool(found)

    def _wake(self, found: list[tuple[int, int]]) -> bool:
        tasks = {self._polled[slot].tid: self._polled[slot] for slot, _ in found if slot in self._polled}
        for _, task in sorted(tasks.items()):
            task.is_ready()
        return bool(tasks)
