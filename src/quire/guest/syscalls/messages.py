"""System V messages, of the guest's own kernel: msgget, msgsnd, msgrcv, msgctl."""

import errno
import struct

from quire.guest.kernel.ipc import MESSAGE_BYTES, MSGMNI
from quire.guest.kernel.ipc_objects import IPC_NOWAIT, READ, WRITE, refuse
from quire.guest.kernel.messages import Message, MessageQueue, Receiver, Wish
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.ipc import INFO, REMOVE, SET, STAT, caller, describe, origin, owned, sleep, slept
from quire.guest.syscalls.kinds import POINTER, S32, S64
from quire.guest.syscalls.table import syscall

#: MSGMAX and MSGMNB in bytes; MSGPOOL, MSGSSZ, MSGSEG.
_MOST, _QUEUE, _POOL, _UNIT, _UNITS = 8192, 16384, 512_000, 16, 0xFFFF
_CUT, _EXCEPT, _COPY = 0o10000, 0o20000, 0o40000
_MSG_STAT, _MSG_INFO, _STAT_ANY = 11, 12, 13
_QUEUE_BYTES, _PERM_BYTES, _LIMIT_AT = 120, 48, 88


def _make(task: Task, key: int, flags: int) -> MessageQueue:
    return MessageQueue(**origin(task, key, flags), limit=_QUEUE)


@syscall(68, "msgget", S32, S32, effect=Effect.PLAYED)
def msgget(task: Task, key: int, flags: int) -> int:
    """Return the queue for a key, or a new one."""
    queues = task.kernel.ipc.queues
    return queues.get(key, flags, caller(task), lambda: _make(task, key, flags), lambda known: None)


def _found(task: Task, ident: int) -> MessageQueue:
    """Return a queue. EINVAL; EIDRM for one that went while the call waited for it."""
    try:
        return task.kernel.ipc.queues.find(ident)
    except OSError:
        raise refuse(errno.EIDRM if task.kept else errno.EINVAL) from None


@syscall(69, "msgsnd", S32, POINTER, S64, S32, effect=Effect.PLAYED)
def msgsnd(task: Task, ident: int, pointer: int, size: int, flags: int) -> int:
    """Send a message, or wait until there is room for it."""
    ipc = task.kernel.ipc
    kind = struct.unpack("<q", task.memory.read(pointer, 8))[0]
    if not 0 <= size <= _MOST or ident < 0 or kind < 1:
        return -errno.EINVAL
    text = task.memory.read(pointer + 8, size) if size else b""
    queue = _found(task, ident)
    queue.check(WRITE, caller(task))
    if not queue.fits(size):
        if flags & IPC_NOWAIT:
            return -errno.EAGAIN
        task.kept["waits"] = 1
        raise Blocks(queues=((queue.room, 0),))
    if not ipc.hold(size + MESSAGE_BYTES):
        return -errno.ENOMEM
    if not queue.put(Message(kind, text), task.process.pid, ipc.now()):
        ipc.give_back(size + MESSAGE_BYTES)
    return 0


def _receive(task: Task, ident: int, wish: Wish, flags: int) -> Message:
    """Return a message, or wait for one. Raises OSError, Blocks."""
    ipc = task.kernel.ipc
    sleeper = slept(task)
    if isinstance(sleeper, Receiver) and sleeper.result is not None:
        if sleeper.message is None:
            raise refuse(-sleeper.result)
        return sleeper.message
    queue = _found(task, ident)
    queue.check(READ, caller(task))
    message = queue.take(wish, task.process.pid, ipc.now())
    if message is not None:
        ipc.give_back(len(message.text) + MESSAGE_BYTES)
        return message
    if flags & IPC_NOWAIT:
        raise refuse(errno.ENOMSG)
    if not isinstance(sleeper, Receiver):
        sleeper = Receiver(wish=wish, pid=task.process.pid)
    queue.receivers.add(sleeper)
    raise sleep(task, sleeper)


def _copy(task: Task, ident: int, wish: Wish) -> Message:
    """Return the message with a number in the queue, which nobody notices. Raises OSError."""
    queue = _found(task, ident)
    queue.check(READ, caller(task))
    message = queue.copy(wish.kind, wish)
    if message is None:
        raise refuse(errno.ENOMSG)
    return message


@syscall(70, "msgrcv", S32, POINTER, S64, S64, S32, effect=Effect.PLAYED)
def msgrcv(task: Task, ident: int, pointer: int, size: int, kind: int, flags: int) -> int:
    """Take a message of a type, or wait for one, or copy one by its number; return how long its text is."""
    if ident < 0 or size < 0:
        return -errno.EINVAL
    wish = Wish(kind, bool(flags & _EXCEPT), size, bool(flags & _CUT))
    if flags & _COPY:  # what checkpoints use
        if not flags & IPC_NOWAIT or wish.excepted:
            return -errno.EINVAL
        message = _copy(task, ident, wish)
    else:
        message = _receive(task, ident, wish, flags)
    text = message.text[:size]
    task.memory.write(pointer, struct.pack("<q", message.kind) + text)
    return len(text)


def _structure(one: MessageQueue) -> bytes:
    """Return struct msqid64_ds."""
    times = one.sent, one.taken, one.changed
    rest = one.bytes, len(one.messages), one.limit, one.sender, one.taker
    return one.permissions() + struct.pack("<6QIIQQ", *times, *rest, 0, 0)


def _info(task: Task, command: int) -> bytes:
    """Return struct msginfo: limits, or what is there."""
    queues = task.kernel.ipc.queues
    pool, entries, kept = _POOL, _QUEUE, _QUEUE
    if command == _MSG_INFO:
        pool, kept = len(queues), sum(one.bytes for one in queues)
        entries = sum(len(one.messages) for one in queues)
    return struct.pack("<7iHxx", pool, entries, _MOST, _QUEUE, MSGMNI, _UNIT, kept, _UNITS)


def _change(task: Task, ident: int, words: bytes) -> None:
    """Take owner, mode and limit of a queue; more than MSGMNB is EPERM but for user 0."""
    ipc = task.kernel.ipc
    found = owned(task, ipc.queues, ident)
    (limit,) = struct.unpack_from("<Q", words, _LIMIT_AT)
    if limit > _QUEUE and not capable(task):
        raise refuse(errno.EPERM)
    found.change(words[:_PERM_BYTES], ipc.now())
    found.limit = limit
    found.room.wake()


def _remove(task: Task, found: MessageQueue) -> None:
    ipc = task.kernel.ipc
    ipc.queues.remove(found)
    ipc.give_back(found.bytes + len(found.messages) * MESSAGE_BYTES)
    found.end()


@syscall(71, "msgctl", S32, S32, POINTER, effect=Effect.PLAYED)
def msgctl(task: Task, ident: int, command: int, pointer: int) -> int:
    """Look at a queue, change it or remove it; or look at all."""
    queues = task.kernel.ipc.queues
    if ident < 0 or command < 0:
        return -errno.EINVAL
    if command in (INFO, _MSG_INFO):
        task.memory.write(pointer, _info(task, command))
        return queues.highest
    if command in (STAT, _MSG_STAT, _STAT_ANY):
        index, anybody = command != STAT, command == _STAT_ANY
        return describe(task, queues, ident, pointer, _structure, by_index=index, by_anybody=anybody)
    if command == SET:
        _change(task, ident, task.memory.read(pointer, _QUEUE_BYTES))
        return 0
    if command == REMOVE:
        _remove(task, owned(task, queues, ident))
        return 0
    return -errno.EINVAL
