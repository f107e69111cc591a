"""The console at a terminal: keys are the guest's, Ctrl-A is Quire's, the monitor answers, modes are put back."""

import os
import signal
import sys
import termios
import time
from pathlib import Path

import pytest
from limits import PATIENCE
from small_bzimage import small_bzimage

sys.path.append(str(Path(__file__).resolve().parents[1] / "programs"))
from typist import Typist

pytestmark = pytest.mark.timeout(2 * PATIENCE)

#: 1: in al, dx (COM1's line status); test al, 1; jz 1b; read a byte, send it back.
ECHO = bytes.fromhex("66bafd03 ec a801 74f7 66baf803 ec ee ebef")


def wait_for_guest(typist: Typist) -> None:
    """Wait until the terminal is the guest's: it does not echo by itself any more."""
    end = time.monotonic() + PATIENCE
    while termios.tcgetattr(typist.descriptor)[3] & termios.ECHO:
        assert time.monotonic() < end, "the terminal was never the guest's"
        time.sleep(0.02)


def start(folder: Path, code: bytes = ECHO, *options: str) -> list[str]:
    """Return the command that boots `code`, which opens the port for reading first: OUT 0x3f9, 1."""
    kernel = folder / "kernel"
    kernel.write_bytes(small_bzimage(bytes.fromhex("66baf903 b001 ee") + code))
    words = [sys.executable, "-P", "-m", "quire", "boot", "--kernel", str(kernel), "--report", "none"]
    return [*words, "--memory", "64M", *options]


def test_keys_are_the_guests_and_ctrl_a_x_ends_it(tmp_path: Path) -> None:
    with Typist(start(tmp_path)) as typist:
        wait_for_guest(typist)
        typist.type("abc\x03\x04")
        typist.wait("abc\x03\x04")
        typist.type("\x01\x01d")
        typist.wait("\x01d")
        typist.type("\x01x")
        shown = typist.end()
    assert shown.status == 130 and shown.echoes


def test_the_monitor(tmp_path: Path) -> None:
    saved = tmp_path / "guest.core"
    with Typist(start(tmp_path)) as typist:
        wait_for_guest(typist)
        typist.type("on")
        typist.wait("on")
        typist.type("\x01c")
        for command, answer in (
            ("help", "walk ADDRESS"),
            ("info exits", "IO_INSTRUCTION"),
            ("info vmcs", "guest_cr0"),
            ("info ept", "table pages"),
            ("info tlb", "vCPU 0"),
            ("info numa", "boot with --numa 2x4G"),
            ("info nothing", "There is nothing about 'nothing': give exits, tlb, vmcs, ept, numa."),
            ("walk 0x1000200", "PML4E"),
            ("walk nowhere", "'nowhere' is no linear address"),
            ("sing", "There is no command 'sing': help lists them."),
            (f"save {saved}", ""),
        ):
            typist.wait("(quire) ")
            typist.type(command + "\r")
            if answer:
                typist.wait(answer)
        typist.wait("(quire) ")
        typist.type("cont\r")
        wait_for_guest(typist)
        typist.type("again")
        typist.wait("again")
        typist.type("\x01c")
        typist.wait("(quire) ")
        typist.type("quit\r")
        assert typist.end().status == 130
    assert saved.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(("value", "status"), [(0, 1), (3, 7)])
def test_the_exit_port(value: int, status: int, tmp_path: Path) -> None:
    with Typist(start(tmp_path, bytes((0xB0, value)) + bytes.fromhex("e6f4 ebfe"))) as typist:
        assert typist.end().status == status


def test_a_guest_that_halts_for_good(tmp_path: Path) -> None:
    with Typist(start(tmp_path, bytes.fromhex("fa f4 ebfd"), "--mmu", "native")) as typist:
        assert typist.end().status == 0


def test_modes_of_the_terminal_meanwhile(tmp_path: Path) -> None:
    with Typist(start(tmp_path)) as typist:
        wait_for_guest(typist)
        assert not termios.tcgetattr(typist.descriptor)[3] & (termios.ICANON | termios.ISIG)
        typist.type("\x01x")
        assert typist.end().echoes


@pytest.mark.parametrize("code", ["ebfe", "fbf4ebfd"])
def test_ctrl_a_is_heard_though_the_guest_does_not_read(code: str, tmp_path: Path) -> None:
    with Typist(start(tmp_path, bytes.fromhex(code))) as typist:
        wait_for_guest(typist)
        typist.type("some that it never reads\x01x")
        shown = typist.end()
    assert shown.status == 130 and shown.echoes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals, tmp_path: Path) -> None:
    with Typist(start(tmp_path)) as typist:
        wait_for_guest(typist)
        os.kill(typist.number, number)
        shown = typist.end()
    assert shown.status == 128 + number and shown.echoes
