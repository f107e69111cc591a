"""Who of the guest gets the signals of an open file, which the host sends when it is ready (F_SETOWN, O_ASYNC).

Models send_sigio in Linux's fs/fcntl.c. The host knows an owner by a thread that stands in for him
(:meth:`quire.guest.kernel.outside.Outside.stand_in`).
"""

from typing import Protocol

from quire.guest.kernel.group import Process, ProcessThread
from quire.guest.kernel.siginfo import Owner, OwnerKind, SignalInfo

__all__ = ["Recipients", "is_there", "send_to_owner"]


class Recipients(Protocol):
    """The processes and threads of a guest, and how they are sent signals."""

    processes: dict[int, Process]

    def group(self, number: int) -> list[Process]:
        """Return the processes of a group."""
        ...

    def task(self, tid: int) -> ProcessThread | None:
        """Return the thread with this number."""
        ...

    def send(self, process: Process, info: SignalInfo) -> bool:
        """Send a signal to a process."""
        ...

    def send_thread(self, thread: ProcessThread, info: SignalInfo) -> int:
        """Send a signal to a thread."""
        ...


def is_there(kernel: Recipients, owner: Owner) -> bool:
    """Whether an owner is, or has not been waited for: who is not gets no signals, and is nobody's owner any more."""
    if owner.kind is OwnerKind.GROUP:
        return bool(kernel.group(owner.number))
    if owner.kind is OwnerKind.PROCESS and owner.number in kernel.processes:
        return True
    return kernel.task(owner.number) is not None


def send_to_owner(kernel: Recipients, owner: Owner, info: SignalInfo) -> None:
    """Send a signal to whom an open file belongs. The number of a thread that is no process's is a process for none."""
    if owner.kind is OwnerKind.THREAD:
        thread = kernel.task(owner.number)
        if thread is not None:
            kernel.send_thread(thread, info)
        return
    one = kernel.processes.get(owner.number)
    whom = kernel.group(owner.number) if owner.kind is OwnerKind.GROUP else [] if one is None else [one]
    for process in whom:
        if not process.ended:
            kernel.send(process, info)
