"""Waiting for descriptors: poll, select and epoll, with Quire's own descriptors out of sight."""

import errno
import struct

from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, POINTER, S32, U32, fail
from quire.guest.syscalls.played import all_played
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import passes, syscall
from quire.guest.syscalls.waiting import deadline, interrupted, read_mask, replaced_mask
from quire.own_descriptors import FIRST_OWN

_POLL, _PPOLL, _PSELECT6 = 7, 271, 270
_EPOLL_CTL, _EPOLL_PWAIT, _EPOLL_PWAIT2, _EPOLL_CTL_DEL = 233, 281, 441, 2
_SECOND = 1_000_000_000
_NOW = host.HostBuffer(16)  # no time to wait
#: What the three sets of select wait for, and what poll may ask for.
_READS, _WRITES, _OTHERS = 0x001 | 0x040 | 0x080, 0x004 | 0x100 | 0x200, 0x002
_ASKED = 0x27FF
_POLLNVAL = 0x20
_POLLFD = struct.Struct("<ihh")
_EVENT = 12  # struct epoll_event, packed on x86-64
_MAX_EVENTS = 4096  # that one call hands out
_EVENTS_MAX = 0x7FFF_FFFF // _EVENT  # that one may ask for
_WORD = 8

passes(213, "epoll_create", INT, effect=Effect.GUEST, opens=True)
passes(291, "epoll_create1", INT, effect=Effect.GUEST, opens=True)


def _hide(entries: bytes) -> tuple[bytes, set[int]]:
    """Return an array of struct pollfd in which Quire's descriptors are skipped, and the places of those."""
    hidden: set[int] = set()
    out = bytearray(entries)
    for index, (descriptor, events, _) in enumerate(_POLLFD.iter_unpack(entries)):
        if descriptor >= FIRST_OWN:
            hidden.add(index)
            _POLLFD.pack_into(out, index * _POLLFD.size, -1, events, 0)
    return bytes(out), hidden


def _or_wait(task: Task, result: int, files: tuple[tuple[int, int], ...], until: int | None) -> int:
    """Return what a call found that did not wait; if that is nothing and its time is not over, wait."""
    if result or (until is not None and task.kernel.clock.now() >= until):
        return result
    if interrupted(task):
        return -errno.EINTR
    played = task.kernel.files
    found = [(one, played.named(one[0]) if played else None) for one in files]
    queues = tuple((file.queue, 0) for _, file in found if file is not None)
    raise Blocks(queues=queues, files=tuple(one for one, file in found if file is None), until=until)


def _poll(task: Task, pointer: int, count: int, until: int | None) -> int:
    if count > group_state(task).descriptor_limit:
        return -errno.EINVAL
    entries = task.memory.read(pointer, count * _POLLFD.size) if count else b""
    visible, hidden = _hide(entries)
    task.kernel.files.heed(task)
    buffer = host.HostBuffer(len(visible), visible)
    result = host.call(_PPOLL, buffer.address, count, _NOW.address, 0, 8)
    if not hidden:
        files = tuple((fd, events & _ASKED) for fd, events, _ in _POLLFD.iter_unpack(visible) if fd >= 0)
        result = _or_wait(task, result, files, until)
    if not count and pointer >= TASK_SIZE:
        raise BadAddress(pointer)  # Linux looks where the answers would go, though there are none
    if result < 0 or not count:
        return result
    answer = bytearray(entries)
    for index, (_, _, happened) in enumerate(_POLLFD.iter_unpack(buffer.take())):
        at = index * _POLLFD.size + 6
        answer[at : at + 2] = struct.pack("<h", _POLLNVAL if index in hidden else happened)
    task.memory.write(pointer, bytes(answer))
    return result + len(hidden)


@syscall(_POLL, "poll", POINTER, U32, S32, effect=Effect.GUEST)
def poll(task: Task, pointer: int, count: int, milliseconds: int) -> int:
    """Wait for events on descriptors. Quire's own are POLLNVAL, as closed ones are."""
    return _poll(task, pointer, count, _of_milliseconds(task, milliseconds))


def _of_milliseconds(task: Task, milliseconds: int) -> int | None:
    """Return the moment at which a wait ends; a negative time is without end."""
    return None if milliseconds < 0 else deadline(task, milliseconds * 1_000_000)


def _read_timeout(task: Task, pointer: int) -> int | None:
    """Return the moment at which a wait ends that may last for the time at `pointer`; None without one. EINVAL."""
    if not pointer:
        return None
    seconds, nanos = struct.unpack("<qq", task.memory.read(pointer, 16))
    if seconds < 0 or not 0 <= nanos < _SECOND:
        raise fail(errno.EINVAL)
    return deadline(task, min(seconds, 1 << 32) * _SECOND + nanos)


def _write_if_possible(task: Task, pointer: int, data: bytes) -> None:
    try:
        task.memory.write(pointer, data)
    except BadAddress:
        pass  # Linux says nothing either: a program may keep its times in memory that cannot be written


def _give_rest(task: Task, pointer: int, until: int | None, unit: int = 1) -> None:
    """Write what is left of a time, in parts of a second of `unit` ns."""
    if until is not None:
        seconds, nanos = divmod(max(until - task.kernel.clock.now(), 0), _SECOND)
        _write_if_possible(task, pointer, struct.pack("<qq", seconds, nanos // unit))


@syscall(_PPOLL, "ppoll", POINTER, U32, POINTER, POINTER, INT, effect=Effect.GUEST)
def ppoll(task: Task, pointer: int, count: int, timeout_pointer: int, mask_pointer: int, size: int) -> int:
    """Wait for events with another signal mask; what is left of the time is written back."""
    mask = read_mask(task, mask_pointer, size)
    timeout = _read_timeout(task, timeout_pointer)
    with replaced_mask(task, mask) as wait:
        result = wait(lambda: _poll(task, pointer, count, timeout))
    _give_rest(task, timeout_pointer, timeout)
    return result


def _read_set(task: Task, pointer: int, size: int) -> host.HostBuffer | None:
    """Return a select set, which ends below Quire's descriptors."""
    if not pointer:
        return None
    return host.HostBuffer(size, task.memory.read(pointer, size))


def _select_files(sets: list[bytes]) -> tuple[tuple[int, int], ...]:
    """Return what to wait for: descriptors and events of poll(2)."""
    found: dict[int, int] = {}
    for bits, events in zip(sets, (_READS, _WRITES, _OTHERS), strict=True):
        number = int.from_bytes(bits, "little")
        while number:
            lowest = number & -number
            found[lowest.bit_length() - 1] = found.get(lowest.bit_length() - 1, 0) | events
            number ^= lowest
    return tuple(sorted(found.items()))


def _select(task: Task, count: int, pointers: tuple[int, int, int], until: int | None) -> int:
    if count < 0:
        return -errno.EINVAL
    count = min(count, FIRST_OWN)
    size = (count + 63) // 64 * _WORD
    sets = [_read_set(task, pointer, size) for pointer in pointers]
    words = [bits.address if bits else 0 for bits in sets]
    asked = [bits.take() if bits else b"" for bits in sets]
    task.kernel.files.heed(task)
    result = host.call(_PSELECT6, count, *words, _NOW.address, 0)
    result = _or_wait(task, result, _select_files(asked), until)
    if result >= 0:
        for pointer, bits in zip(pointers, sets, strict=True):
            if bits is not None and size:
                task.memory.write(pointer, bits.take())
    return result


@syscall(23, "select", S32, POINTER, POINTER, POINTER, POINTER, effect=Effect.GUEST)
def select(task: Task, count: int, reads: int, writes: int, others: int, timeout_pointer: int) -> int:
    """Wait for descriptors in three sets; what is left of the time is written back."""
    until = None
    if timeout_pointer:
        seconds, micros = struct.unpack("<qq", task.memory.read(timeout_pointer, 16))
        if seconds < 0 or micros < 0:
            return -errno.EINVAL
        until = deadline(task, min(seconds, 1 << 32) * _SECOND + min(micros, 1 << 52) * 1000)
    result = _select(task, count, (reads, writes, others), until)
    _give_rest(task, timeout_pointer, until, 1000)
    return result


@syscall(_PSELECT6, "pselect6", S32, POINTER, POINTER, POINTER, POINTER, POINTER, effect=Effect.GUEST)
def pselect6(
    task: Task,
    count: int,
    reads: int,
    writes: int,
    others: int,
    timeout_pointer: int,
    mask_argument: int,
) -> int:
    """Wait for descriptors in three sets with another signal mask."""
    mask = None
    if mask_argument:
        mask_pointer, size = struct.unpack("<QQ", task.memory.read(mask_argument, 16))
        mask = read_mask(task, mask_pointer, size)
    timeout = _read_timeout(task, timeout_pointer)
    with replaced_mask(task, mask) as wait:
        result = wait(lambda: _select(task, count, (reads, writes, others), timeout))
    _give_rest(task, timeout_pointer, timeout)
    return result


@syscall(_EPOLL_CTL, "epoll_ctl", FD, S32, FD, POINTER, effect=Effect.DESCRIPTION)
def epoll_ctl(task: Task, descriptor: int, operation: int, target: int, pointer: int) -> int:
    """Change what an epoll set waits for."""
    task.kernel.files.regrouped.wake()
    if operation == _EPOLL_CTL_DEL:
        return host.call(_EPOLL_CTL, descriptor, operation, target)
    event = host.HostBuffer(_EVENT, task.memory.read(pointer, _EVENT))
    return host.call(_EPOLL_CTL, descriptor, operation, target, event.address)


def _or_wait_for_set(task: Task, result: int, descriptor: int, until: int | None) -> int:
    """Do as :func:`_or_wait` does for an epoll set; of one that the kernel plays alone it knows when it is ready."""
    played = all_played(task, descriptor) if not result and task.kernel.files else None
    try:
        return _or_wait(task, result, () if played else ((descriptor, _READS),), until)
    except Blocks as wait:
        if played:
            regrouped = task.kernel.files.regrouped
            wait.queues = tuple((queue, 0) for queue in (regrouped, *(file.queue for file in played)))
        raise


def _epoll_wait(task: Task, descriptor: int, pointer: int, count: int, until: int | None) -> int:
    if not 0 < count <= _EVENTS_MAX:
        return host.call(_EPOLL_PWAIT, descriptor, 0, count, 0, 0, 8)  # which says what is wrong
    count = min(count, _MAX_EVENTS)
    events = host.HostBuffer(count * _EVENT)
    task.kernel.files.heed(task)
    result = host.call(_EPOLL_PWAIT, descriptor, events.address, count, 0, 0, 8)
    result = _or_wait_for_set(task, result, descriptor, until)
    if result > 0:
        task.memory.write(pointer, events.take(result * _EVENT))
    return result


@syscall(232, "epoll_wait", FD, POINTER, S32, S32, effect=Effect.DESCRIPTION)
def epoll_wait(task: Task, descriptor: int, pointer: int, count: int, milliseconds: int) -> int:
    """Wait for events of an epoll set."""
    return _epoll_wait(task, descriptor, pointer, count, _of_milliseconds(task, milliseconds))


@syscall(_EPOLL_PWAIT, "epoll_pwait", FD, POINTER, S32, S32, POINTER, INT, effect=Effect.DESCRIPTION)
def epoll_pwait(
    task: Task,
    descriptor: int,
    pointer: int,
    count: int,
    milliseconds: int,
    mask_pointer: int,
    size: int,
) -> int:
    """Wait for events of an epoll set with another signal mask."""
    mask = read_mask(task, mask_pointer, size)
    with replaced_mask(task, mask) as wait:
        return wait(
            lambda: _epoll_wait(task, descriptor, pointer, count, _of_milliseconds(task, milliseconds))
        )


@syscall(_EPOLL_PWAIT2, "epoll_pwait2", FD, POINTER, S32, POINTER, POINTER, INT, effect=Effect.DESCRIPTION)
def epoll_pwait2(
    task: Task, descriptor: int, pointer: int, count: int, timeout_pointer: int, mask_pointer: int, size: int
) -> int:
    """Wait for events of an epoll set for a time in nanoseconds, with another signal mask."""
    timeout = _read_timeout(task, timeout_pointer)
    mask = read_mask(task, mask_pointer, size)
    with replaced_mask(task, mask) as wait:
        return wait(lambda: _epoll_wait(task, descriptor, pointer, count, timeout))
