"""Who runs: one queue of tasks that can, turns of so many blocks, and what happens when none can.

Deterministic: the order follows from what the tasks do, and the length of turns from the seed. What the outside does,
input and signals, comes when it comes.
"""

import fcntl
import os
import random
import select
from collections import deque
from typing import Any, Protocol

from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.outside import Outside
from quire.guest.kernel.seat import Seat
from quire.own_descriptors import FIRST_OWN, move_high

__all__ = ["SLICE", "Runnable", "Scheduler", "Turns"]

#: Blocks of instructions in a turn, about; and the fewest, for a timer that is nearly due.
SLICE, _LEAST = 20_000, 50
#: What a block of instructions takes of virtual time, about.
_BLOCK = 5
_MILLION = 1_000_000


class Turns(Protocol):
    """The engine, as far as tasks take turns on it."""

    def begin_slice(self, blocks: int) -> None:
        """Interrupt the task after so many blocks."""
        ...

    @property
    def slice_over(self) -> bool:
        """Whether all of them have run."""
        ...


class Runnable(Protocol):
    """A task, as the scheduler knows it."""

    tid: int

    @property
    def seat(self) -> Seat:
        """Where its calls are made."""
        ...

    @property
    def until(self) -> int | None:
        """The moment at which its call has waited long enough."""
        ...

    def enter(self, previous: Any) -> None:
        """Load its registers and its address space, in the place of those of `previous`, which may have ended."""
        ...

    def resume(self) -> bool:
        """Go on in its call, take signals; return whether it runs then, or waits again."""
        ...

    def time_is_over(self) -> None:
        """The moment :attr:`until` has come."""
        ...

    def is_ready(self) -> None:
        """A descriptor that its call waits for is ready."""
        ...


class Timekeeper(Protocol):
    """Whose timers and signals there are: the kernel."""

    outside: Outside

    @property
    def is_interactive(self) -> bool:
        """Whether a person may type for a job in front: time passes for both."""
        ...

    def next_timer(self) -> int | None:
        """Return the moment of the next timer, None without one."""
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
    """Of the tasks on one vCPU, whose engine is `cpu`."""

    def __init__(
        self, cpu: Turns, clock: VirtualClock | HostClock, rng: random.Random, keeper: Timekeeper, first: Seat
    ) -> None:
        self.clock = clock
        self.current: Runnable | None = None
        self.over = False  #: whether the guest has ended
        self.failure: BaseException | None = None  #: a bug, on its way to the first seat
        self.switches = 0
        self.waiting: dict[Runnable, None] = {}  #: tasks whose call has a moment at which it ends
        self._cpu, self._rng, self._keeper, self._first = cpu, rng, keeper, first
        self._ready: deque[Runnable] = deque()
        self._loaded: Runnable | None = None
        self._poll: select.epoll | None = None
        self._polled: dict[int, Runnable] = {}
        self._sliced = False

    def begin(self, task: Runnable) -> None:
        """`task`, the first, runs already."""
        self.current = self._loaded = task

    def add(self, task: Runnable) -> None:
        """Let `task` run when its turn comes."""
        self._ready.append(task)

    def remove(self, task: object) -> None:
        """`task` is stopped or has ended: it gets no turn."""
        if task in self._ready:
            self._ready = deque(one for one in self._ready if one is not task)

    @property
    def has_others(self) -> bool:
        """Whether a task waits for its turn."""
        return bool(self._ready)

    def __contains__(self, task: object) -> bool:
        return task in self._ready

    def begin_slice(self) -> None:
        """Say for how long the task may run that is about to: for ever, if nobody else can and no timer is near."""
        moment = self._next_moment()
        if not self._ready and moment is None and not self._polled:
            if self._sliced:
                self._cpu.begin_slice(1 << 62)
            return
        self._sliced = True
        blocks = SLICE + self._rng.randrange(SLICE // 4)
        if moment is not None and self.clock.is_virtual:
            blocks = min(blocks, max((moment - self.clock.now()) // _BLOCK, _LEAST))
        self._cpu.begin_slice(blocks)

    def _next_moment(self) -> int | None:
        """Return when the next timer expires or the next call has waited long enough; None for never."""
        moments = [one.until for one in self.waiting]
        moments.append(self._keeper.next_timer())
        return min((moment for moment in moments if moment is not None), default=None)

    def interrupted(self) -> bool:
        """The task was interrupted, at the end of its turn or by what came from outside; return whether it goes on."""
        self._keeper.collect()
        self._expire()
        self._look(0)
        over = self._sliced and self._cpu.slice_over
        if over and self._ready and self.current is not None:
            self._ready.append(self.current)
            self.current = None
            return False
        if over:
            self.begin_slice()
        return True

    def switch(self, here: Seat) -> None:
        """Let others run until a task of `here` does, or its process has ended, or all have."""
        while True:
            task = self._choose()
            seat = self._first if task is None else task.seat
            self.current = task
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
        task = self.current
        assert task is not None
        if self._loaded is not task:
            self.switches += 1
            task.enter(self._loaded)
            self._loaded = task
        if not task.resume():
            return False
        self.begin_slice()
        return True

    def forget(self, task: Runnable) -> None:
        """`task` has ended: its registers are nobody's."""
        if self._loaded is task:
            self._loaded = None

    def prepare(self) -> select.epoll:
        """Return what watches descriptors: made before a second seat has its table, which must have it too."""
        if self._poll is None:
            low = select.epoll()
            self._poll = select.epoll.fromfd(move_high(low.fileno(), close=False))
            low.close()
        return self._poll

    def close(self) -> None:
        """Watch nothing any more."""
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
            if self._ready:
                return self._ready.popleft()
            self._keeper.collect()
            self._expire()
            if not self._ready:
                self._idle()
        return None

    def _idle(self) -> None:
        """Nobody can run: wait for the world, or let time pass."""
        moment = self._next_moment()
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
