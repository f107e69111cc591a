"""System V semaphores, of the guest's own kernel: semget, semop, semtimedop, semctl."""

import errno
import struct
from array import array

from quire.arch import LOW32
from quire.guest.kernel.ipc import SEMMNI
from quire.guest.kernel.ipc_objects import READ, WRITE, refuse
from quire.guest.kernel.semaphores import SEMVMX, Operation, SemSet, SemSleeper
from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ipc import INFO, REMOVE, SET, STAT, caller, describe, origin, owned, sleep, slept
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, signed32
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.waiting import deadline

#: SEMMSL, SEMOPM, SEMMNS.
_MOST_IN_SET, _MOST_OPERATIONS, _MOST = 32000, 500, 1_024_000_000
_BYTES = 8  # of the host, that a semaphore takes
_GETPID, _GETVAL, _GETALL, _GETNCNT, _GETZCNT, _SETVAL, _SETALL = 11, 12, 13, 14, 15, 16, 17
_SEM_STAT, _SEM_INFO, _STAT_ANY = 18, 19, 20
_OPERATION = struct.Struct("<Hhh")
_SECOND = 1_000_000_000
_SET_BYTES, _PERM_BYTES = 104, 48


def _make(task: Task, key: int, count: int, flags: int) -> SemSet:
    """Return a new set, all of it 0. EINVAL for none, ENOSPC, ENOMEM."""
    ipc = task.kernel.ipc
    if not count:
        raise refuse(errno.EINVAL)
    if sum(len(one.values) for one in ipc.semaphores) + count > _MOST:
        raise refuse(errno.ENOSPC)
    if not ipc.hold(count * _BYTES):
        raise refuse(errno.ENOMEM)
    return SemSet(
        **origin(task, key, flags),
        values=array("i", bytes(4 * count)),
        pids=array("i", bytes(4 * count)),
    )


@syscall(64, "semget", S32, S32, S32, effect=Effect.PLAYED)
def semget(task: Task, key: int, count: int, flags: int) -> int:
    """Return the set for a key, or a new one."""
    if not 0 <= count <= _MOST_IN_SET:
        return -errno.EINVAL

    def check(known: SemSet) -> None:
        if count > len(known.values):
            raise refuse(errno.EINVAL)

    sets = task.kernel.ipc.semaphores
    return sets.get(key, flags, caller(task), lambda: _make(task, key, count, flags), check)


def _read_operations(task: Task, pointer: int, count: int) -> tuple[Operation, ...]:
    if not count:
        raise refuse(errno.EINVAL)
    if count > _MOST_OPERATIONS:
        raise refuse(errno.E2BIG)
    data = task.memory.read(pointer, count * _OPERATION.size)
    return tuple(Operation(*words) for words in _OPERATION.iter_unpack(data))


def _operate(task: Task, ident: int, operations: tuple[Operation, ...], until: int | None) -> int:
    ipc = task.kernel.ipc
    sleeper = slept(task)
    if isinstance(sleeper, SemSleeper) and sleeper.result is not None:
        return sleeper.result
    if ident < 0:
        return -errno.EINVAL
    try:
        found = ipc.semaphores.find(ident)
    except OSError:
        if sleeper is not None:
            return -errno.EIDRM
        raise
    if any(one.number >= len(found.values) for one in operations):
        return -errno.EFBIG
    alters = any(one.change for one in operations)
    found.check(WRITE if alters else READ, caller(task))
    undo, pid = ipc.undo(task.process), task.process.pid
    result = found.apply(operations, pid, undo)
    if isinstance(result, Operation):
        if not isinstance(sleeper, SemSleeper):
            sleeper = SemSleeper(operations=operations, pid=pid, undo=undo, at=result)
        found.sleepers.add(sleeper)
        raise sleep(task, sleeper, until)
    if not result:
        found.used = ipc.now()
        if alters:
            found.serve(ipc.now())
    return result


@syscall(65, "semop", S32, POINTER, U32, effect=Effect.PLAYED)
def semop(task: Task, ident: int, pointer: int, count: int) -> int:
    """Change semaphores of a set, all or none, or wait until that can be."""
    return _operate(task, ident, _read_operations(task, pointer, count), None)


@syscall(220, "semtimedop", S32, POINTER, U32, POINTER, effect=Effect.PLAYED)
def semtimedop(task: Task, ident: int, pointer: int, count: int, timeout: int) -> int:
    """Do as :func:`semop` does, and wait for so long at most: EAGAIN."""
    until = None
    if timeout:
        seconds, nanos = struct.unpack("<qq", task.memory.read(timeout, 16))
        operations = _read_operations(task, pointer, count)
        if seconds < 0 or not 0 <= nanos < _SECOND:
            return -errno.EINVAL
        until = deadline(task, min(seconds, 1 << 32) * _SECOND + nanos)
        return _operate(task, ident, operations, until)
    return _operate(task, ident, _read_operations(task, pointer, count), until)


def _structure(one: SemSet) -> bytes:
    """Return struct semid64_ds."""
    return one.permissions() + struct.pack("<7Q", one.used, 0, one.changed, 0, len(one.values), 0, 0)


def _info(task: Task, command: int) -> bytes:
    """Return struct seminfo: limits, or what is there."""
    sets = task.kernel.ipc.semaphores
    size, most = 20, SEMVMX
    if command == _SEM_INFO:
        size, most = len(sets), sum(len(one.values) for one in sets)
    words = (_MOST, SEMMNI, _MOST, _MOST, _MOST_IN_SET, _MOST_OPERATIONS, _MOST_OPERATIONS)
    return struct.pack("<10i", *words, size, SEMVMX, most)


def _look(task: Task, found: SemSet, number: int, command: int, pointer: int) -> int:
    found.check(READ, caller(task))
    if command == _GETALL:
        task.memory.write(pointer, array("H", found.values).tobytes())
        return 0
    if not 0 <= number < len(found.values):
        return -errno.EINVAL
    if command == _GETVAL:
        return found.values[number]
    if command == _GETPID:
        return found.pids[number]
    return found.waiting(number, for_zero=command == _GETZCNT)


def _set(task: Task, ident: int, number: int, command: int, argument: int) -> int:
    ipc = task.kernel.ipc
    value = signed32(argument)
    if command == _SETVAL and not 0 <= value <= SEMVMX:
        return -errno.ERANGE
    found = ipc.semaphores.find(ident)
    if command == _SETVAL and not 0 <= number < len(found.values):
        return -errno.EINVAL
    found.check(WRITE, caller(task))
    values = {number: value}
    if command == _SETALL:
        given = array("H", task.memory.read(argument, 2 * len(found.values)))
        if max(given) > SEMVMX:
            return -errno.ERANGE
        values = dict(enumerate(given))
    found.set_values(values, task.process.pid, ipc.undos(), ipc.now())
    return 0


def _remove(task: Task, found: SemSet) -> None:
    ipc = task.kernel.ipc
    ipc.semaphores.remove(found)
    ipc.give_back(len(found.values) * _BYTES)
    for undo in ipc.undos():
        undo.pop(found, None)
    found.sleepers.wake_all(-errno.EIDRM)


@syscall(66, "semctl", S32, S32, S32, INT, effect=Effect.PLAYED)
def semctl(task: Task, ident: int, number: int, command: int, argument: int) -> int:
    """Look at semaphores, set or remove them; or look at all."""
    ipc = task.kernel.ipc
    sets = ipc.semaphores
    if ident < 0:
        return -errno.EINVAL
    if command in (INFO, _SEM_INFO):
        task.memory.write(argument, _info(task, command))
        return sets.highest
    if command in (STAT, _SEM_STAT, _STAT_ANY):
        index, anybody = command != STAT, command == _STAT_ANY
        return describe(task, sets, ident, argument, _structure, by_index=index, by_anybody=anybody)
    if command in (_GETALL, _GETVAL, _GETPID, _GETNCNT, _GETZCNT):
        return _look(task, sets.find(ident), number, command, argument)
    if command in (_SETVAL, _SETALL):
        return _set(task, ident, number, command, argument & LOW32 if command == _SETVAL else argument)
    if command == REMOVE:
        _remove(task, owned(task, sets, ident))
        return 0
    if command == SET:
        words = task.memory.read(argument, _SET_BYTES)
        owned(task, sets, ident).change(words[:_PERM_BYTES], ipc.now())
        return 0
    return -errno.EINVAL
