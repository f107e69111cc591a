"""A task's directory in procfs, which on the host is Quire's: what of it a guest may open, and what it finds there.

A file is opened on the host first. When it is one of Quire's own, its descriptor is replaced in place by a memory
file with the guest's text, so that the number is the one that a native run gets; what has no text and shows Quire is
refused.
"""

import errno
import os
import re
import struct
from collections.abc import Callable
from typing import cast

from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ipc_texts import IPC_TEXTS
from quire.guest.syscalls.kinds import FD, POINTER, U32, fail
from quire.guest.syscalls.proc_machine import OF_MACHINE
from quire.guest.syscalls.proc_names import process_at, program_of
from quire.guest.syscalls.proc_place import ProcPlace, place_of
from quire.guest.syscalls.proc_texts import TEXTS, command_name, program_path
from quire.guest.syscalls.table import syscall
from quire.own_descriptors import FIRST_OWN

__all__ = ["TEXT_NAME", "ProcPlace", "check", "command_name", "link_target", "replace_by_text", "substitute"]

#: How the memory files are named that stand for texts, before the name that the guest knows.
TEXT_NAME = "quire:"

#: What a task's directory says of the whole system, or of both the guest and Quire: read from the host.
_COMMON = frozenset((
    "arch_status", "autogroup", "cgroup", "coredump_filter", "cpuset", "gid_map", "loginuid", "mountinfo", "mounts",
    "mountstats", "oom_adj", "oom_score", "oom_score_adj", "personality", "projid_map", "sched", "schedstat",
    "sessionid", "setgroups", "timens_offsets", "timers", "timerslack_ns", "uid_map", "wchan",
))  # fmt: skip
#: Directories of it, and those of which all entries are common.
_DIRECTORIES = frozenset(("", "fd", "fdinfo", "task", "net", "ns", "attr"))
_COMMON_BELOW = ("net/", "attr/")
_NUMBERED = re.compile(r"(fd|fdinfo)/(\d+)")
#: What shows the memory of the whole machine, Quire's included, or takes from its log, which is not the guest's.
_OF_THE_MACHINE = frozenset(("kcore", "kpagecount", "kpageflags", "kpagecgroup", "vmcore", "kmsg"))

_GETDENTS, _GETDENTS64 = 78, 217
#: Where the length of a directory entry is, and its name, by the call.
_ENTRY_LENGTH = 16
_ENTRY_NAME = {_GETDENTS: 18, _GETDENTS64: 19}
_LSEEK, _ENTRY_NEXT = 8, 8
_LISTING = 1 << 16
_DIRECTORY = 4  # DT_DIR


def link_target(group: ThreadGroup, path: bytes) -> bytes | None:
    """Return the guest's program when `path` is a name of its /proc/self/exe, else None."""
    process = program_of(group, path)
    return None if process is None else program_path(process.image.program)


def check(task: ThreadGroup, descriptor: int, flags: int) -> ProcPlace | None:
    """Return where in procfs a file lies that was opened with `flags`; None for one that is not of a task of Quire's.

    Raises EACCES for what shows or changes Quire, ENOENT for what is not there for the guest.
    """
    place = place_of(descriptor)
    if place is None:
        return None
    if not place.own:
        if place.name in _OF_THE_MACHINE:
            raise fail(errno.EACCES)
        path = host.path_of(descriptor)
        if path in IPC_TEXTS:
            return ProcPlace(path)
        return place if place.name in OF_MACHINE else None
    name = place.name
    if place.thread is not None and process_at(task, place.thread) is None:
        raise fail(errno.ENOENT)
    numbered = _NUMBERED.match(name)
    if numbered and int(numbered[2]) >= FIRST_OWN:
        raise fail(errno.ENOENT)
    known = name in TEXTS or name in _COMMON or name in _DIRECTORIES or name.startswith(_COMMON_BELOW)
    changes = not flags & os.O_PATH and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC)
    if changes or not (known or numbered):
        raise fail(errno.EACCES)
    return place


def substitute(task: Task, descriptor: int, place: ProcPlace, flags: int) -> None:
    """Let a descriptor that was just opened on one of Quire's files read the guest's text instead."""
    make = TEXTS.get(place.name) if place.own else OF_MACHINE.get(place.name) or IPC_TEXTS.get(place.name)
    if make is None or flags & os.O_PATH:
        return
    process = process_at(task, place.thread) if place.own else None
    whose = task if process is None or process is task.process else task.kernel.task(process.pid)
    of_task = f"/proc/{(task.process if process is None else process).pid}" if place.own else "/proc"
    shown = place.name if place.name.startswith("/") else f"{of_task}/{place.name}"
    replace_by_text(descriptor, shown, make(cast(Task, whose or task)), flags)


def replace_by_text(descriptor: int, shown: str, text: bytes, flags: int) -> None:
    """Let a descriptor that was just opened with `flags` read `text`; a link to it says that it is `shown`."""
    memory_file = os.memfd_create(TEXT_NAME + shown, os.MFD_CLOEXEC)
    try:
        with open(memory_file, "wb", closefd=False) as file:
            file.write(text)
        # A second open file description, read-only as the real one is, with its offset at the start.
        readable = os.open(f"/proc/thread-self/fd/{memory_file}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(memory_file)
    os.dup2(readable, descriptor, inheritable=not flags & os.O_CLOEXEC)
    os.close(readable)


def _without_numbers(entries: bytes, name_at: int, keeps: Callable[[int], bool]) -> bytes:
    """Return directory entries without those whose names are numbers that `keeps` does not keep."""
    kept, at = [], 0
    while at < len(entries):
        (length,) = struct.unpack_from("<H", entries, at + _ENTRY_LENGTH)
        name = entries[at + name_at : at + length].split(b"\0", 1)[0]
        if not name.isdigit() or keeps(int(name)):
            kept.append(entries[at : at + length])
        at += length
    return b"".join(kept)


def _hand_over(task: Task, descriptor: int, pointer: int, entries: bytes, before: int) -> int:
    """Write entries to user memory, as many as it takes; the next call begins with the first that it did not."""
    done = 0
    try:
        while done < len(entries):
            (length,) = struct.unpack_from("<H", entries, done + _ENTRY_LENGTH)
            task.memory.write(pointer + done, entries[done : done + length])
            (before,) = struct.unpack_from("<q", entries, done + _ENTRY_NEXT)
            done += length
    except BadAddress:
        host.call(_LSEEK, descriptor, before, os.SEEK_SET)
        if not done:
            raise
    return done


def _list(task: Task, number: int, descriptor: int, pointer: int, size: int) -> int:
    if size >> 31:
        return -errno.EINVAL
    found = host.HostBuffer(min(size, _LISTING))
    place = place_of(descriptor)
    before = host.call(_LSEEK, descriptor, 0, os.SEEK_CUR)
    numbers = _numbers_of(task, place)
    added = b"" if numbers is None or before else _entries(number, numbers, found.size)
    while True:
        result = host.call(number, descriptor, found.address, found.size - len(added))
        if result < 0 or (result == 0 and not added):
            return result
        entries = added + _filtered(found.take(result), _ENTRY_NAME[number], place, numbers)
        added = b""
        if entries:
            return _hand_over(task, descriptor, pointer, entries, before)


def _numbers_of(task: Task, place: ProcPlace | None) -> list[int] | None:
    """Return the numbers that a directory of processes or threads has for the guest; None for another directory."""
    if place is None or (place.name, place.own) not in (("", False), ("task", True)):
        return None
    if place.own:
        return sorted(one.tid for one in task.process.live())
    return sorted(task.kernel.processes)


def _filtered(entries: bytes, name_at: int, place: ProcPlace | None, numbers: list[int] | None) -> bytes:
    """Return directory entries without those that are Quire's, or the host's."""
    if numbers is not None:
        return _without_numbers(entries, name_at, lambda number: False)
    if place is not None and place.own and place.name in ("fd", "fdinfo"):
        return _without_numbers(entries, name_at, lambda number: number < FIRST_OWN)
    return entries


def _entries(call: int, numbers: list[int], room: int) -> bytes:
    """Return entries of directories with these numbers as names, as many as there is room for."""
    made = b""
    for number in numbers:
        name = b"%d" % number
        start = _ENTRY_NAME[call]
        length = (start + len(name) + 2 + 7) & ~7
        entry = bytearray(length)
        struct.pack_into("<QqH", entry, 0, (1 << 20) + number, 0, length)
        entry[start : start + len(name)] = name
        entry[18 if call == _GETDENTS64 else length - 1] = _DIRECTORY
        if len(made) + length > room // 2:
            break
        made += bytes(entry)
    return made


@syscall(_GETDENTS, "getdents", FD, POINTER, U32, effect=Effect.INPUT)
def getdents(task: Task, descriptor: int, pointer: int, size: int) -> int:
    """Read entries of a directory."""
    return _list(task, _GETDENTS, descriptor, pointer, size)


@syscall(_GETDENTS64, "getdents64", FD, POINTER, U32, effect=Effect.INPUT)
def getdents64(task: Task, descriptor: int, pointer: int, size: int) -> int:
    """Read entries of a directory, with their types."""
    return _list(task, _GETDENTS64, descriptor, pointer, size)
