"""Times of files in system calls: which calls have the host stamp files, and structures with times in them."""

import os
import stat
import struct
from dataclasses import dataclass

from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import PARTS, Effect
from quire.guest.syscalls.kinds import HostCall, In, signed32
from quire.guest.syscalls.table import Syscall

__all__ = ["TIMES", "TIMEVALS", "UTIMBUF", "may_stamp", "prepare_stamps", "stat_times", "statx_times"]

_SECOND = 1_000_000_000
#: Where times are: st_atim, st_mtim, st_ctim; stx_atime, stx_btime, stx_ctime, stx_mtime.
_STAT_TIMES, _TIMESPEC = (72, 88, 104), struct.Struct("<qq")
_STATX_TIMES, _STATX_TIMESTAMP = (64, 80, 96, 112), struct.Struct("<qI")
_BIND = 49
#: Calls that open a file by name, and the argument that has the flags; None where a structure or nothing has them.
_OPENS = {2: 1, 85: None, 257: 2, 437: None}
_CREATES = os.O_CREAT | os.O_TRUNC
_BY_DESCRIPTOR = frozenset((Effect.INPUT, Effect.OUTPUT, Effect.SENDS, Effect.COPIES))


def may_stamp(task: Task, entry: Syscall) -> bool:
    """Whether a call may change a time of a file: by name, by a descriptor, or by what a shared mapping wrote."""
    effect = entry.effect
    if effect is Effect.FILES or effect in _BY_DESCRIPTOR or entry.number in _OPENS or entry.number == _BIND:
        return True
    return effect is not Effect.UNKNOWN and task.space.pages.shared.has_written


def prepare_stamps(task: Task, entry: Syscall, registers: tuple[int, ...]) -> None:
    """Have the stamps of a call be those of the guest's time, which waits for the host's clock if need be."""
    times = task.kernel.file_times
    if not times.begin() and _stamps(entry, registers):
        times.delay()


def _stamps(entry: Syscall, registers: tuple[int, ...]) -> bool:
    if entry.number in _OPENS:
        flags = _OPENS[entry.number]
        return flags is None or bool(registers[flags] & _CREATES)
    if entry.effect in _BY_DESCRIPTOR:
        return any(_has_times(signed32(registers[index])) for _, index in PARTS[entry.effect])
    return True


def _has_times(descriptor: int) -> bool:
    """Whether a descriptor names what people look at the time of: a file or a directory."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def stat_times(task: Task, data: bytes) -> bytes:
    """Return a struct stat of the host's with its times on the guest's clock."""
    return _on_guests_clock(task, data, _STAT_TIMES, _TIMESPEC)


def statx_times(task: Task, data: bytes) -> bytes:
    """Return a struct statx of the host's, likewise."""
    return _on_guests_clock(task, data, _STATX_TIMES, _STATX_TIMESTAMP)


def _on_guests_clock(task: Task, data: bytes, places: tuple[int, ...], layout: struct.Struct) -> bytes:
    changed, shown = bytearray(data), task.kernel.file_times.shown
    for place in places:
        seconds, nanos = layout.unpack_from(changed, place)
        layout.pack_into(changed, place, *divmod(shown(seconds * _SECOND + nanos), _SECOND))
    return bytes(changed)


@dataclass(frozen=True)
class _Given(In):
    """Two times that the guest gives a file, in seconds and in parts of `part` ns; none is now."""

    part: int = 1

    def finish(self, call: HostCall, index: int, result: int) -> None:
        buffer = call.buffers.get(index)
        if buffer is None:
            return
        words = struct.unpack(f"<{buffer.size // 8}q", buffer.take())
        pairs = zip(words[::2], words[1::2], strict=True) if self.part else ((word, 0) for word in words)
        for seconds, parts in pairs:
            if 0 <= parts < _SECOND:  # else it is UTIME_NOW or UTIME_OMIT
                call.task.kernel.file_times.keep(seconds * _SECOND + parts * self.part)


#: Of struct timespec, of struct timeval, and struct utimbuf, which has seconds alone.
TIMES, TIMEVALS = _Given(32, nullable=True), _Given(32, nullable=True, part=1000)
UTIMBUF = _Given(16, nullable=True, part=0)
