"""Wild system calls: an answer each time, never an exception, and nothing outside is changed.

``python tests/campaigns/syscalls.py COUNT SEED`` makes COUNT calls, in batches that are a function of their seed. Each
batch is a guest in a process, user and namespaces of its own, in a folder that is a file system in memory; every
second one is in a sandbox. A failure names the seed of its batch and the call.
"""

import codecs
import ctypes
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from quire.arch import HWCAP
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.kernel.waiting import Blocks
from quire.guest.load.launch import prepare
from quire.guest.syscalls import SYSCALLS, Special, dispatch
from quire.own_descriptors import FIRST_OWN

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "guest"))
from elf import program
from guest_fakes import FakeMachine
from limits import PATIENCE
from surroundings import differences, surroundings
from warm import load_all

BATCH = 500
_NOBODY = 65534
_NEW_MOUNTS, _NEW_USER, _NEW_PIDS, _NEW_NET, _NEW_IPC = (
    0x20000,
    0x10000000,
    0x20000000,
    0x40000000,
    0x08000000,
)
_NAMESPACES = _NEW_MOUNTS | _NEW_USER | _NEW_PIDS | _NEW_NET | _NEW_IPC
_libc = ctypes.CDLL(None, use_errno=True)
_AREA, _PAGES = 0x100000000000, 16
#: sync writes all disks of the machine; the rest would end the batch, which the guest may at any time.
_LEFT_OUT = {162, 306, 60, 231, 15, 56, 57, 58, 435, 59, 322}
NUMBERS = sorted(
    number for number, entry in SYSCALLS.items() if entry.run is not None and number not in _LEFT_OUT
)
_SIZES = (
    0,
    1,
    7,
    8,
    16,
    144,
    4095,
    4096,
    4097,
    65536,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 47,
    (1 << 63) - 1,
    1 << 63,
)
_MOMENT = 0.01  # seconds until a call that waits is ended by a signal to the guest


def _pointer(seeded: random.Random) -> int:
    kind = seeded.randrange(8)
    if kind < 5:
        return _AREA + 4096 * seeded.randrange(_PAGES) + seeded.choice((0, 0, 8, 100, 4088, 4095))
    return seeded.choice(
        (0, 1, _AREA - 1, _AREA + 4096 * 40, 0x7FFFFFFFF000, 1 << 47, 0xFFFF888000000000, (1 << 64) - 1)
    )


def _word(seeded: random.Random) -> int:
    kind = seeded.randrange(10)
    if kind < 4:
        return _pointer(seeded)
    if kind < 6:
        return seeded.randrange(24)  # a descriptor, a signal, a command
    if kind == 6:
        return seeded.choice(_SIZES)
    if kind == 7:
        return -seeded.choice((1, 2, 100, 4095, 1 << 31)) % (1 << 64)
    return 1 << seeded.randrange(64) if kind == 8 else seeded.getrandbits(seeded.randrange(1, 65))


def _fill(seeded: random.Random) -> bytes:
    """Return a page of what calls read: paths, small numbers, pointers, noise."""
    kind = seeded.randrange(4)
    if kind == 0:
        names = (
            b"file",
            b"dir/x",
            b"/dev/null",
            b"/proc/self/maps",
            b"/proc/self/fd/3",
            b".",
            b"",
            b"dir",
            b"/dev/urandom",
        )
        return seeded.choice(names).ljust(4096, b"\0")
    if kind == 1:
        return b"".join(seeded.choice((0, 1, 2, 8, 16, 1000)).to_bytes(8, "little") for _ in range(512))
    if kind == 2:
        return b"".join(_word(seeded).to_bytes(8, "little") for _ in range(512))
    return seeded.randbytes(4096)


def _guest(seed: int) -> ProcessGuest:
    options = GuestOptions(seed, seed % 2 == 1, os.getcwd(), HWCAP)
    Path("program").write_bytes(program(2, 0x400200, [(1, 7, 0, 0x400000, 0x400000, 0x1000, 0x1000, 0x1000)]))
    Path("program").chmod(0o755)
    guest = ProcessGuest(
        FakeMachine(2048), prepare([os.path.abspath("program")], None, os.getcwd()), {}, options
    )
    guest.start()
    return guest


def _interrupt(guest: ProcessGuest) -> None:
    """Have a call that waits end by a signal, whatever the guest did to its mask."""
    guest.signals.mask = 0
    guest.signals.queue(SignalInfo(signal.SIGTERM, 0))


def _calls(seed: int, report: int) -> None:
    """Make the calls of a batch; write the answers to `report`, a descriptor that no guest can name."""
    seeded = random.Random(seed)
    guest = _guest(seed)
    signal.signal(signal.SIGALRM, lambda *_: _interrupt(guest))
    answers: Counter[str] = Counter()
    for count in range(BATCH):
        if count % 20 == 0:
            guest.space.munmap(_AREA, 4096 * 64)
            guest.space.mmap(_AREA, 4096 * _PAGES, 3, 0x32, -1, 0)
            for page in range(_PAGES):
                guest.memory.write(_AREA + 4096 * page, _fill(seeded))
        number = seeded.choice(NUMBERS)
        words = tuple(_word(seeded) for _ in range(6))
        os.pwrite(
            report,
            json.dumps({"seed": seed, "call": SYSCALLS[number].name, "words": words}).encode() + b"\n",
            0,
        )
        signal.setitimer(signal.ITIMER_REAL, _MOMENT, _MOMENT)
        try:
            result: int | Special | Blocks = dispatch(guest, number, words)
        except Blocks as wait:
            result = wait
        signal.setitimer(signal.ITIMER_REAL, 0)
        guest.signals.dequeue((1 << 64) - 1)
        guest.kept = {}
        if isinstance(result, Blocks):
            answers["waits"] += 1
        elif isinstance(result, Special):
            answers[result.value] += 1
        else:
            assert -4096 < result < 1 << 63 or result < 0, f"{result}"
            answers["error" if -4096 < result < 0 else "result"] += 1
    os.pwrite(report, json.dumps({"answers": answers}).encode().ljust(4000) + b"\n", 0)


def _enter(folder: str) -> None:
    """Become nobody, in namespaces of one's own, in a folder in memory."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        _libc.prctl(4, 1, 0, 0, 0)  # dumpable: else /proc/self is not one's own
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NAMESPACES) == 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=16m")
    os.chdir(folder)
    os.mkdir("dir")


def _in_namespaces(seed: int, folder: str, report: int) -> int:
    """Make the batch of `seed` in a grandchild, the first process of its namespace; return how that ended."""
    _enter(folder)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()  # a signal to the group would reach those who wait
            for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 64 << 20)):
                resource.setrlimit(limit, (most, most))
            for number in range(3):
                os.dup2(os.open(f"stream-{number}", os.O_RDWR | os.O_CREAT, 0o600), number)
            os.closerange(3, FIRST_OWN)
            _calls(seed, report)
            status = 0
        except BaseException as error:
            last = os.pread(report, 4000, 0).split(b"\n")[0].decode()
            text = json.dumps({"failure": f"{type(error).__name__}: {error}", "after": last})
            os.pwrite(report, text.encode().ljust(4000) + b"\n", 0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def batch(seed: int) -> Counter[str]:
    """Make the calls of the batch of `seed`; return how often an answer was of which kind."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
        os.chmod(folder, 0o777)
        child = os.fork()
        if child == 0:
            try:
                report = os.dup2(file.fileno(), FIRST_OWN + 100)
                os._exit(0 if _in_namespaces(seed, folder, report) == 0 else 1)
            finally:
                os._exit(2)
        ended = os.pidfd_open(child)
        hangs = not select.select([ended], [], [], PATIENCE)[0]
        if hangs:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(ended)
        last = os.pread(file.fileno(), 4000, 0).split(b"\n")[0].decode()
        assert not hangs, f"batch {seed} hangs in {last}"
        assert status == 0, f"batch {seed} ended with {status}: {last}"
        return Counter(json.loads(last)["answers"])


def campaign(count: int, seed: int) -> Counter[str]:
    """Make `count` calls in batches from `seed` on; return how often an answer was of which kind."""
    load_all()
    for encoding in ("ascii", "latin-1", "utf-8", "idna"):
        codecs.lookup(encoding)  # a batch may not read the interpreter's files
    before, found = surroundings(), Counter[str]()
    for number in range(-(-count // BATCH)):
        found += batch(seed + number)
        assert (now := surroundings()) == before, f"batch {seed + number} changed {differences(before, now)}"
    return found


if __name__ == "__main__":
    print(campaign(int(sys.argv[1]), int(sys.argv[2])))
