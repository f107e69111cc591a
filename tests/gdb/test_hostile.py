"""The gdb server and bytes of all kinds: each packet is answered or refused, the guest stands, nothing is raised."""

import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from limits import PATIENCE
from small_bzimage import small_bzimage

pytestmark = pytest.mark.timeout(2 * PATIENCE)

COUNTS = bytes.fromhex("48c7c005000000 48ffc0 48ffc0 ebf8")  # mov rax, 5; 1: inc rax; inc rax; jmp 1b
LARGEST = 1 << 14


def packet(content: bytes) -> bytes:
    return b"$" + content + b"#%02x" % (sum(content) & 0xFF)


class Debugger:
    """A connection that says what it likes."""

    def __init__(self, port: int) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._said = bytearray()
        assert self.ask(b"QStartNoAckMode") == b"OK"
        self.link.sendall(b"+")

    def ask(self, content: bytes) -> bytes:
        """Return the answer to a packet, b"gone" if the server left."""
        self.link.sendall(packet(content))
        return self.answer()

    def answer(self) -> bytes:
        while True:
            found = re.search(rb"\$([^#]*)#..", self._said)
            if found is not None:
                content = bytes(found[1])
                del self._said[: found.end()]
                return content
            data = self.link.recv(1 << 16)
            if not data:
                return b"gone"
            self._said += data


@contextmanager
def guest(
    folder: Path, *options: str, code: bytes = COUNTS, status: int | None = 130
) -> Iterator[Callable[[], Debugger]]:
    """Run a guest that waits for a debugger, which has to end it; it says nothing but its `status`, or is killed."""
    place = folder / "kernel"
    place.write_bytes(small_bzimage(code))
    command = [sys.executable, "-P", "-m", "quire", "boot", "--kernel", place, "--memory", "64M", "--report", "none"]
    command += ["--gdb", "0", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as quire:
        try:
            assert quire.stderr is not None
            line = next(one for one in quire.stderr if "waiting for gdb" in one)
            yield lambda: Debugger(int(line.rsplit(":", 1)[1]))
            if status is None:
                return
            said = quire.stderr.read()
            assert (quire.wait(PATIENCE), said) == (status, "")
        finally:
            quire.kill()


REFUSED = (
    b"mffffffffffffffff,2", b"mffffffffffffffff,ffffffff", b"mfffffffffffffff0,20", b"m800000000000,8",
    b"Mffffffffffffffff,2:0011", b"M9000,400:00", b"M9000,1:0", b"M4000000,1:00", b"m10000000000000000,1", b"m", b"M",
    b"pffff", b"p", b"P10=ffffffffffffff7f", b"P11=ffffffff", b"P11=02000200", b"P1", b"Pffff=00", b"P12=10000000",
    b"T99", b"T", b"qThreadExtraInfo,99", b"qXfer:features:read:target.xml:zz",
)  # fmt: skip
UNKNOWN = (b"", b"q", b"v", b"!", b"R00", b"bc", b"G00", b"X0,4:\x00", b"\xff\xfe", b"Z4,0,1", b"Z0,zz", b"vCont")
STANDS = (b"vCont;x;;;s:zz", b"vCont;s:99", b"vCont;s:-1", b"vCont;s:p1.1", b"s", b"s9999999999999999999", b"?")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with guest(tmp_path) as connect:
        debugger = connect()
        assert {one: debugger.ask(one) for one in REFUSED} == dict.fromkeys(REFUSED, b"E01")
        assert {one: debugger.ask(one) for one in UNKNOWN} == dict.fromkeys(UNKNOWN, b"")
        assert {one: debugger.ask(one) for one in STANDS} == dict.fromkeys(STANDS, b"T05thread:1;")
        assert debugger.ask(b"P11=00000000") == b"OK" and debugger.ask(b"p11") == b"02000000"
        assert debugger.ask(b"Qqemu.PhyMemMode:1") == b"OK"
        assert debugger.ask(b"mffffffffffffffff,2") == b"E01" and debugger.ask(b"m3fffffe,ffffffff") == b"0000"
        assert debugger.ask(b"m3ff0000,ffffffff") == b"00" * (LARGEST // 2 - 16)
        debugger.link.sendall(packet(b"k"))


def test_breakpoints_have_a_bound(tmp_path: Path) -> None:
    with guest(tmp_path) as connect:
        debugger = connect()
        places = [b"Z0,%x,1" % (0x2000000 + 8 * number) for number in range(1001)]
        debugger.link.sendall(b"".join(map(packet, places)))
        assert [debugger.answer() for _ in places] == [b"OK"] * 1000 + [b"E01"]
        assert [debugger.ask(one) for one in (places[0].lower(), places[-1], b"s")] == [b"OK", b"OK", b"T05thread:1;"]
        debugger.link.sendall(packet(b"k"))


@pytest.mark.parametrize("last", [b"", b"$m0,10", b"$m0,10#", b"$" + b"m" * 2 * LARGEST, packet(b"c"), b"}#$#}"])
def test_who_leaves_in_the_midst_leaves_the_guest_running(last: bytes, tmp_path: Path) -> None:
    ends = bytes.fromhex("b003 e6f4 ebfe")  # the guest writes 3 to the exit port
    with guest(tmp_path, code=ends, status=7) as connect:
        debugger = connect()
        debugger.link.sendall(last)
        debugger.link.close()


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(seed: int, tmp_path: Path) -> None:
    """Mutated packets, none of which lets the guest run, between bytes of no meaning: each has its answer."""
    seeded = random.Random(seed)
    known = (*REFUSED, *UNKNOWN, *STANDS, b"g", b"m9000,40", b"P0=00", b"P40=ffffffff", b"Hg1", b"qC", b"z0,9000,1")
    with guest(tmp_path, "--vcpus", "2") as connect:
        debugger = connect()
        for _ in range(300):
            content = bytearray(seeded.choice(known))
            for _ in range(seeded.randrange(4)):
                at = seeded.randrange(len(content) + 1)
                content[at : at + seeded.randrange(2)] = bytes(seeded.choices(b"0123456789abcdef,:;=}", k=1))
            if content[:1] in b"ckDQs" or content.startswith(b"vCont") or re.search(rb"[#$\x03]", content):
                continue  # those that go on, leave or change the protocol are the other tests'
            wrong = packet(bytes(content))[:-2] + b"zz"
            debugger.link.sendall(seeded.randbytes(seeded.randrange(9)).translate(None, b"$#\x03") + wrong)
            assert debugger.ask(bytes(content)) != b"gone"
        assert debugger.ask(b"qC") == b"QC1"
        debugger.link.sendall(packet(b"k"))


def test_one_that_floods_a_guest_that_runs_is_left(tmp_path: Path) -> None:
    with guest(tmp_path, status=None) as connect:
        debugger = connect()
        debugger.link.sendall(packet(b"c") + b"m" * 2 * LARGEST)
        try:
            assert debugger.answer() == b"T02thread:1;"
            assert debugger.answer() == b"gone"
        except ConnectionResetError:
            pass  # what it had not read is thrown away
