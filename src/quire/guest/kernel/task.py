"""What a task offers to those that work for it: system calls, and the delivery of signals.

The consumers' side of the interface, so that none of them names the process that implements it
(:class:`quire.guest.kernel.process.ProcessGuest`). A task is one thread of execution. What all threads of a process
have in common is its :class:`ThreadGroup`; what is a thread's own is in :class:`Task`. A handler that needs only one
side should ask for that side.
"""

import random
from typing import Protocol

from quire.guest.kernel.actions import SigAction
from quire.guest.kernel.clone_flags import Clone
from quire.guest.kernel.frame import Trap
from quire.guest.kernel.group import Process
from quire.guest.kernel.host_memory import HostMemory
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.rseq import Rseq
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.system import Kernel
from quire.guest.kernel.timers import Timers
from quire.guest.kernel.usage import Usage
from quire.guest.kernel.waiting import Waiter
from quire.guest.load.launch import Program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.uaccess import UserMemory

__all__ = ["Interruptible", "Task", "TaskOptions", "ThreadGroup"]


class TaskOptions(Protocol):
    """How a guest runs, as far as its system calls ask."""

    @property
    def sandbox(self) -> bool:
        """Whether effects outside the guest are refused."""
        ...

    @property
    def root(self) -> str:
        """Where absolute names are looked up first, empty for nowhere."""
        ...


class ThreadGroup(Protocol):
    """What the threads of one process share."""

    @property
    def process(self) -> Process:
        """The process itself: its number, its family, how it ended."""
        ...

    @property
    def kernel(self) -> Kernel:
        """What all processes share."""
        ...

    @property
    def program(self) -> Program:
        """The program that runs, with its arguments and its environment."""
        ...

    @property
    def options(self) -> TaskOptions:
        """How the guest runs."""
        ...

    @property
    def space(self) -> AddressSpace:
        """The address space."""
        ...

    @property
    def memory(self) -> UserMemory:
        """The same memory as the kernel reads and writes it: by user addresses, with the program's own rights."""
        ...

    @property
    def host_memory(self) -> HostMemory:
        """What it holds of the host's memory outside its frames."""
        ...

    @property
    def rng(self) -> random.Random:
        """The seeded generator of all that the guest sees as random."""
        ...

    @property
    def usage(self) -> Usage:
        """What it used of processors and memory."""
        ...

    @property
    def timers(self) -> Timers:
        """The timers that send it signals."""
        ...

    def lacks(self, name: str, *, ordinary: bool = False) -> None:
        """Note that the guest asked for the system call `name` and was told ENOSYS; `ordinary` is no news."""
        ...


class Interruptible(Protocol):
    """What may wait, and be woken by a signal."""

    @property
    def process(self) -> Process:
        """The process."""
        ...

    @property
    def signals(self) -> Signals:
        """The mask of the thread, what waits for it, and what each signal does."""
        ...

    def collect_signals(self) -> None:
        """Queue what came from outside and from timers meanwhile: whoever waits looks for it."""
        ...


class Task(ThreadGroup, Interruptible, Protocol):
    """One thread of a process: its processor, its signals, and all that it shares with the others."""

    @property
    def machine(self) -> ProcessMachine:
        """The vCPU that the thread runs on, and the memory below it."""
        ...

    @property
    def trap(self) -> Trap:
        """The last fault, as a signal frame reports it."""
        ...

    tid: int
    runs: bool  #: whether it goes on when its call is done
    kept: dict[str, int]  #: what a call that waits remembers until it is made again
    waiters: tuple[Waiter, ...]  #: what the call at hand waited in
    awaits: int  #: signals that it waits for though it blocks them
    rseq: Rseq | None  #: what it registered of restartable sequences

    @property
    def woken(self) -> bool:
        """Whether a queue woke the call at hand."""
        ...

    def clone(
        self, flags: Clone, exit_signal: int, stack: int, tls: int, pointers: tuple[int, int]
    ) -> "Task":
        """Return a new thread or process. Raises OSError."""
        ...

    def execute(self, program: Program) -> bool:
        """Be another program from now on; return whether it is to be asked again, at another seat."""
        ...

    def parts(self, what: Clone) -> bool:
        """Have descriptors or a working directory of its own; return whether it has them at another seat."""
        ...

    def exit_thread(self, status: int) -> None:
        """End this thread, and the process with the last."""
        ...

    def exit_process(self, status: int) -> None:
        """End the process."""
        ...

    def yields(self) -> None:
        """Let others run that can, before this one does again."""
        ...

    def stop_by(self, signo: int) -> bool:
        """Stop the process for a signal that was delivered; False if nobody could continue its group."""
        ...

    def restart_call(self, action: SigAction | None) -> None:
        """Finish a system call that a signal interrupted: for handler `action`, or None for no handler."""
        ...
