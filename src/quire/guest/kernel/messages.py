"""Queues of messages with types: who gets which. Models Linux's ipc/msg.c.

A message that somebody sleeps for is handed to him and is never in the queue.
"""

import errno
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from quire.guest.kernel.ipc_objects import IpcObject
from quire.guest.kernel.sleepers import Sleeper, Sleepers
from quire.guest.kernel.waiting import WaitQueue

__all__ = ["Message", "MessageQueue", "Receiver", "Wish"]


class Message(NamedTuple):
    """Its type and its text."""

    kind: int
    text: bytes


class Wish(NamedTuple):
    """Which message a call wants, and how long it may be."""

    kind: int  #: 0 any, negative: the lowest up to that
    excepted: bool  #: any other
    size: int
    cut: bool  #: whether a longer one is cut

    def suits(self, message: Message) -> bool:
        """Whether it is one of those."""
        if self.kind == 0:
            return True
        if self.kind < 0:
            return message.kind <= -self.kind
        return (message.kind == self.kind) != self.excepted

    def too_long(self, message: Message) -> bool:
        """Whether it does not fit, and is not to be cut."""
        return len(message.text) > self.size and not self.cut


@dataclass(eq=False, slots=True, kw_only=True)
class Receiver(Sleeper):
    """A msgrcv that waits, and what it is given."""

    wish: Wish
    pid: int
    message: Message | None = None


@dataclass(eq=False, kw_only=True)
class MessageQueue(IpcObject):
    """A queue of up to `limit` bytes. Times are in s since 1970, `sender` and `taker` the numbers of processes."""

    limit: int
    bytes: int = 0
    sent: int = 0
    taken: int = 0
    sender: int = 0
    taker: int = 0
    messages: deque[Message] = field(default_factory=deque)
    receivers: Sleepers[Receiver] = field(default_factory=Sleepers)
    room: WaitQueue = field(default_factory=WaitQueue)  #: calls that wait until there is some

    def fits(self, size: int) -> bool:
        """Whether a message of so many bytes has room."""
        return self.bytes + size <= self.limit and len(self.messages) < self.limit

    def put(self, message: Message, pid: int, now: int) -> bool:
        """Give a message to who waits for it, or keep it; return whether it is kept."""
        self.sender, self.sent = pid, now
        for one in self.receivers:
            if not one.wish.suits(message):
                continue
            if one.wish.too_long(message):
                one.wake(-errno.E2BIG)
                continue
            self.taker, self.taken = one.pid, now
            one.message = message
            one.wake(0)
            return False
        self.messages.append(message)
        self.bytes += len(message.text)
        return True

    def take(self, wish: Wish, pid: int, now: int) -> Message | None:
        """Take the message that is wished for, None if there is none. Raises E2BIG."""
        found: Message | None = None
        for message in self.messages:
            if wish.suits(message) and (found is None or (wish.kind < 0 and message.kind < found.kind)):
                found = message
                if wish.kind >= 0:
                    break
        if found is None:
            return None
        if wish.too_long(found):
            raise OSError(errno.E2BIG, "the message is longer")
        index = next(index for index, message in enumerate(self.messages) if message is found)
        del self.messages[index]
        self.bytes -= len(found.text)
        self.taker, self.taken = pid, now
        self.room.wake()
        return found

    def copy(self, number: int, wish: Wish) -> Message | None:
        """Return the message with this number, which stays in the queue; None if there is none. E2BIG, EINVAL."""
        if not 0 <= number < len(self.messages):
            return None
        found = self.messages[number]
        if wish.too_long(found):
            raise OSError(errno.E2BIG, "the message is longer")
        if len(found.text) > wish.size:
            raise OSError(errno.EINVAL, "a copy is never cut")
        return found

    def end(self) -> None:
        """It is removed: all calls that wait end."""
        self.receivers.wake_all(-errno.EIDRM)
        self.room.wake()
