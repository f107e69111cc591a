"""Names in /proc: those of the guest's processes stand for the host's directories of the threads that make their calls.

On the host a process of the guest is a thread of Quire, at its seat: that directory has the right descriptors, working
directory and root. A number that is none of the guest's names nothing.
"""

import os
import re
from typing import Protocol

from quire.guest.kernel.group import Process
from quire.guest.kernel.system import Kernel

__all__ = ["host_name", "own_link", "process_at", "program_of"]

_PROC = b"/proc/"
_TASK = re.compile(rb"/proc/(self|thread-self|[0-9]+)(?:/task/([0-9]+))?(?=/|$)")
_RELATIVE = re.compile(rb"(?:self|thread-self|[0-9]+)(?=/|$)")
_OWN = re.compile(rb"/proc/(thread-)?self")
_THREADS = re.compile(r"/proc/[0-9]+/task")
_EXE = re.compile(rb"/proc/(?:thread-self|[0-9]+/task/([0-9]+))/exe")
_AT_FDCWD = -100


class OfKernel(Protocol):
    """A task, as far as names ask it."""

    @property
    def process(self) -> Process:
        """Its process."""
        ...

    @property
    def kernel(self) -> Kernel:
        """What all share."""
        ...


def _absolute(directory: int, path: bytes) -> bytes:
    """Return a name that begins with a task's, and lies in /proc or a list of threads, as an absolute one."""
    if not _RELATIVE.match(path):
        return path
    try:
        where = os.getcwd() if directory == _AT_FDCWD else os.readlink(f"/proc/thread-self/fd/{directory}")
    except OSError:
        return path
    if where == "/proc":
        return _PROC + path
    return b"/proc/self/task/" + path if path[:1].isdigit() and _THREADS.fullmatch(where) else path


def host_name(task: OfKernel, path: bytes, directory: int = _AT_FDCWD) -> bytes:
    """Return the host's name of what the guest calls `path`, relative to `directory`. Nobody's number is not there."""
    if path.startswith(b"/") and not path.startswith(_PROC):
        return path
    path = _absolute(directory, path)
    match = _TASK.match(path)
    if match is None:
        return path
    rest = path[match.end() :]
    if match[1].isdigit():
        thread = task.kernel.task(int(match[1]))
        process = task.kernel.processes.get(int(match[1])) if thread is None else thread.process
    else:
        process = task.process
    if process is None or (match[2] is not None and task.kernel.task(int(match[2])) is None):
        return b"/proc/-1" + rest  # which is not there
    if not rest and (match[2] is not None or match[1].isdigit()):
        rest = b"/"  # on the host it may be a link
    if rest.startswith(b"/task") or process.ended:
        return b"/proc/self" + rest
    if process.seat is task.process.seat:
        return b"/proc/thread-self" + rest
    return b"/proc/%d/task/%d" % (os.getpid(), process.seat.native_id) + rest


def own_link(task: OfKernel, tid: int, path: bytes, directory: int) -> bytes | None:
    """Return what /proc/self or /proc/thread-self leads to for thread `tid`, if it is `path`; None for other names."""
    match = _OWN.fullmatch(_absolute(directory, path))
    if match is None:
        return None
    number = b"%d" % task.process.pid
    return number if match[1] is None else number + b"/task/%d" % tid


def process_at(task: OfKernel, thread: int | None) -> Process | None:
    """Return the process whose calls are made by Quire's thread of this number, None for Quire's first."""
    if thread is None:
        return task.process if task.process.seat is task.kernel.first_seat else task.kernel.first
    for process in (task.process, *task.kernel.live()):
        if process.seat.native_id == thread:
            return process
    return None


def program_of(task: OfKernel, path: bytes) -> Process | None:
    """Return the process whose /proc/PID/exe the host's name `path` is, None for another name."""
    match = _EXE.fullmatch(path)
    if match is None:
        return None
    return task.process if match[1] is None else process_at(task, int(match[1]))
