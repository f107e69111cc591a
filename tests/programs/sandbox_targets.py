"""What a sandboxed guest must not change, made afresh in a folder, and looked at before and after its run.

Files of all kinds, inherited descriptors that this process shares with the guest's, a process of the same user, and
this process itself, which is Quire's parent.
"""

import contextlib
import fcntl
import hashlib
import os
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
from pathlib import Path
from typing import Any, Self

from limits import PATIENCE

__all__ = ["Targets"]

#: Seals, and the size of a pipe.
_GET_SEALS, _GETPIPE_SZ, _GETOWN_EX = 1034, 1032, 16
#: Numbers of the inherited descriptors, in the order of probes/attempts.c.
_FIRST = 5


class Targets:
    """Makes the targets in `folder`; a context manager. `inherited` are the descriptors, by the guest's numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._make_files()
        self._opened = list(self._open())
        self.inherited = dict(enumerate(self._opened[:11], _FIRST))
        self.victim = subprocess.Popen(["sleep", "100000"], start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.victim.kill()
        self.victim.wait(PATIENCE)
        for descriptor in self._opened:
            os.close(descriptor)

    def _make_files(self) -> None:
        folder = self.folder
        (folder / "dir" / "empty").mkdir(parents=True)
        (folder / "dir" / "inside").write_bytes(b"inside")
        (folder / "file").write_bytes(bytes(range(256)) * 40)
        (folder / "file").chmod(0o640)
        with contextlib.suppress(OSError):
            os.setxattr(folder / "file", "user.a", b"attribute")
        (folder / "link").symlink_to("file")
        os.mkfifo(folder / "fifo")
        for name in ("bound", "second"):
            (folder / name).mkdir()
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                os.mknod(folder / "block", stat.S_IFBLK | 0o666, os.makedev(1, 3))

    def _open(self) -> "list[int]":
        file = os.open(self.folder / "file", os.O_RDWR)
        os.lseek(file, 3, os.SEEK_SET)
        pipe_out, pipe_in = os.pipe()
        os.write(pipe_in, b"bytes in a pipe")
        memory = os.memfd_create("shared", os.MFD_ALLOW_SEALING)
        os.write(memory, b"bytes of a memory file")
        ours, theirs = socket.socketpair()
        ours.send(b"bytes in a socket")
        self._master, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("<4H", 30, 90, 0, 0))
        os.write(self._master, b"typed\n")
        event = os.eventfd(5)
        timer = os.timerfd_create(1) if hasattr(os, "timerfd_create") else os.eventfd(0)
        ready = select.epoll()
        ready.register(pipe_out, select.EPOLLIN | select.EPOLLET)
        watch = _watch(self.folder / "dir")
        folder = os.open(self.folder / "dir", os.O_RDONLY | os.O_DIRECTORY)
        numbers = (file, pipe_in, memory, theirs.detach(), terminal, pipe_out, event, timer, os.dup(ready.fileno()),
                   watch, folder)  # fmt: skip
        ready.close()
        return [*numbers, ours.detach(), self._master]

    def snapshot(self) -> dict[str, Any]:
        """Return everything that must be the same after the run, by a name that says what it is."""
        found: dict[str, Any] = {}
        for path in (self.folder, *sorted(self.folder.rglob("*"))):
            found[f"file {path.name}"] = _file(path)
        for number, descriptor in self.inherited.items():
            found |= {f"descriptor {number}: {what}": seen for what, seen in _descriptor(descriptor).items()}
        found |= {f"victim: {what}": seen for what, seen in self._process().items()}
        found |= {f"parent: {what}": seen for what, seen in _parent().items()}
        return found

    def _process(self) -> dict[str, Any]:
        number = self.victim.pid
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        kept = (
            "Uid",
            "Gid",
            "Groups",
            "SigPnd",
            "SigBlk",
            "SigIgn",
            "ShdPnd",
            "Cap",
            "NoNewPrivs",
            "Seccomp",
            "TracerPid",
        )
        limits = {
            name: resource.prlimit(number, getattr(resource, name))
            for name in dir(resource)
            if "RLIMIT" in name
        }
        return {
            "lives": self.victim.poll(),
            "stopped": any(line.startswith(("State:\tT", "State:\tt")) for line in lines),
            "status": [line for line in lines if line.startswith(kept)],
            "limits": limits,
            "priority": os.getpriority(os.PRIO_PROCESS, number),
            "policy": os.sched_getscheduler(number),
            "processors": os.sched_getaffinity(number),
            "groups": (os.getpgid(number), os.getsid(number)),
        }


def _watch(folder: Path) -> int:
    import ctypes

    library = ctypes.CDLL(None)
    watch: int = library.inotify_init1(os.O_NONBLOCK)
    library.inotify_add_watch(
        watch, os.fsencode(folder), 0xFFF & ~0x31
    )  # all but what reading is: access, open, close
    return watch


def _file(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    kept = tuple(getattr(status, f"st_{name}") for name in ("mode", "uid", "gid", "nlink", "size", "ino", "mtime_ns",
                                                            "ctime_ns"))  # fmt: skip
    attributes: list[tuple[str, bytes]] = []
    with contextlib.suppress(OSError):
        names = sorted(os.listxattr(path, follow_symlinks=False))
        attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    content: object = None
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISDIR(status.st_mode):
        content = sorted(os.listdir(path))
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return (*kept, attributes, content)


def _descriptor(descriptor: int) -> dict[str, Any]:
    """Return the state that all share who have this file open: what fdinfo has, with locks, counts and watches."""
    status = os.fstat(descriptor)
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    found: dict[str, Any] = {
        "state": lines,
        "flags": fcntl.fcntl(descriptor, fcntl.F_GETFL),
        "owner": fcntl.fcntl(descriptor, _GETOWN_EX, bytes(8)),
        "signal": fcntl.fcntl(descriptor, fcntl.F_GETSIG),
        "status": (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_blocks),
    }
    if stat.S_ISFIFO(status.st_mode):
        found["pipe"] = fcntl.fcntl(descriptor, _GETPIPE_SZ), _waiting(descriptor)
        del found["status"]  # nothing that a pipe says there is kept for it
    if stat.S_ISSOCK(status.st_mode):
        found["waiting"] = _waiting(descriptor)
    if stat.S_ISREG(status.st_mode):
        found["bytes"] = os.pread(descriptor, 1 << 20, 0)
        with contextlib.suppress(OSError):
            found["seals"] = fcntl.fcntl(descriptor, _GET_SEALS)
    if os.isatty(descriptor):
        found["modes"] = termios.tcgetattr(descriptor)
        found["window"] = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
        found["typed"] = _waiting(descriptor)
        del found["status"]  # its times are those of reads and writes to it, in steps of seconds
    return found


def _waiting(descriptor: int) -> int:
    """Return how many bytes wait to be read."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), "little")


def _parent() -> dict[str, Any]:
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "umask": mask,
        "folder": os.getcwd(),
        "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
        "groups": (os.getpgid(0), os.getsid(0)),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "host": os.uname(),
    }
