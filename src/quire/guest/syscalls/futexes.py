"""futex and its relatives: waiting on a word of memory, waking, and what a thread leaves when it ends.

Models kernel/futex of Linux. Every word is read after its page is there, and with the queueing no other task runs.
"""

import errno
import struct

from quire.arch import LOW32
from quire.guest.kernel.futexes import ANY, Key
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, fail, signed32
from quire.guest.syscalls.state import thread_state
from quire.guest.syscalls.table import Result, syscall
from quire.guest.syscalls.waiting import deadline

__all__ = ["leave_memory"]

_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAKE_OP, _LOCK_PI = 0, 1, 3, 4, 5, 6
_UNLOCK_PI, _TRYLOCK_PI, _WAIT_BITSET, _WAKE_BITSET = 7, 8, 9, 10
_WAIT_REQUEUE_PI, _CMP_REQUEUE_PI, _LOCK_PI2 = 11, 12, 13
_REALTIME, _PRIVATE = 256, 128
_SECOND = 1_000_000_000
_ROBUST_HEAD, _ROBUST_LIMIT = 24, 2048
_WAITERS, _OWNER_DIED, _TID = 0x8000_0000, 0x4000_0000, 0x3FFF_FFFF
_WAITV = struct.Struct("<QQII")
_MOST_WAITV = 128
#: Above the bits by which others are woken: the number of a task that waits to be moved to a lock.
_OF_REQUEUE = 32
_SIZE_U32, _WAITV_PRIVATE = 2, 128


def _key(task: Task, address: int, private: bool) -> Key:
    """Return what a word is known by. EINVAL, EFAULT."""
    if address % 4:
        raise fail(errno.EINVAL)
    if address + 4 > TASK_SIZE:
        raise BadAddress(address)
    if private:
        return task.space, address
    task.memory.read_u32(address)  # what others could share is found by its page: EFAULT without one
    vma = task.space.areas.find(address)
    if vma is None or not vma.shared or vma.backing is None:
        return task.space, address
    return ("shared", *vma.backing.key), vma.offset_at(address)


def _timeout(task: Task, operation: int, pointer: int, *, absolute: bool) -> int | None:
    """Return the moment at which a wait ends, on CLOCK_MONOTONIC; None for never."""
    if not pointer:
        return None
    seconds: int
    nanos: int
    seconds, nanos = struct.unpack("<qq", task.memory.read(pointer, 16))
    if seconds < 0 or not 0 <= nanos < _SECOND:
        raise fail(errno.EINVAL)
    moment = min(seconds, 1 << 32) * _SECOND + nanos
    if not absolute:
        return deadline(task, moment)
    if operation & _REALTIME:
        clock = task.kernel.clock
        until: int = task.kept.setdefault("until", moment - clock.now(0) + clock.now())
        return until
    return moment


def _wait(task: Task, key: Key, expected: int, address: int, until: int | None, bits: int) -> Result:
    if "waits" not in task.kept:
        if task.memory.read_u32(address) != expected:
            return -errno.EAGAIN
        task.kept["waits"] = 1
    if until is not None and task.kernel.clock.now() >= until:
        return -errno.ETIMEDOUT
    timed = until is not None
    queues = ((task.kernel.futexes.queue(key), bits),)
    raise Blocks(queues=queues, until=until, timed=timed, answer=0)


def _wake_op(task: Task, keys: tuple[Key, Key], counts: tuple[int, int], target: int, coded: int) -> int:
    """Change the second word, wake those of the first, and of the second if it was as `coded` compares."""
    operation, comparison = coded >> 28 & 0xF, coded >> 24 & 0xF
    argument, other = signed32(coded << 8) >> 20, signed32(coded << 20) >> 20
    if operation & 8:
        argument = 1 << (argument & 31)
    old = task.memory.read_u32(target)
    changed = {
        0: argument,
        1: old + argument,
        2: old | argument,
        3: old & ~argument,
        4: old ^ argument,
    }.get(operation & 7)
    if changed is None:
        return -errno.ENOSYS
    task.memory.write_u32(target, changed)
    was = signed32(old)
    compares = (was == other, was != other, was < other, was <= other, was > other, was >= other)
    if comparison >= len(compares):
        return -errno.ENOSYS
    futexes = task.kernel.futexes
    woken = futexes.wake(keys[0], counts[0])
    return woken + (futexes.wake(keys[1], counts[1]) if compares[comparison] else 0)


def _lock_pi(task: Task, key: Key, address: int, until: int | None, *, tries: bool) -> Result:
    """Take a lock that knows its owner; who has it hands it on."""
    word = task.memory.read_u32(address)
    owner = word & _TID
    if owner == task.tid:
        return -errno.EDEADLK
    if not owner:
        task.memory.write_u32(address, task.tid | word & (_OWNER_DIED | _WAITERS))
        return 0
    if tries:
        return -errno.EAGAIN
    if task.kernel.task(owner) is None:
        return -errno.ESRCH
    if until is not None and task.kernel.clock.now() >= until:
        return -errno.ETIMEDOUT
    task.memory.write_u32(address, word | _WAITERS)
    # Who hands it on has the word say so already.
    raise Blocks(queues=((task.kernel.futexes.queue(key), task.tid),), until=until, answer=0)


def _hand_on(task: Task, key: Key, address: int, flags: int = 0) -> None:
    """Give a lock to the task that has waited the longest, or to nobody."""
    queue = task.kernel.futexes.queue(key)
    heirs = list(queue)
    if not heirs:
        task.memory.write_u32(address, flags)
        return
    left = _WAITERS if len(heirs) > 1 else 0
    task.memory.write_u32(address, heirs[0].tag | left | flags)
    queue.wake(1)


def _unlock_pi(task: Task, key: Key, address: int) -> int:
    if task.memory.read_u32(address) & _TID != task.tid:
        return -errno.EPERM
    _hand_on(task, key, address)
    return 0


def _wait_requeue_pi(
    task: Task, keys: tuple[Key, Key], expected: int, address: int, until: int | None
) -> Result:
    """Wait on a word until somebody has the lock of the second key be this task's, perhaps after it waited there."""
    if keys[0] == keys[1]:
        return -errno.EINVAL
    if "waits" in task.kept:
        if until is not None and task.kernel.clock.now() >= until:
            return -errno.ETIMEDOUT
        return -errno.EAGAIN  # a signal came: whoever moved it on changed the word
    if task.memory.read_u32(address) != expected:
        return -errno.EAGAIN
    task.kept["waits"] = 1
    # Who wakes it has the lock's word say already that it is this task's.
    queues = ((task.kernel.futexes.queue(keys[0]), task.tid << _OF_REQUEUE),)
    raise Blocks(queues=queues, until=until, answer=0)


def _requeue_pi(task: Task, keys: tuple[Key, Key], lock: int, most: int) -> int:
    """Give a lock to who has waited the longest on a word, or have him wait for it, and up to `most` others too."""
    futexes = task.kernel.futexes
    queue, target = futexes.queue(keys[0]), futexes.queue(keys[1])
    waiters = list(queue)[: most + 1]
    if any(not one.tag >> _OF_REQUEUE for one in waiters):
        return -errno.EINVAL  # it waits for no lock
    if not waiters:
        return 0
    word = task.memory.read_u32(lock)
    owner, moved = word & _TID, waiters
    if owner and task.kernel.task(owner) is None:
        return -errno.ESRCH
    if owner in (one.tag >> _OF_REQUEUE for one in waiters):
        return -errno.EDEADLK
    if not owner:
        moved = waiters[1:]
        word = waiters[0].tag >> _OF_REQUEUE | word & (_OWNER_DIED | _WAITERS)
    task.memory.write_u32(lock, word | (_WAITERS if moved else 0))
    if not owner:
        queue.wake(1, lambda one: one is waiters[0])
    for one in moved:
        queue.remove(one)
        one.tag >>= _OF_REQUEUE
        target.add(one)
    return len(waiters)


@syscall(202, "futex", POINTER, U32, U32, INT, POINTER, U32, effect=Effect.PLAYED, restart=True)
def futex(
    task: Task, address: int, operation: int, value: int, timeout: int, other: int, third: int
) -> Result:
    """Wait on a word of memory, wake who waits, hand waiters and locks on."""
    command, private = operation & 0x7F, bool(operation & _PRIVATE)
    if operation & _REALTIME and command not in (_WAIT, _WAIT_BITSET, _LOCK_PI2, _WAIT_REQUEUE_PI):
        return -errno.ENOSYS
    futexes = task.kernel.futexes
    if command in (_WAIT, _WAIT_BITSET):
        bits = third if command == _WAIT_BITSET else ANY
        if not bits:
            return -errno.EINVAL
        until = _timeout(task, operation, timeout, absolute=command == _WAIT_BITSET)
        return _wait(task, _key(task, address, private), value, address, until, bits)
    key = _key(task, address, private)
    if command in (_WAKE, _WAKE_BITSET):
        bits = third if command == _WAKE_BITSET else ANY
        return futexes.wake(key, max(signed32(value), 1), bits) if bits else -errno.EINVAL
    if command in (_REQUEUE, _CMP_REQUEUE):
        counts = signed32(value), signed32(timeout)
        if min(counts) < 0:
            return -errno.EINVAL
        target = _key(task, other, private)
        if command == _CMP_REQUEUE and task.memory.read_u32(address) != third:
            return -errno.EAGAIN
        woken, moved = futexes.requeue(key, counts[0], target, counts[1])
        return woken + moved
    if command == _WAIT_REQUEUE_PI:
        until = _timeout(task, operation, timeout, absolute=True)
        return _wait_requeue_pi(task, (key, _key(task, other, private)), value, address, until)
    if command == _CMP_REQUEUE_PI:
        target = _key(task, other, private)
        if signed32(value) != 1 or signed32(timeout) < 0 or key == target:
            return -errno.EINVAL
        if task.memory.read_u32(address) != third:
            return -errno.EAGAIN
        return _requeue_pi(task, (key, target), other, signed32(timeout))
    if command == _WAKE_OP:
        keys = key, _key(task, other, private)
        return _wake_op(task, keys, (signed32(value), signed32(timeout)), other, third)
    if command in (_LOCK_PI, _LOCK_PI2, _TRYLOCK_PI):
        rule = operation | (_REALTIME if command == _LOCK_PI else 0)
        until = None if command == _TRYLOCK_PI else _timeout(task, rule, timeout, absolute=True)
        return _lock_pi(task, key, address, until, tries=command == _TRYLOCK_PI)
    return _unlock_pi(task, key, address) if command == _UNLOCK_PI else -errno.ENOSYS


@syscall(449, "futex_waitv", POINTER, U32, U32, POINTER, S32, effect=Effect.PLAYED, restart=True)
def futex_waitv(task: Task, pointer: int, count: int, flags: int, timeout: int, clock: int) -> Result:
    """Wait on several words; return which was woken."""
    if flags or not 0 < count <= _MOST_WAITV or clock not in (0, 1):
        return -errno.EINVAL
    woken = [number for number, waiter in enumerate(task.waiters) if waiter.woken]
    if woken:
        return woken[0]
    until = _timeout(task, 0 if clock else _REALTIME, timeout, absolute=True)
    queues = []
    for value, address, how, reserved in _WAITV.iter_unpack(task.memory.read(pointer, count * _WAITV.size)):
        if reserved or how & ~(_SIZE_U32 | _WAITV_PRIVATE) or not how & _SIZE_U32:
            return -errno.EINVAL
        key = _key(task, address, bool(how & _WAITV_PRIVATE))
        if "waits" not in task.kept and task.memory.read_u32(address) != value & LOW32:
            return -errno.EAGAIN
        queues.append((task.kernel.futexes.queue(key), ANY))
    task.kept["waits"] = 1
    if until is not None and task.kernel.clock.now() >= until:
        return -errno.ETIMEDOUT
    raise Blocks(queues=tuple(queues), until=until)


@syscall(273, "set_robust_list", POINTER, INT, effect=Effect.PLAYED)
def set_robust_list(task: Task, head: int, size: int) -> int:
    """Remember the list of robust mutexes."""
    if size != _ROBUST_HEAD:
        return -errno.EINVAL
    thread_state(task).robust_list = (head, size)
    return 0


@syscall(274, "get_robust_list", S32, POINTER, POINTER, effect=Effect.PLAYED)
def get_robust_list(task: Task, number: int, head: int, size: int) -> int:
    """Return the list of robust mutexes of a thread of this process: others are EPERM."""
    one = task.kernel.task(number or task.tid)
    if one is None:
        return -errno.ESRCH
    if one.process is not task.process:
        return -errno.EPERM
    pointer, length = thread_state(one).robust_list
    task.memory.write_u64(size, length)
    task.memory.write_u64(head, pointer)
    return 0


def leave_memory(task: Task) -> None:
    """A thread ends: hand its robust locks on, clear its number where it asked for that, and wake who waits there."""
    state = thread_state(task)
    try:
        _leave_robust_locks(task, state.robust_list[0])
    except BadAddress:
        pass
    pointer, state.clear_child_tid = state.clear_child_tid, 0
    if pointer:
        try:
            task.memory.write_u32(pointer, 0)
            for private in (True, False):
                task.kernel.futexes.wake(_key(task, pointer, private), 1)
        except (BadAddress, OSError):
            pass  # the program has unmapped it: nobody looks there


def _leave_robust_locks(task: Task, head: int) -> None:
    if not head:
        return
    following, offset, pending = struct.unpack("<QqQ", task.memory.read(head, _ROBUST_HEAD))
    for _ in range(_ROBUST_LIMIT):  # a hostile list may be a ring
        if following & ~1 == head:
            break
        entry, following = following, task.memory.read_u64(following & ~1)
        if entry & ~1 != pending & ~1:
            _owner_died(task, (entry & ~1) + offset, bool(entry & 1))
    if pending & ~1:
        _owner_died(task, (pending & ~1) + offset, bool(pending & 1))


def _owner_died(task: Task, address: int, pi: bool) -> None:
    word = task.memory.read_u32(address)
    if word & _TID != task.tid:
        return
    for private in (True, False):
        key = _key(task, address, private)
        if pi and len(task.kernel.futexes.queue(key)):
            _hand_on(task, key, address, _OWNER_DIED)
            return
    task.memory.write_u32(address, word & _WAITERS | _OWNER_DIED)
    if word & _WAITERS:
        for private in (True, False):
            task.kernel.futexes.wake(_key(task, address, private), 1)
