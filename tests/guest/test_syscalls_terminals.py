"""Terminals by the fakes: whose they are, who is in front, whom signals reach, and what the host is never asked."""

import errno
import os
import pty
import signal
import struct
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from syscall_fakes import BASE, FakeProcess

from quire.guest.kernel.actions import SigAction
from quire.guest.kernel.group import Process
from quire.guest.kernel.orphans import tell_orphans
from quire.guest.kernel.outside import Nowhere
from quire.guest.kernel.siginfo import SI_KERNEL, SI_USER, SignalInfo
from quire.guest.kernel.system import FIRST_PID
from quire.guest.kernel.terminal import Terminal
from quire.guest.syscalls import RESTART
from quire.guest.syscalls.proc_texts import TEXTS

_READ, _WRITE, _OPEN, _CLOSE, _IOCTL, _SETSID = 0, 1, 2, 3, 16, 112
_TCSETS, _TCFLSH, _SCTTY, _GPGRP, _SPGRP, _NOTTY, _GSID = (
    0x5402,
    0x540B,
    0x540E,
    0x540F,
    0x5410,
    0x5422,
    0x5429,
)
_TTIN, _TTOU = 1 << signal.SIGTTIN - 1, 1 << signal.SIGTTOU - 1


class FakeScreen:
    """The host's terminal, as a test says."""

    def __init__(self, descriptor: int, *, led: bool = True) -> None:
        self.device, self.led, self.front, self.came = os.fstat(descriptor).st_rdev, led, True, 0

    def in_front(self) -> bool:
        return self.front

    def come_to_front(self) -> None:
        self.came += 1


class Seated:
    """A process with a terminal on descriptors of a real pty; `process` leads its session, and is in front."""

    def __init__(self, **options: Any) -> None:
        self.task = FakeProcess(**options)
        self.master, self.slave = pty.openpty()
        self.screen = FakeScreen(self.slave)
        self.kernel = self.task.kernel
        self.kernel.terminals.adopt(self.screen, self.task.process)
        self.opened: list[int] = [self.master, self.slave]

    @property
    def terminal(self) -> Terminal:
        assert self.kernel.terminals.host is not None
        return self.kernel.terminals.host

    def ask(self, request: int, argument: int = BASE, descriptor: int | None = None) -> Any:
        return self.task.call(_IOCTL, self.slave if descriptor is None else descriptor, request, argument)

    def number(self) -> int:
        return self.task.memory.read_u32(BASE)

    def child(self, *, group: int = 0, session: int = FIRST_PID) -> Process:
        """Return a process that nobody runs."""
        own = self.task.process
        pid = self.kernel.new_number()
        made = Process(pid, own, own.image, own.seat, own.timers, own.usage)
        made.group, made.session, made.terminal = group or pid, session, own.terminal
        self.kernel.processes[pid] = own.children[pid] = made
        return made

    def put_behind(self) -> None:
        """Have another group be in front."""
        self.terminal.group = self.child().group

    def pending(self, process: Process | None = None) -> int:
        """Take the signals that wait; return their set."""
        signals = (process or self.task.process).signals
        found = signals.pending
        while signals.dequeue(found) is not None:
            pass
        return found


@pytest.fixture
def seated() -> Iterator[Seated]:
    made = Seated()
    yield made
    for descriptor in made.opened:
        os.close(descriptor)


def test_who_is_in_front_and_whose_session_it_is(seated: Seated) -> None:
    assert seated.ask(_GPGRP) == 0 and seated.number() == FIRST_PID
    assert seated.ask(_GSID) == 0 and seated.number() == FIRST_PID
    group = seated.child().group
    seated.task.memory.write_u32(BASE, group)
    assert seated.ask(_SPGRP) == 0
    assert seated.ask(_GPGRP) == 0 and seated.number() == group
    assert seated.screen.came == 0 and seated.kernel.terminals.numbers == {group}
    assert seated.ask(_GPGRP, 8) == -errno.EFAULT
    assert seated.ask(_GPGRP, BASE, 0xFFFF) == -errno.EBADF


def test_a_host_whose_foreground_is_elsewhere_has_no_group_of_the_guest_in_front(seated: Seated) -> None:
    seated.screen.front = False
    assert seated.ask(_GPGRP) == 0 and seated.number() == 0
    seated.task.memory.write_u32(BASE, FIRST_PID)
    assert seated.ask(_SPGRP) is RESTART and seated.pending() == _TTOU and not seated.screen.came
    seated.task.signals.set_action(signal.SIGTTOU, SigAction(1))
    assert seated.ask(_SPGRP) == 0 and seated.screen.came == 1


def test_a_sandbox_keeps_the_foreground_of_the_host_as_it_is() -> None:
    seated = Seated(sandbox=True)
    seated.screen.front = False
    seated.task.signals.set_action(signal.SIGTTOU, SigAction(1))
    seated.task.memory.write_u32(BASE, FIRST_PID)
    assert seated.ask(_SPGRP) == 0 and seated.screen.came == 0
    for descriptor in seated.opened:
        os.close(descriptor)


def test_which_groups_may_be_put_in_front(seated: Seated) -> None:
    other = seated.child(session=0)
    other.session = other.pid
    cases = {
        0xFFFF_FFFF: -errno.EINVAL,
        4_000_000: -errno.ESRCH,
        other.group: -errno.EPERM,
        FIRST_PID: 0,
    }
    for number, answer in cases.items():
        seated.task.memory.write_u32(BASE, number)
        assert seated.ask(_SPGRP) == answer, number
    seated.task.process.terminal = None
    assert seated.ask(_SPGRP) == seated.ask(_GPGRP) == seated.ask(_GSID) == -errno.ENOTTY


@pytest.mark.parametrize("request_", [_TCSETS, _TCFLSH, _SPGRP])
def test_a_change_from_the_background_stops_who_makes_it(seated: Seated, request_: int) -> None:
    seated.put_behind()
    modes = b"".join([struct.pack("<4I", *termios.tcgetattr(seated.slave)[:4]), bytes(20)])
    seated.task.memory.write(BASE, modes)
    argument = 0 if request_ == _TCFLSH else BASE
    assert seated.ask(request_, argument) is RESTART and seated.pending() == _TTOU
    seated.task.signals.mask = _TTOU
    if request_ == _SPGRP:
        seated.task.memory.write_u32(BASE, FIRST_PID)
    assert seated.ask(request_, argument) == 0 and not seated.pending()


def test_reads_and_writes_from_the_background(seated: Seated) -> None:
    os.write(seated.master, b"line\n")
    seated.put_behind()
    assert seated.task.call(_READ, seated.slave, BASE, 10) is RESTART and seated.pending() == _TTIN
    seated.task.signals.mask = _TTIN
    assert seated.task.call(_READ, seated.slave, BASE, 10) == -errno.EIO
    assert seated.task.call(_WRITE, seated.slave, BASE, 1) == 1
    modes = termios.tcgetattr(seated.slave)
    modes[3] |= termios.TOSTOP
    termios.tcsetattr(seated.slave, termios.TCSANOW, modes)
    assert seated.task.call(_WRITE, seated.slave, BASE, 1) is RESTART and seated.pending() == _TTOU
    seated.terminal.group = FIRST_PID
    assert seated.task.call(_READ, seated.slave, BASE, 10) == 5


def test_an_orphaned_group_is_refused_and_not_stopped(seated: Seated) -> None:
    seated.put_behind()
    seated.kernel.outside.is_orphaned = lambda: True  # type: ignore[method-assign]
    assert seated.task.call(_READ, seated.slave, BASE, 1) == -errno.EIO
    assert seated.ask(_TCFLSH, 0) == -errno.EIO and seated.ask(_SPGRP) == -errno.ENOTTY
    assert not seated.pending()
    assert not seated.kernel.stop(seated.task.process, signal.SIGTSTP)
    assert not seated.task.process.stopped


def test_a_stopped_group_that_becomes_orphaned_goes_on(seated: Seated) -> None:
    parent = seated.child()
    child = seated.child()
    child.parent = parent
    child.stopped = signal.SIGTSTP
    for signo in (signal.SIGHUP, signal.SIGCONT):
        child.signals.set_action(signo, SigAction(0x1000))
    tell_orphans(seated.kernel, parent, [])
    assert not child.signals.pending and child.stopped
    child.parent, parent.exit_status = None, 0
    tell_orphans(seated.kernel, parent, [child])
    wanted = 1 << signal.SIGHUP - 1 | 1 << signal.SIGCONT - 1
    assert seated.pending(child) == wanted and not child.stopped


class FakeOutside(Nowhere):
    """Signals of the host, as a test says; what stops it is noted."""

    def __init__(self, *numbers: int, code: int = SI_KERNEL) -> None:
        self.infos = [SignalInfo(signo, code) for signo in numbers]
        self.stops: list[int] = []

    def take(self) -> list[SignalInfo]:
        taken, self.infos = self.infos, []
        return taken

    def stop(self, signo: int) -> None:
        self.stops.append(signo)
        self.infos.append(SignalInfo(signal.SIGCONT, SI_USER))


def _catch_all(*processes: Process) -> None:
    for process in processes:
        for signo in range(1, 65):
            if signo not in (signal.SIGKILL, signal.SIGSTOP):
                process.signals.set_action(signo, SigAction(0x1000))


@pytest.mark.parametrize(
    ("signo", "code", "led", "whom"),
    [
        (signal.SIGINT, SI_KERNEL, True, "job"),
        (signal.SIGTSTP, SI_KERNEL, True, "job"),
        (signal.SIGWINCH, SI_KERNEL, False, "job"),
        (signal.SIGHUP, SI_KERNEL, False, "job"),
        (signal.SIGHUP, SI_KERNEL, True, "first"),
        (signal.SIGTTIN, SI_KERNEL, True, "first"),  # another of Quire's own group read from behind
        (signal.SIGINT, SI_USER, True, "first"),
        (signal.SIGTERM, SI_USER, True, "first"),
        (signal.SIGCONT, SI_USER, True, "first"),
    ],
)
def test_whom_a_signal_of_the_host_is_for(
    seated: Seated, signo: int, code: int, led: bool, whom: str
) -> None:
    first, job, behind = seated.task.process, seated.child(), seated.child()
    seated.terminal.group, seated.screen.led = job.group, led
    _catch_all(first, job, behind)
    seated.kernel.outside = FakeOutside(signo, code=code)
    seated.kernel.collect()
    found = {
        name for name, one in (("first", first), ("job", job), ("behind", behind)) if seated.pending(one)
    }
    assert found == {whom}
    hung_up = signo == signal.SIGHUP
    assert (first.terminal is None, job.terminal is None) == (hung_up, hung_up)


def test_what_was_in_front_hears_of_a_hang_up_when_the_leader_ends(seated: Seated) -> None:
    first, job = seated.task.process, seated.child()
    seated.terminal.group = job.group
    _catch_all(first, job)
    seated.kernel.outside = FakeOutside(signal.SIGHUP)
    seated.kernel.collect()
    assert not seated.pending(job)
    seated.kernel.terminals.leave(first)
    assert seated.pending(job) == 1 << signal.SIGHUP - 1 | 1 << signal.SIGCONT - 1


def test_quire_stops_with_the_first_process_when_a_key_did_and_all_of_its_group_go_on(seated: Seated) -> None:
    first, other = seated.task.process, seated.child(group=FIRST_PID)
    seated.task.goes_on = lambda: None  # type: ignore[attr-defined]
    outside = seated.kernel.outside = FakeOutside()
    assert seated.kernel.stop(first, signal.SIGSTOP) and outside.stops == []  # by another of the guest's
    first.stopped = 0
    outside.infos.append(SignalInfo(signal.SIGTSTP, SI_KERNEL))
    seated.kernel.collect()
    assert other.signals.pending == 1 << signal.SIGTSTP - 1
    assert seated.kernel.stop(first, signal.SIGTSTP) and outside.stops == [signal.SIGTSTP]
    assert not first.stopped and not other.signals.pending  # SIGCONT took the stop that was on its way


def test_quire_stops_with_the_first_process_that_reads_while_the_host_has_another_in_front(
    seated: Seated,
) -> None:
    seated.task.goes_on = lambda: None  # type: ignore[attr-defined]
    outside = seated.kernel.outside = FakeOutside()
    seated.child()  # which runs on
    seated.screen.front = False
    assert seated.task.call(_READ, seated.slave, BASE, 1) is RESTART and seated.pending() == _TTIN
    assert seated.kernel.stop(seated.task.process, signal.SIGTTIN)
    assert outside.stops == [signal.SIGTTIN] and not seated.task.process.stopped


def test_time_passes_for_a_person_while_a_job_is_in_front(seated: Seated) -> None:
    assert not seated.kernel.is_interactive
    seated.put_behind()
    assert seated.kernel.is_interactive
    seated.terminal.free()
    assert not seated.kernel.is_interactive


def test_a_session_without_a_terminal_has_no_dev_tty(seated: Seated) -> None:
    own = seated.task.process
    own.group = seated.child().group
    assert seated.task.call(_SETSID) == own.pid and own.terminal is None
    path = seated.task.path("/dev/tty")
    assert seated.task.call(_OPEN, path, os.O_RDWR) == -errno.ENXIO
    assert seated.ask(_SCTTY, 0) == 0  # of its own session: the number is the same
    assert seated.ask(_NOTTY) == -errno.ENOTTY
    text = TEXTS["stat"](seated.task)  # type: ignore[arg-type]
    assert text.rpartition(b")")[2].split()[4:6] == [b"0", b"-1"]


def test_the_terminal_in_stat(seated: Seated) -> None:
    text = TEXTS["stat"](seated.task)  # type: ignore[arg-type]
    assert text.rpartition(b")")[2].split()[4:6] == [b"%d" % seated.screen.device, b"%d" % FIRST_PID]


def test_a_terminal_that_is_given_up_is_free_and_may_be_had_again(seated: Seated) -> None:
    child = seated.child()
    seated.terminal.group = child.group
    child.signals.set_action(signal.SIGCONT, SigAction(0x1000))
    assert seated.ask(_NOTTY) == 0
    assert seated.pending(child) == 1 << signal.SIGHUP - 1 | 1 << signal.SIGCONT - 1
    assert child.terminal is None and seated.terminal.session == 0
    assert seated.ask(_SCTTY, 0) == 0 and seated.terminal.group == FIRST_PID


def test_only_user_0_takes_a_terminal_from_another_session(seated: Seated) -> None:
    from quire.guest.syscalls.state import thread_state

    own = seated.task.process
    seated.terminal.session, own.terminal = 7, None
    assert seated.ask(_SCTTY, 0) == -errno.EPERM
    capable = thread_state(seated.task).credentials.capable  # type: ignore[arg-type]
    assert seated.ask(_SCTTY, 1) == (0 if capable else -errno.EPERM)
    own.session = 5  # which it does not lead
    assert seated.ask(_SCTTY, 1) == -errno.EPERM


def test_a_terminal_of_others_is_not_had() -> None:
    """The guest neither made it nor has Quire's session it."""
    seated, task = Seated(), FakeProcess()
    assert task.call(_IOCTL, seated.slave, _SCTTY, 0) == -errno.EPERM
    path = task.path(os.ttyname(seated.slave))
    opened = task.call(_OPEN, path, os.O_RDWR)
    assert opened >= 0 and task.process.terminal is None
    assert task.call(_IOCTL, opened, _GPGRP, BASE) == -errno.ENOTTY
    assert task.call(_IOCTL, seated.master, _GPGRP, BASE) == 0 and task.memory.read_u32(BASE) == 0
    for descriptor in (opened, *seated.opened):
        os.close(descriptor)


def test_a_read_that_need_not_wait_for_keys_does_not(seated: Seated) -> None:
    modes = termios.tcgetattr(seated.slave)
    modes[3] &= ~(termios.ICANON | termios.ECHO)
    modes[6][termios.VMIN], modes[6][termios.VTIME] = 0, 0
    termios.tcsetattr(seated.slave, termios.TCSANOW, modes)
    assert seated.task.call(_READ, seated.slave, BASE, 10) == 0
    modes[6][termios.VTIME] = 1
    termios.tcsetattr(seated.slave, termios.TCSANOW, modes)
    assert seated.task.call(_READ, seated.slave, BASE, 10) == 0
    os.write(seated.master, b"k")
    assert seated.task.call(_READ, seated.slave, BASE, 10) == 1
