"""The files of a task's directory in procfs as the guest reads them: what they say is of the guest, not of Quire."""

import os
import resource
from collections.abc import Callable

from quire.arch import WORD
from quire.guest.kernel.actions import SIG_DFL, SIG_IGN, SIGNAL_COUNT, signal_bit
from quire.guest.kernel.task import Task
from quire.guest.load.launch import Program
from quire.guest.syscalls.proc_memory import memory_lines, smaps, smaps_rollup, statm
from quire.guest.syscalls.state import group_state, limit_of, thread_state

__all__ = ["TEXTS", "command_name", "program_path"]

_COMM_MAX = 15
_TICK = os.sysconf("SC_CLK_TCK")
_STATES = {"R": "R (running)", "S": "S (sleeping)", "T": "T (stopped)", "Z": "Z (zombie)"}
#: Ticks after the start of the machine at which processes begin, as far as anybody asks.
_START = 3600 * _TICK
#: Name and unit of each resource limit, in the order of their numbers.
_LIMITS = (
    ("Max cpu time", "seconds"), ("Max file size", "bytes"), ("Max data size", "bytes"), ("Max stack size", "bytes"),
    ("Max core file size", "bytes"), ("Max resident set", "bytes"), ("Max processes", "processes"),
    ("Max open files", "files"), ("Max locked memory", "bytes"), ("Max address space", "bytes"),
    ("Max file locks", "locks"), ("Max pending signals", "signals"), ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""), ("Max realtime priority", ""), ("Max realtime timeout", "us"),
)  # fmt: skip


def program_path(program: Program) -> bytes:
    """Return the absolute path of a program."""
    return os.path.realpath(os.fsencode(program.path))


def command_name(task: Task) -> bytes:
    """Return the guest's command name: prctl(PR_SET_NAME), or the program's file name, at most 15 bytes."""
    name = thread_state(task).name
    return os.path.basename(task.program.execfn)[:_COMM_MAX] if name is None else name


def _host_text(name: str) -> bytes:
    with open(f"/proc/self/{name}", "rb") as file:
        return file.read()


def _signal_sets(task: Task) -> tuple[int, int, int, int]:
    """Return what waits, is blocked, ignored, caught."""
    ignored = caught = 0
    for signo in range(1, SIGNAL_COUNT + 1):
        handler = task.signals.action(signo).handler
        if handler == SIG_IGN:
            ignored |= signal_bit(signo)
        elif handler != SIG_DFL:
            caught |= signal_bit(signo)
    return task.signals.pending, task.signals.mask, ignored, caught


#: Fields of /proc/self/stat after the name, counted as proc(5) does, from 1.
_FIRST_FIELD = 3


def _stat(task: Task) -> bytes:
    text = _host_text("stat")
    fields = text[text.rindex(b")") + 2 :].split()
    user, system = task.usage.time() * _TICK // 1_000_000_000, 0
    limit = group_state(task).limits[resource.RLIMIT_RSS][0]
    low = (1 << 31) - 1
    nice = thread_state(task).nice
    own = {
        10: task.usage.faults,
        11: 0,
        12: 0,
        13: 0,
        14: user,
        15: system,
        16: 0,
        17: 0,
        18: 20 + nice,
        19: nice,
    }
    process = task.process
    terminal = process.terminal
    own |= {4: process.parent_pid, 5: process.group, 6: process.session}
    # tty_nr is the device in 32 bits, tpgid the group in its foreground.
    own |= {7: 0, 8: -1} if terminal is None else {7: terminal.device, 8: terminal.foreground}
    own |= {
        20: sum(1 for _ in process.live()),
        22: _START,
        23: task.space.mapped_bytes,
        24: task.space.resident_bytes >> 12,
        25: limit,
    }
    own |= dict.fromkeys((26, 27, 28, 29, 30, 35, *range(45, 52)), 0)
    own |= {31 + at: signals & low for at, signals in enumerate(_signal_sets(task))}
    for number, value in own.items():
        fields[number - _FIRST_FIELD] = str(value).encode()
    fields[0] = _state(task).encode()
    return b"%d (" % process.pid + command_name(task) + b") " + b" ".join(fields) + b"\n"


def _state(task: Task) -> str:
    """Return the letter of what the process does: zombie, stopped, running, sleeping."""
    if task.process.ended:
        return "Z"
    if task.process.stopped:
        return "T"
    return "R" if task.runs else "S"


def _status(task: Task) -> bytes:
    """Return the host's text with every line replaced that is of the guest."""
    credentials, group = thread_state(task).credentials, group_state(task)
    users, groups = credentials.users, credentials.groups
    pending, blocked, ignored, caught = _signal_sets(task)
    lines = {
        "Umask": f"{group.umask:04o}",
        "State": _STATES[_state(task)],
        "Tgid": str(task.process.pid),
        "Ngid": "0",
        "Pid": str(task.tid),
        "PPid": str(task.process.parent_pid),
        "TracerPid": "0",
        "NStgid": str(task.process.pid),
        "NSpid": str(task.tid),
        "NSpgid": str(task.process.group),
        "NSsid": str(task.process.session),
        "Uid": "\t".join(str(one) for one in (users.real, users.effective, users.saved, users.fs)),
        "Gid": "\t".join(str(one) for one in (groups.real, groups.effective, groups.saved, groups.fs)),
        "Groups": " ".join(str(one) for one in credentials.others) + " ",
        "FDSize": "64",
        "Threads": str(sum(1 for _ in task.process.live())),
        "SigPnd": f"{pending:016x}",
        "ShdPnd": f"{0:016x}",
        "SigBlk": f"{blocked:016x}",
        "SigIgn": f"{ignored:016x}",
        "SigCgt": f"{caught:016x}",
        "NoNewPrivs": str(thread_state(task).no_new_privileges),
        "Seccomp": "0",
        "Seccomp_filters": "0",
        "Cpus_allowed": "1",
        "Cpus_allowed_list": "0",
    } | memory_lines(task, task.usage.peak)
    found = [b"Name:\t" + command_name(task)]
    for line in _host_text("status").split(b"\n")[1:]:
        name = line.partition(b":")[0].decode()
        found.append(f"{name}:\t{lines[name]}".encode() if name in lines else line)
    return b"\n".join(found)


def _limits(task: Task) -> bytes:
    rows = [("Limit", "Soft Limit", "Hard Limit", "Units")]
    for number, (name, unit) in enumerate(_LIMITS):
        pair = limit_of(task, number)
        soft, hard = ("unlimited" if value == WORD else str(value) for value in pair)
        rows.append((name, soft, hard, unit))
    lines = (
        f"{row[0]:<25} {row[1]:<20} {row[2]:<20} " + (f"{row[3]:<10}\n" if row[3] else "\n") for row in rows
    )
    return "".join(lines).encode()


def _words(words: tuple[bytes, ...]) -> bytes:
    return b"".join(word + b"\0" for word in words)


#: What a task's file says of the guest, by its name.
TEXTS: dict[str, Callable[[Task], bytes]] = {
    "maps": lambda task: task.space.maps_text(),
    "smaps": smaps,
    "smaps_rollup": smaps_rollup,
    "numa_maps": lambda task: b"",
    "cmdline": lambda task: _words(task.program.argv),
    "environ": lambda task: _words(task.program.envp),
    "comm": lambda task: command_name(task) + b"\n",
    "io": lambda task: _host_text(f"task/{os.getpid()}/io"),  # of the thread that makes the guest's calls
    "limits": _limits,
    "stat": _stat,
    "statm": statm,
    "status": _status,
}
