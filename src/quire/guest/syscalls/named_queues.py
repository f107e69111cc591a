"""POSIX message queues, of the guest's own kernel: mq_open and its relatives."""

import errno
import os
import struct

from quire.arch import LOW32
from quire.guest.kernel.actions import SIGNAL_COUNT
from quire.guest.kernel.ipc import MESSAGE_BYTES
from quire.guest.kernel.ipc_objects import READ, WRITE, refuse
from quire.guest.kernel.named_queues import (
    NamedQueue,
    NamedReceiver,
    NamedSender,
    Notification,
    NotifyFile,
    QueueFile,
)
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.ipc import caller, sleep, slept
from quire.guest.syscalls.kinds import FD, INT, NAME, OPEN_FD, POINTER, S32, U32, fail
from quire.guest.syscalls.played import open_played
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.waiting import is_blocking

_NAME_MAX = 255
#: Messages and bytes of one by default and at most, for all and for user 0; queues; RLIMIT_MSGQUEUE.
_MESSAGES, _SIZE, _MOST_MESSAGES, _MOST_SIZE = 10, 8192, 65536, 16 << 20
_QUEUES, _LIMIT = 256, 12
_PRIORITIES = 32768
_ATTRIBUTES = struct.Struct("<8q")
_SIGEVENT = struct.Struct("<Qii")  # value, signal, how
_SIGEVENT_BYTES = 64
_SIGNAL, _NONE, _THREAD = 0, 1, 2
_SECOND = 1_000_000_000
_FCNTL, _GETFL, _SETFL = 72, 3, 4
_COOKIE_BYTES = 32
_GETSOCKOPT, _SOL_SOCKET, _SO_DOMAIN, _NETLINK = 55, 1, 39, 16


def _check_name(name: bytes) -> None:
    if not name:
        raise fail(errno.ENOENT)
    if b"/" in name or name in (b".", b".."):
        raise fail(errno.EACCES)
    if len(name) > _NAME_MAX:
        raise fail(errno.ENAMETOOLONG)


def _make(task: Task, name: bytes, mode: int, attributes: int) -> NamedQueue:
    """Return a new queue. EINVAL for its sizes, EMFILE over RLIMIT_MSGQUEUE, ENOSPC for too many."""
    most, size = _MESSAGES, _SIZE
    if attributes:
        most, size = _ATTRIBUTES.unpack(task.memory.read(attributes, _ATTRIBUTES.size))[1:3]
        bounds = (_MOST_MESSAGES, _MOST_SIZE) if capable(task) else (_MESSAGES, _SIZE)
        if not 0 < most <= bounds[0] or not 0 < size <= bounds[1]:
            raise fail(errno.EINVAL)
    ipc, who = task.kernel.ipc, caller(task)
    if len(ipc.named) >= _QUEUES and not capable(task):
        raise fail(errno.ENOSPC)
    users = who.users.fs, who.groups.fs
    made = NamedQueue(
        key=0,
        uid=users[0],
        gid=users[1],
        creator=users,
        mode=mode & 0o777 & ~group_state(task).umask,
        changed=ipc.now(),
        most=most,
        size=size,
        name=name,
    )
    task.kernel.files.forget_closed(task.process.seat)
    held = sum(one.cost for one in ipc.queues_there() if one.uid == made.uid)
    if held + made.cost > group_state(task).limits[_LIMIT][0]:
        raise fail(errno.EMFILE)
    return made


@syscall(240, "mq_open", NAME, S32, U32, POINTER, effect=Effect.PLAYED)
def mq_open(task: Task, name: bytes, flags: int, mode: int, attributes: int) -> int:
    """Open a queue by its name, or make it."""
    way = flags & os.O_ACCMODE
    if way == os.O_ACCMODE:
        return -errno.EINVAL
    _check_name(name)
    reads, writes = way != os.O_WRONLY, way != os.O_RDONLY
    named = task.kernel.ipc.named
    queue = named.get(name)
    if queue is None:
        if not flags & os.O_CREAT:
            return -errno.ENOENT
        queue = _make(task, name, mode, attributes)
    elif flags & os.O_CREAT and flags & os.O_EXCL:
        return -errno.EEXIST
    else:
        queue.check(READ * reads | WRITE * writes, caller(task))
    file = QueueFile(queue, reads=reads, writes=writes)
    descriptor = open_played(task, file, flags | os.O_CLOEXEC, writable=True)
    if descriptor >= 0:
        named[name] = queue
        queue.add(file)
        task.kernel.ipc.note(queue)
        queue.tell()
    return descriptor


@syscall(241, "mq_unlink", NAME, effect=Effect.PLAYED)
def mq_unlink(task: Task, name: bytes) -> int:
    """Take a name away; the queue goes with its last descriptor."""
    _check_name(name)
    named = task.kernel.ipc.named
    queue = named.get(name)
    if queue is None:
        return -errno.ENOENT
    if caller(task).users.fs != queue.uid and not capable(task):
        return -errno.EPERM
    del named[name]
    queue.unlinked = True
    return 0


def _opened(task: Task, descriptor: int) -> QueueFile:
    file = task.kernel.files.named(descriptor)
    if not isinstance(file, QueueFile):
        raise fail(errno.EBADF)
    return file


def _until(task: Task, pointer: int) -> int | None:
    """Return the moment at which a wait ends, on CLOCK_MONOTONIC; the guest gives a date."""
    if not pointer:
        return None
    seconds: int
    nanos: int
    seconds, nanos = struct.unpack("<qq", task.memory.read(pointer, 16))
    if seconds < 0 or not 0 <= nanos < _SECOND:
        raise fail(errno.EINVAL)
    clock = task.kernel.clock
    date = min(seconds, 1 << 33) * _SECOND + nanos
    return task.kept.setdefault("until", date - clock.now(0) + clock.now())


def _tell(task: Task, queue: NamedQueue) -> None:
    """A message came to an empty queue: tell who wanted to know."""
    told = queue.notified((task.process.pid, caller(task).users.real))
    if told is not None and told[1] is not None:
        process = task.kernel.processes.get(told[0])
        if process is not None:
            task.kernel.send(process, told[1])


@syscall(242, "mq_timedsend", FD, POINTER, INT, U32, POINTER, effect=Effect.PLAYED, restart=True)
def mq_timedsend(task: Task, descriptor: int, pointer: int, size: int, priority: int, timeout: int) -> int:
    """Send a message with a priority, or wait until there is room for it."""
    until = _until(task, timeout)
    if priority >= _PRIORITIES:
        return -errno.EINVAL
    sleeper = slept(task)
    if isinstance(sleeper, NamedSender) and sleeper.result is not None:
        return sleeper.result
    file = _opened(task, descriptor)
    queue = file.messages
    if not file.writes:
        return -errno.EBADF
    if size > queue.size:
        return -errno.EMSGSIZE
    text = task.memory.read(pointer, size) if size else b""
    waits = queue.is_full
    if waits and not is_blocking(descriptor):
        return -errno.EAGAIN
    if waits:
        if not isinstance(sleeper, NamedSender):
            sleeper = NamedSender(priority=priority, text=text)
        queue.senders.add(sleeper)
        raise sleep(task, sleeper, until, errno.ETIMEDOUT)
    if not task.kernel.ipc.hold(size + MESSAGE_BYTES):
        return -errno.ENOMEM
    kept = queue.put(priority, text)
    if not kept:
        task.kernel.ipc.give_back(size + MESSAGE_BYTES)
    elif len(queue.messages) == 1:
        _tell(task, queue)
    return 0


def _receive(task: Task, descriptor: int, file: QueueFile, until: int | None) -> tuple[int, bytes]:
    """Return a message with its priority, or wait for one. Raises OSError, Blocks."""
    sleeper = slept(task)
    if isinstance(sleeper, NamedReceiver) and sleeper.result is not None:
        return sleeper.message
    queue = file.messages
    if queue.messages:
        priority, text, came = queue.take()
        task.kernel.ipc.give_back(len(text) - len(came) if came is not None else len(text) + MESSAGE_BYTES)
        return priority, text
    if not is_blocking(descriptor):
        raise refuse(errno.EAGAIN)
    if not isinstance(sleeper, NamedReceiver):
        sleeper = NamedReceiver()
    queue.receivers.add(sleeper)
    raise sleep(task, sleeper, until, errno.ETIMEDOUT)


@syscall(243, "mq_timedreceive", FD, POINTER, INT, POINTER, POINTER, effect=Effect.PLAYED, restart=True)
def mq_timedreceive(task: Task, descriptor: int, pointer: int, size: int, priority: int, timeout: int) -> int:
    """Take the oldest message of the highest priority, or wait for one; return how long it is."""
    until = _until(task, timeout)
    file = _opened(task, descriptor)
    if not file.reads:
        return -errno.EBADF
    if size < file.messages.size:
        return -errno.EMSGSIZE
    found, text = _receive(task, descriptor, file, until)
    if priority:
        task.memory.write_u32(priority, found)
    if text:
        task.memory.write(pointer, text)
    return len(text)


def _listener(task: Task, descriptor: int) -> NotifyFile:
    """Return what the netlink socket `descriptor` stands for from now on: the host's would hear nothing of queues."""
    OPEN_FD.value(task, descriptor)
    files = task.kernel.files
    known = files.named(descriptor)
    if isinstance(known, NotifyFile):
        return known
    domain, length = host.HostBuffer(4), host.HostBuffer(4, struct.pack("<i", 4))
    result = host.call(_GETSOCKOPT, descriptor, _SOL_SOCKET, _SO_DOMAIN, domain.address, length.address)
    if result < 0:
        raise fail(-result)
    if int.from_bytes(domain.take(), "little") != _NETLINK:
        raise fail(errno.EINVAL)
    file = NotifyFile()
    made = files.open(file, task.process.seat, host.call(_FCNTL, descriptor, _GETFL) & os.O_NONBLOCK)
    try:
        os.dup2(made, descriptor, inheritable=os.get_inheritable(descriptor))
    finally:
        os.close(made)
    for one in task.process.live():
        one.looks_again()  # who receives from it already
    return file


@syscall(244, "mq_notify", FD, POINTER, effect=Effect.PLAYED)
def mq_notify(task: Task, descriptor: int, event: int) -> int:
    """Be told when a message comes to an empty queue, or no longer: EBUSY while somebody else is."""
    value, signo, how, cookie = 0, 0, _NONE, b""
    if event:
        value, signo, how = _SIGEVENT.unpack_from(task.memory.read(event, _SIGEVENT_BYTES))
        if how == _THREAD:
            cookie = task.memory.read(value, _COOKIE_BYTES)
        elif how not in (_SIGNAL, _NONE) or (how == _SIGNAL and not 0 <= signo <= SIGNAL_COUNT):
            return -errno.EINVAL
    queue = _opened(task, descriptor).messages
    pid = task.process.pid
    if not event:
        queue.leave(pid)
        return 0
    if queue.notification is not None:
        return -errno.EBUSY
    listener = _listener(task, signo) if how == _THREAD else None
    queue.notification = Notification(pid, signo if how == _SIGNAL else 0, value, listener, cookie)
    return 0


@syscall(245, "mq_getsetattr", FD, POINTER, POINTER, effect=Effect.PLAYED)
def mq_getsetattr(task: Task, descriptor: int, new: int, old: int) -> int:
    """Return what a queue is like; set O_NONBLOCK, or clear it."""
    wanted = _ATTRIBUTES.unpack(task.memory.read(new, _ATTRIBUTES.size))[0] if new else 0
    if wanted & ~os.O_NONBLOCK:
        return -errno.EINVAL
    queue = _opened(task, descriptor).messages
    flags = host.call(_FCNTL, descriptor, _GETFL) & LOW32
    if old:
        words = flags & os.O_NONBLOCK, queue.most, queue.size, len(queue.messages)
        task.memory.write(old, _ATTRIBUTES.pack(*words, 0, 0, 0, 0))
    if new:
        host.call(_FCNTL, descriptor, _SETFL, flags & ~os.O_NONBLOCK | wanted)
    return 0
