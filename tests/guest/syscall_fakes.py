"""A process guest without a machine: user memory is one bytearray with a hole, the host is real."""

import errno
import itertools
import random
import select
import struct
from types import SimpleNamespace
from typing import Any

from quire.arch import SKYLAKE_X, Access
from quire.arch.cpuid import cpuid
from quire.guest.kernel.clock import HostClock
from quire.guest.kernel.group import Image, Process
from quire.guest.kernel.machine import PageFault
from quire.guest.kernel.meter import Tally
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.kernel.system import FIRST_PID, Kernel
from quire.guest.kernel.timers import Timers
from quire.guest.kernel.usage import Usage
from quire.guest.kernel.waiting import Blocks
from quire.guest.mm.allowance import Allowance
from quire.guest.mm.backing import FileRegistry, SharedMemory
from quire.guest.mm.uaccess import UserMemory
from quire.guest.mm.vma import VmaList
from quire.guest.syscalls import RESTART, dispatch
from quire.own_descriptors import FIRST_OWN

BASE = 0x10000
PAGES = 64
#: The page that is not mapped, and the one that is read-only.
HOLE = BASE + 60 * 4096
CONST = BASE + 62 * 4096
#: Where strings go, away from buffers.
STRINGS = BASE + 40 * 4096
HIGH = FIRST_OWN


class FakeMachine:
    """User memory from BASE; pages are not next to each other on the host, so that views matter."""

    def __init__(self) -> None:
        self.vcpu_count, self.node = 1, 0
        self.pages = [bytearray(4096) for _ in range(PAGES)]
        self.values: dict[str, int] = {"rsp": BASE + 0x8000}
        self.slice_over, self.loaded = False, True
        self.registers = SimpleNamespace(read=self.values.__getitem__, write=self.values.__setitem__)
        self.left = 64 << 20
        self.touched: set[int] = set()

    def begin_slice(self, blocks: int) -> None:
        """Nobody takes turns."""

    profile = SKYLAKE_X

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return cpuid(self.profile, leaf, subleaf)

    def memory_sizes(self) -> tuple[int, int]:
        return 64 << 20, self.left

    def tally(self) -> Tally:
        return Tally(0, 0, 0)

    table_count = 0

    def held(self) -> int:
        return 0

    def instructions(self) -> int:
        return 0

    def allocate(self, size: int) -> int | None:
        """Return a frame of the 64 MiB there are, which nobody looks at."""
        self.left -= size
        if self.left < 0:
            self.left += size
            return None
        return 0

    def free(self, gpa: int, size: int) -> None:
        self.left += size

    def user(self, gva: int, length: int, access: Access) -> memoryview | PageFault:
        index, offset = divmod(gva - BASE, 4096)
        page = gva & ~4095
        if not 0 <= index < PAGES or page == HOLE or (page == CONST and access == Access.WRITE):
            return PageFault(gva, 4)
        assert offset + length <= 4096
        self.touched.add(page)
        view = memoryview(self.pages[index])[offset : offset + length]
        return view if access == Access.WRITE else view.toreadonly()


class FakeStore:
    """A cache that holds no page of any file, and records of which it was asked."""

    has_written = True

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self._calls = calls

    def __len__(self) -> int:
        return 1

    def holds(self, key: tuple[int, int]) -> bool:
        return True

    def between(self, key: tuple[int, int], first: int, last: int) -> list[Any]:
        self._calls.append(("pages", key[1], first, last))
        return []

    def of(self, key: tuple[int, int]) -> list[Any]:
        return []

    def drop_idle(self, pages: list[Any]) -> None:
        self._calls.append(("dropped",))

    bytes = 0

    def reclaim(self) -> bool:
        return False


class FakeSpace:
    """Records what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stack_limit = 8 << 20
        self.allowance = Allowance()
        self.areas = VmaList()
        self.pages = SimpleNamespace(
            small={},
            large={},
            peak_bytes=0,
            pause=lambda: None,
            shared=FakeStore(self.calls),
            residents=lambda: ([], []),
            note_dirty=lambda: None,
        )
        self.files = FileRegistry(itertools.count(1).__next__)
        self.mapped_bytes = self.resident_bytes = self.faults = 0

    def fault(self, gva: int, error_code: int) -> SignalInfo:
        return SignalInfo(11, 1, addr=gva)

    def let_go(self, memory: SharedMemory) -> None:
        self.files.release(memory)

    def maps_text(self) -> bytes:
        return b"00400000-00401000 r-xp 00000000 00:00 0 guest\n"

    def __getattr__(self, name: str) -> Any:
        def record(*arguments: int) -> int:
            self.calls.append((name, *arguments))
            return 0x7000

        return record


class FakeProcess:
    """What the system calls use of a ProcessGuest; a call that waits really waits here."""

    def __init__(self, *, sandbox: bool = False, seed: int = 1) -> None:
        self.machine = FakeMachine()
        self.space = FakeSpace()
        self.memory = UserMemory(self.machine, self.space)  # type: ignore[arg-type]
        self.program = SimpleNamespace(
            path="/usr/bin/../bin/env", argv=(b"env", b"-i"), envp=(b"A=1",), execfn=b"env"
        )
        self.options = SimpleNamespace(seed=seed, sandbox=sandbox, cwd=".", root="")
        self.rng = random.Random(seed)
        self.kernel = Kernel(self.rng, HostClock(), self.machine)  # type: ignore[arg-type]
        self.host_memory = self.kernel.host_memory
        image = Image(self.machine, self.space, self.memory, self.program)  # type: ignore[arg-type]
        self.timers = Timers(self.kernel.clock.now)
        self.usage = Usage(self.space, self.kernel.clock.busy)  # type: ignore[arg-type]
        self.process = Process(FIRST_PID, None, image, self.kernel.first_seat, self.timers, self.usage)
        self.process.group = self.process.session = FIRST_PID
        self.signals = self.process.signals
        self.tid = FIRST_PID
        self.kernel.processes[FIRST_PID] = self.process
        self.process.threads[FIRST_PID] = self  # type: ignore[assignment]
        self.kernel.enter(self)  # type: ignore[arg-type]
        self.kept: dict[str, int] = {}
        self.waiters: tuple[Any, ...] = ()
        self.woken = self.ended = False
        self.runs = True
        self.awaits = 0
        self.rseq = None
        self.until = None
        self.unimplemented: dict[str, int] = {}
        self.heard: list[str] = []
        self.death = None

    @property
    def exit_status(self) -> int | None:
        return self.process.exit_status

    def exit_thread(self, status: int) -> None:
        self.process.exit_status = status

    exit_process = exit_thread

    def clone(self, *_: object) -> Any:
        raise OSError(errno.EAGAIN, "nobody runs it")

    def execute(self, _program: object) -> None:
        """Stay the same."""

    def parts(self, _what: object) -> bool:
        """Share nothing."""
        return False

    def notice(self) -> None:
        """Nothing waits."""

    def looks_again(self) -> None:
        """Nothing waits."""

    def yields(self) -> None:
        """Nobody else is there."""

    def lacks(self, name: str, *, ordinary: bool = False) -> None:
        self.unimplemented[name] = self.unimplemented.get(name, 0) + 1
        self.heard += [] if ordinary or name in self.heard else [name]

    def collect_signals(self) -> None:
        """Nothing: tests queue signals themselves."""

    def call(self, number: int, *arguments: int) -> Any:
        a, b, c, d, e, f = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
        while True:
            try:
                result = dispatch(self, number, (a, b, c, d, e, f))  # type: ignore[arg-type]
            except Blocks as wait:
                if not self.signals.deliverable:
                    self.wait_for(wait)
                    continue
                result = RESTART if wait.restarts else -errno.EINTR
            self.kept = {}
            return result

    def wait_for(self, wait: Blocks) -> None:
        """Wait a little for what a call waits for."""
        assert wait.files or wait.until is not None, "the call would wait for ever"
        poll = select.poll()
        for descriptor, events in wait.files:
            poll.register(descriptor, events)
        left = 1000.0 if wait.until is None else (wait.until - self.kernel.clock.now()) / 1e6 + 1
        poll.poll(min(max(left, 0), 1000))

    def path(self, text: str | bytes, slot: int = 0) -> int:
        """Put a string into memory and return its address."""
        data = text.encode() if isinstance(text, str) else text
        where = STRINGS + slot * 5000
        self.memory.write(where, data + b"\0")
        return where

    def words(self, where: int, *values: int) -> int:
        self.memory.write(where, struct.pack(f"<{len(values)}q", *values))
        return where
