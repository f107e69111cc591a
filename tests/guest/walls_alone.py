"""Puts up the walls of the host's kernel around this process and makes the host's calls themselves, without a guest.

``walls_alone.py FOLDER VICTIM TERMINAL [ROOT...]``: writes a line of JSON, of each call its name and what it answered.
The roots close the read side. Quire's table of effects is not asked: what is refused here the kernel refuses.
"""

import json
import os
import signal
import struct
import sys

from quire.guest.own_process import few_threads

if __name__ == "__main__":
    few_threads()  # as the command line does: Landlock wants one

from quire.guest.enclosure import host_walls
from quire.guest.syscalls import host
from quire.kernels.loading import load_everything

__all__ = ["CALLS"]

_OWNER_PID = 1
_THREAD_FLAGS = 17  # SIGCHLD: a process, no thread


def _buffer(data: bytes) -> int:
    kept = host.HostBuffer(len(data) + 1, data)
    _KEPT.append(kept)
    return kept.address


_KEPT: list[host.HostBuffer] = []


def calls(folder: bytes, victim: int, terminal: int, pipe: int) -> dict[str, tuple[int, ...]]:
    """Return the calls to try, by name: number and words."""
    file, new, inside = (_buffer(folder + name) for name in (b"/file", b"/new", b"/dir/inside"))
    limit = _buffer(struct.pack("<QQ", 10, 10))
    here = -100
    return {
        "open for reading": (257, here, file, os.O_RDONLY, 0),
        "open for writing": (257, here, file, os.O_WRONLY, 0),
        "open and empty": (257, here, file, os.O_RDONLY | os.O_TRUNC, 0),
        "create": (257, here, new, os.O_CREAT | os.O_WRONLY, 0o600),
        "open by openat2": (437, here, file, _buffer(struct.pack("<QQQ", os.O_RDWR, 0, 0)), 24),
        "open by creat": (85, file, 0o600),
        "open /dev/null for writing": (257, here, _buffer(b"/dev/null"), os.O_WRONLY, 0),
        "truncate": (76, file, 0),
        "unlink": (87, file),
        "mkdir": (83, new, 0o777),
        "rename": (82, file, new),
        "link": (86, file, new),
        "symlink": (88, file, new),
        "mknod": (133, new, 0o010666, 0),
        "chmod": (90, file, 0),
        "chown": (92, file, 1, 1),
        "setxattr": (188, file, _buffer(b"user.a"), file, 1, 0),
        "utimensat": (280, here, inside, 0, 0),
        "socket": (41, 1, 1, 0),
        "socketpair": (53, 1, 1, 0, limit),
        "kill": (62, victim, signal.SIGKILL),
        "tkill": (200, victim, signal.SIGKILL),
        "tgkill": (234, victim, victim, signal.SIGKILL),
        "pidfd_open": (434, victim, 0),
        "ptrace": (101, 0x4206, victim, 0, 0),
        "process_vm_writev": (311, victim, limit, 1, limit, 1, 0),
        "execve": (59, _buffer(b"/bin/true"), 0, 0),
        "fork": (57,),
        "clone": (56, _THREAD_FLAGS, 0, 0, 0, 0),
        "setpriority": (141, 0, victim, 19),
        "prlimit64": (302, victim, 7, limit, 0),
        "sched_setaffinity": (203, victim, 8, limit),
        "sched_setscheduler": (144, victim, 5, _buffer(bytes(4))),
        "setsid": (112,),
        "F_SETOWN": (72, pipe, 8, victim),
        "F_SETSIG": (72, pipe, 10, signal.SIGKILL),
        "F_SETOWN_EX": (72, pipe, 15, _buffer(struct.pack("<ii", _OWNER_PID, victim))),
        "F_NOTIFY": (72, pipe, 1026, 0x80000001),
        "F_SETLEASE": (72, pipe, 1024, 0),
        "TIOCSTI": (16, terminal, 0x5412, _buffer(b"z")),
        "TIOCSCTTY": (16, terminal, 0x540E, 1),
        "TIOCSPGRP": (16, terminal, 0x5410, _buffer(struct.pack("<i", victim))),
        "mount": (165, 0, file, 0, 0, 0),
        "unshare": (272, 0x20000),
        "io_uring_setup": (425, 1, limit),
        "bpf": (321, 0, limit, 16),
        "flock": (73, pipe, 1),
        "a number of the x32 interface": (0x40000000 + 39,),
    }


#: The names of all calls, for who reads the answers.
CALLS = tuple(calls(b"", 0, 0, 0))


def main(folder: str, victim: str, terminal: str, *roots: str) -> None:
    """Open what Quire writes to, put up the walls, try."""
    load_everything()
    reading, writing = os.pipe()
    report = os.open(f"{folder}/report", os.O_CREAT | os.O_RDWR, 0o600)
    prepared = calls(os.fsencode(folder), int(victim), int(terminal), reading)
    walls = host_walls([os.fsencode(root) for root in roots] or None)
    answers = {name: host.call(*words) for name, words in prepared.items()}
    os.write(writing, b"own")
    os.write(report, b"a report, ")
    os.ftruncate(report, 2)
    os.lseek(report, 0, os.SEEK_END)
    os.write(report, b" shorter one")
    own = [os.read(reading, 3).decode(), os.path.exists(f"/proc/self/fd/{report}")]
    print(json.dumps({"walls": walls, "answers": answers, "own": own}))


if __name__ == "__main__":
    main(*sys.argv[1:])
