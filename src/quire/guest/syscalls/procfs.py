"""The files of /proc/self that would otherwise show Quire: what they say about the guest.

A file is opened on the host first; when its kernel name says that it is one of these, its descriptor is
replaced in place by a memory file with the guest's text. So the number is the one that a native run gets.
"""

import os
import re
from collections.abc import Callable

from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.syscalls.host import path_of
from quire.guest.syscalls.state import thread_state

__all__ = ["command_name", "is_forbidden", "link_target", "substitute"]

_OWN = re.compile(r"/proc/(\d+)(?:/task/(\d+))?/(.+)", re.DOTALL)
_EXE = re.compile(rb"/proc/(?:self|thread-self|(\d+))(?:/task/\d+)?/exe")
#: What would give a guest Quire's memory, or change how Quire runs.
_FORBIDDEN = (
    "mem",
    "map_files",
    "clear_refs",
    "oom_adj",
    "oom_score_adj",
    "syscall",
    "pagemap",
    "kpagecgroup",
)
_COMM_MAX = 15


def program_path(group: ThreadGroup) -> bytes:
    """Return the absolute path of the guest's program."""
    return os.path.realpath(os.fsencode(group.program.path))


def command_name(task: Task) -> bytes:
    """Return the guest's command name: prctl(PR_SET_NAME), or the program's file name, at most 15 bytes."""
    name = thread_state(task).name
    return os.path.basename(task.program.execfn)[:_COMM_MAX] if name is None else name


def _own_file(link: str) -> str | None:
    """Return which file of this process's /proc directory a kernel name means, or None."""
    match = _OWN.fullmatch(link)
    if match is None or int(match[1]) != os.getpid():
        return None
    return match[3]


def is_forbidden(link: str) -> bool:
    """Whether a kernel name means a file of /proc that no guest may have."""
    name = _own_file(link)
    return name is not None and name.split("/", 1)[0] in _FORBIDDEN


def link_target(group: ThreadGroup, path: bytes) -> bytes | None:
    """Return the guest's program when `path` is a name of its /proc/self/exe, else None."""
    match = _EXE.fullmatch(path)
    if match is None or (match[1] is not None and int(match[1]) != os.getpid()):
        return None
    return program_path(group)


def _host_text(name: str) -> bytes:
    with open(f"/proc/self/{name}", "rb") as file:
        return file.read()


def _command_line(group: ThreadGroup) -> bytes:
    return b"".join(word + b"\0" for word in group.program.argv)


def _environment(group: ThreadGroup) -> bytes:
    return b"".join(word + b"\0" for word in group.program.envp)


def _stat(task: Task) -> bytes:
    text = _host_text("stat")
    return text[: text.index(b"(") + 1] + command_name(task) + text[text.rindex(b")") :]


def _status(task: Task) -> bytes:
    return b"Name:\t" + command_name(task) + b"\n" + _host_text("status").split(b"\n", 1)[1]


_TEXTS: dict[str, Callable[[Task], bytes]] = {
    "maps": lambda task: task.space.maps_text(),
    "smaps": lambda task: task.space.maps_text(),
    "numa_maps": lambda task: b"",
    "cmdline": _command_line,
    "environ": _environment,
    "comm": lambda task: command_name(task) + b"\n",
    "stat": _stat,
    "status": _status,
}


def substitute(task: Task, descriptor: int, flags: int) -> None:
    """Let a descriptor that was just opened on one of Quire's /proc files read the guest's text instead."""

    link = path_of(descriptor)
    name = _own_file(link) if link.startswith("/proc/") else None
    make = _TEXTS.get(name) if name is not None else None
    if make is None or flags & os.O_PATH:
        return
    memory_file = os.memfd_create(f"proc-{name}", os.MFD_CLOEXEC)
    try:
        with open(memory_file, "wb", closefd=False) as file:
            file.write(make(task))
        # A second open file description, read-only as the real one is, with its offset at the start.
        readable = os.open(f"/proc/self/fd/{memory_file}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(memory_file)
    os.dup2(readable, descriptor, inheritable=not flags & os.O_CLOEXEC)
    os.close(readable)
