"""What this machine's own counters say of the programs: misses of its data TLB, where the kernel lets us read them.

A counter is opened for this process and inherited by the program that it starts, from its first instruction on
(perf_event_open(2)). Of two runs that differ in their accesses alone, the difference is the accesses'.
"""

import ctypes
import errno
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from quire.study.hardware.programs import LARGE, SMALL, Program

__all__ = ["count_programs", "count_run"]

#: What is counted of each program: misses of the data TLB an access, with either kind of page.
_COUNTED = ("small_misses", "large_misses")
#: perf_event_attr: type, config, flags; PERF_ATTR_SIZE_VER0 bytes.
_ATTR = struct.Struct("=IIQQQQQ16x")
_ATTR_SIZE = 64
_SYS_PERF_EVENT_OPEN = 298
_DISABLED, _INHERIT, _EXCLUDE_KERNEL, _ENABLE_ON_EXEC = 1 << 0, 1 << 1, 1 << 5, 1 << 12
_CLOSE_ON_EXEC = 1 << 3  # of the system call: PERF_FLAG_FD_CLOEXEC
_HW_CACHE = 3
_DTLB_READ_MISS = 3 | 0 << 8 | 1 << 16
_COUNT = struct.Struct("=Q")


def count_programs(
    made: Path, programs: Sequence[Program], size: int, accesses: int
) -> dict[str, dict[str, float]] | None:
    """Return the misses an access of each program with 4 KiB and with 2 MiB pages; None where nothing counts."""
    found = {}
    for program in programs:
        each = []
        for pages in (SMALL, LARGE):
            counts = [
                count_run([str(made), program.name, str(size), str(count), pages], _HW_CACHE, _DTLB_READ_MISS)
                for count in (accesses, 2 * accesses)
            ]
            if counts[0] is None or counts[1] is None:
                return None
            each.append((counts[1] - counts[0]) / accesses)
        found[program.name] = dict(zip(_COUNTED, each, strict=True))
    return found


def count_run(command: Sequence[str], kind: int, config: int) -> int | None:
    """Run `command`, its output thrown away; return how often the event happened in it, None if nothing counts it."""
    descriptor = _open(kind, config)
    if descriptor is None:
        return None
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        return int(_COUNT.unpack(os.read(descriptor, _COUNT.size))[0])
    finally:
        os.close(descriptor)


def _open(kind: int, config: int) -> int | None:
    """Return a counter that what this process starts inherits; None if the machine or its kernel has none for us."""
    flags = _DISABLED | _INHERIT | _EXCLUDE_KERNEL | _ENABLE_ON_EXEC
    attributes = ctypes.create_string_buffer(_ATTR.pack(kind, _ATTR_SIZE, config, 0, 0, 0, flags), _ATTR_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(_SYS_PERF_EVENT_OPEN, attributes, 0, -1, -1, _CLOSE_ON_EXEC)
    if found >= 0:
        return int(found)
    number = ctypes.get_errno()
    if number in (
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.ENODEV,
        errno.EINVAL,
    ):
        return None
    raise OSError(number, os.strerror(number))
