"""All terminals that control sessions of the guest: who gets them, who loses them, whom their signals reach.

Models drivers/tty/tty_jobctrl.c: __proc_set_tty, disassociate_ctty, tty_signal_session_leader, __tty_check_change.
"""

import errno
import signal
from collections.abc import Iterator
from typing import Protocol

from quire.guest.kernel.actions import SIG_IGN, STOPS, signal_bit
from quire.guest.kernel.group import Process
from quire.guest.kernel.siginfo import SI_KERNEL, SignalInfo
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.terminal import Screen, Terminal

__all__ = ["Terminals"]


class Groups(Protocol):
    """Whose processes there are: the kernel."""

    def group(self, number: int) -> list[Process]:
        """Return the processes of a group."""
        ...

    def live(self) -> Iterator[Process]:
        """Yield the processes that have not ended."""
        ...

    def send(self, process: Process, info: SignalInfo) -> bool:
        """Send a signal to a process."""
        ...

    def is_orphaned(self, number: int) -> bool:
        """Whether nobody is left who could bring a stopped group back."""
        ...


class Terminals:
    """Of one guest, whose processes are those of `groups`."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self.host: Terminal | None = None  #: the one that controls Quire's own session
        #: Whether the host's terminal sent a stop to the first process: Quire stops with it, whatever others do.
        self.halts = False
        self._made: dict[int, Terminal] = {}
        self._lost: dict[Process, int] = {}  # leaders whose terminal hung up, and what was in front of it

    def adopt(self, screen: Screen, first: Process) -> None:
        """Have the host's terminal control the session of the first process, which is in front."""
        self.host = Terminal(screen.device, screen)
        self.set(first, self.host)

    def make(self, device: int) -> Terminal:
        """Return the terminal of a pty that the guest just made. One of that device that it had before is gone."""
        before = self._made.get(device)
        if before is not None:
            self.hang_up(before)
        made = self._made[device] = Terminal(device)
        return made

    def known(self, device: int) -> Terminal | None:
        """Return the terminal of a device, None if it is neither the guest's nor the one of Quire's session."""
        if self.host is not None and self.host.device == device:
            return self.host
        return self._made.get(device)

    @property
    def is_shared_out(self) -> bool:
        """Whether another group than the first process's is in front of the host's terminal: a job of a shell."""
        host = self.host
        return host is not None and host.group not in (0, host.session)

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of groups that terminals still know, and nobody else may get."""
        known = (*self._made.values(), *(() if self.host is None else (self.host,)))
        return frozenset(one.group for one in known)

    def set(self, process: Process, terminal: Terminal) -> None:
        """Have a terminal control the session of `process`, whose group is in front then."""
        terminal.session, terminal.group = process.session, process.group
        process.terminal = terminal
        self._lost.pop(process, None)

    def steal(self, terminal: Terminal) -> None:
        """Take a terminal from the session that it controls."""
        self._clear(terminal.session)

    def _clear(self, session: int) -> None:
        for one in self._groups.live():
            if one.session == session:
                one.terminal = None

    def give_up(self, process: Process) -> None:
        """Do TIOCNOTTY: the process has no terminal any more; with a leader its whole session."""
        terminal, process.terminal = process.terminal, None
        if terminal is not None and process.session == process.pid:
            self.send(terminal.group, signal.SIGHUP, signal.SIGCONT)
            terminal.free()
            self._clear(process.session)

    def leave(self, process: Process) -> None:
        """A process has ended: with a leader the session loses its terminal, and what is in front hears of it."""
        if process.session != process.pid:
            return
        terminal, process.terminal = process.terminal, None
        lost = self._lost.pop(process, 0)
        if terminal is None:
            self.send(lost, signal.SIGHUP, signal.SIGCONT)
        elif terminal.screen is None or terminal.screen.led:
            self.send(terminal.group, signal.SIGHUP)
            terminal.free()
            self._clear(process.session)

    def hang_up(self, terminal: Terminal) -> None:
        """The other end is gone: the session has no terminal any more, and its leader gets SIGHUP and SIGCONT."""
        if self._made.get(terminal.device) is terminal:
            del self._made[terminal.device]
        for one in list(self._groups.live()):
            if one.terminal is terminal:
                one.terminal = None
                if one.session == one.pid:
                    self._lost[one] = terminal.group
                    for signo in (signal.SIGHUP, signal.SIGCONT):
                        self._groups.send(one, SignalInfo(signo, SI_KERNEL))
        terminal.free()

    def look(self) -> None:
        """Hang up the ptys whose master was closed: after each call that may have closed the last descriptor."""
        for terminal in [one for one in self._made.values() if not one.is_there]:
            self.hang_up(terminal)

    def from_host(self, info: SignalInfo, first: Process) -> list[Process]:
        """Return whom a signal is for that the host's terminal sent to Quire's own group."""
        whom = self._whom(info, first)
        if info.signo in STOPS:
            self.halts = first in whom
        return whom

    def _whom(self, info: SignalInfo, first: Process) -> list[Process]:
        host = self.host
        if host is None or not host.group or info.signo in (signal.SIGTTIN, signal.SIGTTOU):
            return self._groups.group(first.group)
        if info.signo != signal.SIGHUP:
            return self._groups.group(host.group)
        found = [first] if host.screen is not None and host.screen.led else self._groups.group(host.group)
        self._hung_up(host)
        return found

    def _hung_up(self, host: Terminal) -> None:
        """The host's terminal is gone: the leader hears of it from the host, and at its end the others do."""
        for one in self._groups.live():
            if one.terminal is host:
                one.terminal = None
                if one.session == one.pid:
                    self._lost[one] = host.group
        host.free()

    def send(self, group: int, *numbers: int) -> None:
        """Send signals to a group, 0 for none, as a terminal does."""
        for one in self._groups.group(group) if group else ():
            for signo in numbers:
                self._groups.send(one, SignalInfo(signo, SI_KERNEL))

    def check(self, process: Process, signals: Signals, terminal: Terminal, signo: int) -> int:
        """Return 0 if a thread with these `signals` may use a terminal, which only one in the background may not.

        Then -EIO, or -EINTR and its group has got `signo`: SIGTTIN for what reads, SIGTTOU for what changes or writes.
        """
        if process.terminal is not terminal or not terminal.group or process.group == terminal.foreground:
            return 0
        if signals.mask & signal_bit(signo) or signals.action(signo).handler == SIG_IGN:
            return -errno.EIO if signo == signal.SIGTTIN else 0
        if self._groups.is_orphaned(process.group):
            return -errno.EIO
        if not terminal.foreground:  # Quire itself is in the background
            self.halts = True
        self.send(process.group, signo)
        return -errno.EINTR
