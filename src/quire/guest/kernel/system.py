"""The kernel that Quire plays, as far as all processes share it: their numbers, the time, signals, queues."""

import errno
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from quire.guest.kernel.actions import SIG_IGN
from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.file_times import file_times
from quire.guest.kernel.futexes import Futexes
from quire.guest.kernel.group import INIT, Change, Process, ProcessThread
from quire.guest.kernel.history import History
from quire.guest.kernel.host_memory import HostMemory
from quire.guest.kernel.ipc import Ipc
from quire.guest.kernel.lanes import Runnable
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.orphans import is_orphaned
from quire.guest.kernel.outside import Nowhere, Outside
from quire.guest.kernel.owners import send_to_owner
from quire.guest.kernel.played_files import PlayedFiles
from quire.guest.kernel.scheduler import Scheduler
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.siginfo import SI_KERNEL, SI_USER, GuestDeath, SignalInfo
from quire.guest.kernel.terminals import Terminals
from quire.guest.kernel.turns import SteadyTurns, TurnChoice
from quire.guest.kernel.waiting import WaitQueue

__all__ = ["FIRST_PID", "Kernel", "first_number"]

#: The number of the first process of a run with seed 0; those of others lie up to so many above.
FIRST_PID = 100
_FIRST_PIDS, _STRIDE = 30_000, 7_919
_LAST_PID = 4_194_303
#: What a terminal sends: by its keys, when its size changes, when it is used from the background, at its end.
_OF_TERMINALS = frozenset((
    signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU,
))  # fmt: skip
#: Quire goes on, and SIGCONT, which another thread takes from the host, is there within so many ns.
_CONTINUED_SOON = 50_000_000
#: Names of what a guest did not get are kept up to so many, then counted together.
_LACKS_KEPT, _MORE_LACKS = 100, "more system calls"


def first_number(seed: int) -> int:
    """Return the number of the first process of a run with `seed`: two runs at a time need not have the same."""
    return FIRST_PID + seed * _STRIDE % _FIRST_PIDS


class Kernel:
    """One for `machine`, that of the first process, whose number is `first`."""

    def __init__(
        self,
        rng: random.Random,
        clock: VirtualClock | HostClock,
        machine: ProcessMachine,
        turns: TurnChoice | None = None,
        first: int = FIRST_PID,
    ) -> None:
        self.rng = rng
        self.host_memory = HostMemory(machine)
        self.clock = clock
        self.file_times = file_times(clock)
        self.outside: Outside = Nowhere()
        self.first_seat = Seat()
        self.scheduler = Scheduler(machine, clock, turns or SteadyTurns(rng), self, self.first_seat)
        self.processes: dict[int, Process] = {}
        self.terminals = Terminals(self)
        self.futexes = Futexes()
        self.files = PlayedFiles(self._seats)
        self.ipc = Ipc(clock, self.host_memory)
        #: What the guest asked for and did not get: name and count, in the order of first use.
        self.unimplemented: dict[str, int] = {}
        #: Hears of each such name once, at the first time; the session sets it.
        self.tell_lack: Callable[[str], None] = _tell_nobody
        self.syscall_counts: dict[str, int] = {}
        self._tasks: dict[int, ProcessThread] = {}
        self._first, self._last = first, first - 1
        self._pcid = 0
        self.history = History()
        self._idle: ProcessMachine | None = None
        self._fifos: dict[tuple[int, int], WaitQueue] = {}
        self._watchers: dict[Process, list[str]] = {}
        self._halted = False  # whether it has stopped, and SIGCONT is for all that stopped with it
        #: Runs what has the turn at a seat until its process has ended; the session sets it.
        self.sit: Callable[[Seat], None] = _nobody_sits
        #: Hears that a signal ends a process, while all of it is still there.
        self.tell_death: Callable[[Process, GuestDeath], None] = _nobody_mourns

    def _seats(self) -> Iterator[Seat]:
        """Yield the seats where processes have descriptors."""
        found = {one.seat: None for one in self.processes.values() if not one.ended}
        yield from found

    @property
    def first(self) -> Process:
        """The process that the guest began with."""
        return self.processes[self._first]

    @property
    def last_number(self) -> int:
        """The number that was given last."""
        return self._last

    def new_number(self) -> int:
        """Return a number that no task, group or session has."""
        while True:
            self._last = self._last + 1 if self._last < _LAST_PID else FIRST_PID + 200
            number = self._last
            taken = number in self._tasks or number in self.processes or number in self.terminals.numbers
            if not taken and all(number not in (one.group, one.session) for one in self.processes.values()):
                return number

    def new_pcid(self) -> int:
        """Return the tag of one more address space; after 4095 of them they begin anew."""
        self._pcid = self._pcid % 0xFFF + 1
        return self._pcid

    def enter(self, thread: ProcessThread) -> None:
        """There is one thread more."""
        self._tasks[thread.tid] = thread

    def leave(self, thread: ProcessThread) -> None:
        """A thread has ended."""
        self._tasks.pop(thread.tid, None)

    def task(self, tid: int) -> ProcessThread | None:
        """Return the thread with this number, None if there is none."""
        return self._tasks.get(tid)

    def group(self, number: int) -> list[Process]:
        """Return the processes of a group that have not been waited for, in order."""
        return [one for _, one in sorted(self.processes.items()) if one.group == number]

    def lacks(self, name: str, *, ordinary: bool = False) -> None:
        """Count that the guest asked for `name` and was told ENOSYS; say so the first time, unless it is `ordinary`."""
        if len(self.unimplemented) >= _LACKS_KEPT and name not in self.unimplemented:
            name = _MORE_LACKS  # the guest chooses the numbers, and so how many names there are
        seen = self.unimplemented.get(name, 0)
        self.unimplemented[name] = seen + 1
        if not seen and not ordinary:
            self.tell_lack(name)

    def send(self, process: Process, info: SignalInfo) -> bool:
        """Send a signal to a process; what continues it does so at once. False when too many wait."""
        if info.signo in (signal.SIGCONT, signal.SIGKILL) and process.stopped:
            process.stopped = 0
            if info.signo == signal.SIGCONT:
                self.changed(process, Change.CONTINUED, signal.SIGCONT)
            for one in process.live():
                one.goes_on()
        sent = process.send(info)
        self._tell_files(process, info.signo)
        return sent

    def _tell_files(self, process: Process, signo: int) -> None:
        """Have those look again who watch descriptors by which signals are read."""
        if self.files and not process.ended:
            self.files.sent(signo)
            for one in process.live():
                one.looks_again()

    def kill(self, sender: Process, target: Process, signo: int) -> int:
        """Send a signal for a process; 0 only asks whether the target is there. Return 0 or a negative errno."""
        if not signo or target.ended:
            return 0
        info = SignalInfo(signo, SI_USER, pid=sender.pid, uid=os.getuid())
        return 0 if self.send(target, info) else -errno.EAGAIN

    def at_end(self, process: Process, pipe: str) -> None:
        """Have the pipe that this name opens be readable when the process has ended."""
        if process.ended:
            _fill(pipe)
        else:
            self._watchers.setdefault(process, []).append(pipe)

    def copied(self, old: Seat, made: Seat) -> None:
        """The descriptors of one seat are copied at another: pipes are known by names there too."""
        before, now = (f"/task/{seat.native_id}/" for seat in (old, made))
        for names in self._watchers.values():
            names += [one.replace(before, now) for one in names if before in one]

    def send_thread(self, thread: ProcessThread, info: SignalInfo) -> int:
        """Send a signal to one thread; return 0 or a negative errno."""
        if info.signo == signal.SIGKILL or info.signo == signal.SIGCONT:
            return 0 if self.send(thread.process, info) else -errno.EAGAIN
        if not thread.signals.queue(info):
            return -errno.EAGAIN
        thread.notice()
        self._tell_files(thread.process, info.signo)
        return 0

    def is_orphaned(self, number: int) -> bool:
        """Whether nobody is left who could bring a stopped group back."""
        return is_orphaned(self, number)

    @property
    def is_interactive(self) -> bool:
        """Whether a person may type for a job that a shell of the guest has put in front: time passes for both."""
        return self.terminals.is_shared_out

    def stop(self, process: Process, signo: int) -> bool:
        """A stop signal was delivered: no thread of the process runs until SIGCONT or SIGKILL.

        False, and it goes on, if nobody could continue its group: that stops for SIGSTOP alone.
        """
        if signo != signal.SIGSTOP and self.is_orphaned(process.group):
            return False
        process.stopped = signo
        for one in process.live():
            one.runs = False
            self.scheduler.remove(one)
        self.changed(process, Change.STOPPED, signo)
        if process is self.first and self.terminals.halts:
            self._halt(signo)
        return True

    def changed(self, process: Process, change: Change, number: int) -> None:
        """Have the parent hear of a stop or of going on."""
        process.changes = [(change, number)]
        parent = process.parent
        if parent is None:
            return
        action = parent.signals.action(signal.SIGCHLD)
        if not action.flags & _SA_NOCLDSTOP:
            self.send(parent, self.child_info(process, change, number))
        parent.waiting.wake()

    def child_info(self, process: Process, change: Change, number: int) -> SignalInfo:
        """Return the SIGCHLD that tells of a change."""
        signo = process.exit_signal or signal.SIGCHLD
        return SignalInfo(signo, change.value, pid=process.pid, uid=os.getuid(), status=number)

    def tell_end(self, process: Process) -> None:
        """Have the parent of a process hear that it has ended; one that does not want to know never does."""
        for pipe in self._watchers.pop(process, ()):
            _fill(pipe)
        parent = process.parent
        if parent is None:
            if process is not self.first:
                self.bury(process)
            return
        action = parent.signals.action(signal.SIGCHLD)
        if process.exit_signal:
            change, number = process.ending
            self.send(parent, self.child_info(process, change, number))
        unwanted = action.handler == SIG_IGN or action.flags & _SA_NOCLDWAIT
        if process.exit_signal == signal.SIGCHLD and unwanted:
            self.bury(process)
        parent.waiting.wake()

    def bury(self, process: Process) -> None:
        """Forget a process that has ended."""
        self.processes.pop(process.pid, None)
        if process.parent is not None:
            process.parent.children.pop(process.pid, None)

    def idle_machine(self, machine: ProcessMachine) -> ProcessMachine:
        """Return the machine with an address space that is nobody's, to load when a process has ended.

        Whoever makes what may end asks for it first: an end takes no memory. Raises OutOfFrames at the first time.
        """
        if self._idle is None:
            self._idle = machine.another(0)
        return self._idle

    def fifo(self, identity: tuple[int, int]) -> WaitQueue:
        """Return the queue of those that wait for the other end of a FIFO, by its device and inode."""
        self._fifos = {known: queue for known, queue in self._fifos.items() if len(queue)}
        return self._fifos.setdefault(identity, WaitQueue())

    @property
    def has_company(self) -> bool:
        """Whether there is more than one task."""
        return len(self._tasks) > 1

    def timers_changed(self) -> None:
        """A timer was set or stopped: the turn at hand may have to end sooner."""
        if self.clock.is_virtual:
            self.scheduler.begin_slice()
        else:
            self.outside.wake_at(self.next_timer(self.scheduler.lane.current))

    def next_timer(self, at_work: Runnable | None) -> int | None:
        """Return the moment of the next timer, None without one: those of processor time run for who is at work."""
        task = None if at_work is None else self._tasks.get(at_work.tid)
        busy = None if task is None else task.process
        number = 0 if busy is None else busy.pid
        alive = (one for one in self.processes.values() if not one.ended)
        moments = [one.timers.moment(at_work=one is busy, busy=number) for one in alive]
        moments.append(self.files.moment())
        return min((moment for moment in moments if moment is not None), default=None)

    def collect(self) -> None:
        """Send what came from outside and from timers."""
        for info in self.outside.take():
            self._forward(info)
        for process in list(self.processes.values()):
            if not process.ended and process.timers.moment() is not None:
                process.timers.send_expired(process.signals, partial(self.send, process))
        if self.files:
            self.files.expire()
        if not self.clock.is_virtual:
            self.outside.wake_at(self.next_timer(self.scheduler.lane.current))

    def _forward(self, info: SignalInfo) -> None:
        """Send a signal from outside to whom it is for."""
        if info.to is not None:
            send_to_owner(self, info.to, replace(info, to=None))
            return
        first = self.first
        whom = [] if first.ended else [first]
        if info.code == SI_KERNEL and info.signo in _OF_TERMINALS:
            whom = self.terminals.from_host(info, first)
        elif info.signo == signal.SIGCONT and self._halted:
            whom, self._halted = self.group(first.group), False
        live = [one for one in whom if not one.ended]
        for process in live or (self.live() if first.ended else ()):
            self.send(process, info)

    def _halt(self, signo: int) -> None:
        """Stop with the host, until something continues Quire."""
        self.terminals.halts, self._halted = False, True
        self.outside.stop(signo)
        self.collect()
        if self._halted:
            self.outside.sleep(_CONTINUED_SOON)
            self.collect()

    def with_memory(self, ending: Process) -> set[Process]:
        """Return the processes that have memory while one ends: the first keeps it until all have ended."""
        return {self.first, ending, *self.live()}

    def live(self) -> Iterator[Process]:
        """Yield the processes that have not ended."""
        return (one for one in list(self.processes.values()) if not one.ended)

    def gives_up(self, moment: int | None) -> bool:
        """Whether nobody need be waited for, though something could come from outside, or at `moment`.

        Every process is stopped; or the first has ended, and the others wait for nothing but the outside.
        """
        return all(one.stopped for one in self.live()) or (moment is None and self.first.ended)

    def all_wait(self) -> bool:
        """Nobody will run again by himself: stop with the host, wait for it, or end; return whether all is over."""
        stopped = [one for one in self.live() if one.stopped]
        if stopped and not self.first.ended:
            self._halt(stopped[0].stopped)
            return False
        if self.first.ended:
            for process in self.live():
                self.send(process, SignalInfo(signal.SIGKILL, SI_USER, pid=INIT))
            return not any(True for _ in self.live())
        self.outside.sleep(None)
        self.collect()
        return False


_SA_NOCLDSTOP, _SA_NOCLDWAIT = 1, 2


def _tell_nobody(name: str) -> None:
    """Take the name of what the guest did not get."""


def _fill(pipe: str) -> None:
    """Write to the pipe that a name opens; one whose seat has gone is nobody's any more."""
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"\0")
        finally:
            os.close(descriptor)


def _nobody_sits(seat: Seat) -> None:
    """Run nothing."""


def _nobody_mourns(process: Process, death: GuestDeath) -> None:
    """Hear nothing."""
