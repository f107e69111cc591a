"""POSIX message queues: messages with priorities, by names of the guest's own. Models Linux's ipc/mqueue.c.

A message that somebody sleeps for is handed to him, and what a sender sleeps with takes the room that a reader makes.
"""

from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from quire.guest.kernel.ipc_objects import IpcObject
from quire.guest.kernel.played_files import PlayedFile, Reader
from quire.guest.kernel.siginfo import SI_MESGQ, SignalInfo
from quire.guest.kernel.sleepers import Sleeper, Sleepers
from quire.guest.kernel.waiting import Blocks

__all__ = ["NamedQueue", "NamedReceiver", "NamedSender", "Notification", "NotifyFile", "QueueFile"]

#: What Linux counts for a message beside its text, and for a priority: struct msg_msg, struct posix_msg_tree_node.
_MESSAGE, _PRIORITY, _PRIORITIES = 48, 48, 32768
_MANY = 16
_COOKIES = 4096  # that nobody has received; a socket drops what is too much
#: What the last byte of a cookie says: a message came, or nobody is told any more. (NOTIFY_WOKENUP, NOTIFY_REMOVED)
_CAME, _LEFT = 1, 2


class Notification(NamedTuple):
    """Who is told of a message that comes to an empty queue: process `pid`, by signal `signo`, 0 for none.

    Or a thread of its, which reads `cookie` from `listener`.
    """

    pid: int
    signo: int
    value: int
    listener: "NotifyFile | None" = None
    cookie: bytes = b""

    @property
    def way(self) -> int:
        """How it is told: SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD."""
        return 2 if self.listener is not None else int(not self.signo)


@dataclass(eq=False, slots=True, kw_only=True)
class NamedReceiver(Sleeper):
    """A mq_timedreceive that waits, and the message that it is given: its priority and its text."""

    message: tuple[int, bytes] = (0, b"")


@dataclass(eq=False, slots=True, kw_only=True)
class NamedSender(Sleeper):
    """A mq_timedsend that waits, with its message."""

    priority: int
    text: bytes


@dataclass(eq=False, kw_only=True)
class NamedQueue(IpcObject):
    """A queue of up to `most` messages of up to `size` bytes."""

    most: int
    size: int
    name: bytes
    unlinked: bool = False
    messages: list[tuple[int, int, bytes]] = field(default_factory=list)  #: -priority, order, text
    files: list["QueueFile"] = field(default_factory=list)
    receivers: Sleepers[NamedReceiver] = field(default_factory=Sleepers)
    senders: Sleepers[NamedSender] = field(default_factory=Sleepers)
    notification: Notification | None = None
    sent: int = 0
    many: int = _MANY  #: open files before those are dropped of which no program has a descriptor

    @property
    def cost(self) -> int:
        """What it counts against RLIMIT_MSGQUEUE, in bytes."""
        return self.most * (_MESSAGE + self.size) + min(self.most, _PRIORITIES) * _PRIORITY

    @property
    def is_full(self) -> bool:
        """Whether a message has to wait."""
        return len(self.messages) >= self.most

    def add(self, file: "QueueFile") -> None:
        """A program has opened it."""
        if len(self.files) >= self.many:
            self.files = [one for one in self.files if not one.pipe.dead]
            self.many = max(_MANY, 2 * len(self.files))
        self.files.append(file)

    @property
    def is_open(self) -> bool:
        """Whether a program has a descriptor of it."""
        self.files = [file for file in self.files if not file.pipe.dead]
        return bool(self.files)

    def put(self, priority: int, text: bytes) -> bool:
        """Give a message to who waits for it, or keep it; return whether it is kept."""
        for one in self.receivers:
            one.message = priority, text
            one.wake(0)
            return False
        self._keep(priority, text)
        self.tell()
        return True

    def _keep(self, priority: int, text: bytes) -> None:
        self.sent += 1
        insort(self.messages, (-priority, self.sent, text))

    def take(self) -> tuple[int, bytes, bytes | None]:
        """Take the oldest message of the highest priority; a sender that waits goes on.

        Return its priority, its text, and the text of that sender's message, which is there now.
        """
        priority, _, text = self.messages.pop(0)
        came: bytes | None = None
        for one in self.senders:
            self._keep(one.priority, came := one.text)
            one.wake(0)
            break
        self.tell()
        return -priority, text, came

    def notified(self, sender: tuple[int, int]) -> tuple[int, SignalInfo | None] | None:
        """Return whom to tell that a message came, and by what, when the queue was empty; he is told once.

        `sender` is his process and his user.
        """
        found, self.notification = self.notification, None
        if found is None:
            return None
        if found.listener is not None:
            found.listener.post(found.cookie, _CAME)
        if not found.signo:
            return found.pid, None
        pid, uid = sender
        return found.pid, SignalInfo(found.signo, SI_MESGQ, pid=pid, uid=uid, value=found.value)

    def tell(self) -> None:
        """Have its descriptors be readable while there are messages, and writable while there is room."""
        level = 2 if self.is_full else int(bool(self.messages))
        for file in self.files:
            file.pipe.set_level(level)
            file.queue.wake()

    def leave(self, pid: int) -> None:
        """A process has closed it or has ended: it wants to be told no longer."""
        found = self.notification
        if found is not None and found.pid == pid:
            self.notification = None
            if found.listener is not None:
                found.listener.post(found.cookie, _LEFT)


class NotifyFile(PlayedFile):
    """What a C library listens to for SIGEV_THREAD: a netlink socket, from which it receives nothing but cookies."""

    def __init__(self) -> None:
        super().__init__()
        self._cookies: deque[bytes] = deque(maxlen=_COOKIES)

    @property
    def link(self) -> bytes:
        """A socket, by its number."""
        return b"socket:[%d]" % self.pipe.key[1]

    def post(self, cookie: bytes, what: int) -> None:
        """Have the listener hear what happened."""
        self._cookies.append(cookie[:-1] + bytes((what,)))
        self.ring()

    def read(self, reader: Reader, size: int) -> bytes:
        """Take one cookie, cut to `size` bytes."""
        if not self._cookies:
            raise Blocks(queues=((self.queue, 0),))
        found = self._cookies.popleft()
        if not self._cookies:
            self.pipe.set_level(0)
        return found[:size]


class QueueFile(PlayedFile):
    """One open file of `messages`, which `reads`, `writes` or both. Reading the descriptor itself tells its state."""

    def __init__(self, messages: NamedQueue, *, reads: bool, writes: bool) -> None:
        super().__init__()
        self.messages, self.reads, self.writes = messages, reads, writes
        self._position = 0

    @property
    def link(self) -> bytes:
        """Its name, as that of a file in a file system of its own."""
        return b"/" + self.messages.name + b" (deleted)" * self.messages.unlinked

    def read(self, reader: Reader, size: int) -> bytes:
        """Return the text that tells how much is there and who is notified."""
        found, used = self.messages.notification, sum(len(one[2]) for one in self.messages.messages)
        pid, signo = (found.pid, found.signo) if found is not None else (0, 0)
        way = 0 if found is None else found.way
        text = f"QSIZE:{used:<10} NOTIFY:{way:<5} SIGNO:{signo:<5} NOTIFY_PID:{pid:<6}\n".encode()
        part = text[self._position : self._position + size]
        self._position += len(part)
        return part

    def closed(self, pid: int) -> None:
        """A process closes a descriptor of it."""
        self.messages.leave(pid)
