"""System V IPC of one machine: shared memory, semaphores, messages, none of which is the host's."""

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.group import Process
from quire.guest.kernel.host_memory import HostMemory
from quire.guest.kernel.ipc_objects import IpcObject, IpcTable
from quire.guest.kernel.messages import MessageQueue
from quire.guest.kernel.named_queues import NamedQueue
from quire.guest.kernel.semaphores import SemSet, Undo, undo_all
from quire.guest.kernel.sleepers import Asleep
from quire.guest.mm.backing import SharedMemory

__all__ = ["MESSAGE_BYTES", "MSGMNI", "SEMMNI", "SHMMNI", "Ipc", "Segment"]

SHMMNI, SEMMNI, MSGMNI = 4096, 32000, 32000
#: What a message takes of the host's memory beside its text.
MESSAGE_BYTES = 64
_SECOND = 1_000_000_000
#: What is counted of the host's memory is counted in such steps.
_STEP = 64 << 10


@dataclass(eq=False, kw_only=True)
class Segment(IpcObject):
    """Shared memory of `size` bytes. Times are in s since 1970; `maker` and `user` are numbers of processes.

    Each area that maps it has a reference to `memory`, and the kernel has one until it is removed.
    """

    size: int
    memory: SharedMemory
    maker: int
    user: int = 0
    attached: int = 0
    detached: int = 0
    doomed: bool = False
    locked: bool = False

    @property
    def attachments(self) -> int:
        """How many areas map it."""
        return self.memory.references - (not self.doomed)


class Ipc:
    """The objects, with what processes undo at their end, and what all of it takes of the host's memory."""

    def __init__(self, clock: VirtualClock | HostClock, host_memory: HostMemory) -> None:
        self._clock, self._host_memory = clock, host_memory
        self._held = self._counted = 0
        self.segments: IpcTable[Segment] = IpcTable(SHMMNI)
        self.semaphores: IpcTable[SemSet] = IpcTable(SEMMNI)
        self.queues: IpcTable[MessageQueue] = IpcTable(MSGMNI)
        self.named: dict[bytes, NamedQueue] = {}
        self._named: list[NamedQueue] = []  # those too that have no name any more
        self.asleep = Asleep()
        self._undo: WeakKeyDictionary[Process, Undo] = WeakKeyDictionary()

    def now(self) -> int:
        """Return the date in s."""
        return self._clock.now(time.CLOCK_REALTIME) // _SECOND

    def hold(self, more: int) -> bool:
        """Count so many bytes more of the host's memory; False when the guest's memory has no room for them."""
        wanted = -(-(self._held + more) // _STEP) * _STEP
        if wanted > self._counted:
            if not self._host_memory.count_own(wanted):
                return False
            self._counted = wanted
        self._held += more
        return True

    def give_back(self, less: int) -> None:
        """Count so many bytes less; negative: more of them, which are there already."""
        self._held -= less
        wanted = -(-self._held // _STEP) * _STEP
        if wanted != self._counted and self._host_memory.count_own(wanted):
            self._counted = wanted

    def undo(self, process: Process) -> Undo:
        """Return what a process undoes at its end."""
        return self._undo.setdefault(process, {})

    def undos(self) -> list[Undo]:
        """Return what all processes do."""
        return list(self._undo.values())

    def note(self, queue: NamedQueue) -> None:
        """A queue of :attr:`named` has been opened."""
        if queue not in self._named:
            self._named.append(queue)

    def queues_there(self) -> list[NamedQueue]:
        """Return the queues that have a name or a descriptor; what the others held is given back."""
        names = set(self.named.values())
        gone = [one for one in self._named if one not in names and not one.is_open]
        for one in gone:
            self.give_back(sum(len(text) + MESSAGE_BYTES for _, _, text in one.messages))
            self._named.remove(one)
        return list(self._named)

    def execute(self, process: Process) -> None:
        """A process begins another program, which has none of its queues open."""
        for one in self._named:
            one.leave(process.pid)

    def leave(self, process: Process) -> None:
        """A process has ended."""
        self.execute(process)
        self.undoes(process)

    def undoes(self, process: Process) -> None:
        """Do now what a process undoes at its end."""
        undo = self._undo.pop(process, None)
        if undo:
            undo_all(undo, process.pid, self.now())

    def forget_segments(self) -> None:
        """Take those segments out that were removed, and that nobody maps any more."""
        for one in self.segments:
            if one.doomed and not one.attachments:
                self.segments.remove(one)
