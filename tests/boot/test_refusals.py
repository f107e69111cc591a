"""What cannot be booted ends in one line that names it, its bound and the next step; nothing is loaded for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE
from small_bzimage import small_bzimage

import quire
from quire.guest.load.launch import LaunchError

pytestmark = pytest.mark.timeout(PATIENCE)

HALT = bytes.fromhex("fa f4 ebfd")
_LARGE = "is larger than the guest's memory of 64 MiB: give a smaller one, or more --memory"


@pytest.fixture
def halt(tmp_path: Path) -> Path:
    """Return a kernel that halts for good."""
    place = tmp_path / "halt"
    place.write_bytes(small_bzimage(HALT))
    return place


def boot(*options: str | bytes | Path) -> tuple[int, str]:
    """Run ``quire boot`` with 64 MiB; return its status and what it said, beside the report."""
    command = [sys.executable, "-P", "-m", "quire", "boot", "--memory", "64M", "--report", "none", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    assert not done.stdout
    return done.returncode, done.stderr.decode()


def sparse(place: Path, size: int) -> Path:
    """Return a file of `size` bytes that takes no room."""
    with place.open("wb") as file:
        file.truncate(size)
    return place


@pytest.mark.parametrize("name", ["large", "/dev/zero"])
def test_files_larger_than_memory(name: str, halt: Path, tmp_path: Path) -> None:
    sparse(tmp_path / "large", 1 << 40)
    large = tmp_path / name
    assert boot("--kernel", large) == (125, f"quire boot: the kernel {large} {_LARGE}\n")
    assert boot("--kernel", halt, "--initrd", large) == (125, f"quire boot: the initrd {large} {_LARGE}\n")


def test_a_kernel_that_is_cut_off(tmp_path: Path) -> None:
    place, whole = tmp_path / "kernel", bytearray(small_bzimage(HALT))
    whole[0x1F4:0x1F8] = (0x1000).to_bytes(4, "little")
    place.write_bytes(whole)
    with pytest.raises(LaunchError) as error:
        quire.boot(place)
    assert str(error.value) == f"{place} is cut off: it has 1540 bytes of 66560: copy or unpack it again"
    place.write_bytes(small_bzimage(HALT)[:0x300])
    with pytest.raises(LaunchError, match="is cut off: it has 768 bytes of 1024"):
        quire.boot(place)


def test_command_lines_of_any_bytes(halt: Path) -> None:
    with quire.boot(halt, append=os.fsdecode(b"a=\xff\xc3\xa4")) as guest:
        guest.run()
        assert guest.ended or guest.report()["outcome"]["how"] == "halted"
    with pytest.raises(LaunchError) as error:
        quire.boot(halt, append="a\0b")
    assert str(error.value) == "The command line 'a\\x00b' has a NUL, which would end it: append none"


def test_a_command_line_that_is_no_text_in_the_report(halt: Path) -> None:
    assert boot("--kernel", halt, "--append", b"\xff\xfe", "--json", "-o", os.devnull) == (0, "")
    assert boot("--kernel", halt, "--append", b"\xff\xfe", "--report", "table", "-o", os.devnull) == (0, "")


def test_too_many_disks(halt: Path, tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 4096)
    assert boot("--kernel", halt, *["--disk", disk] * 16) == (0, "")
    assert boot("--kernel", halt, *["--disk", disk] * 17) == (
        125,
        "quire boot: 17 disks are too many: give at most 16\n",
    )


@pytest.mark.parametrize("date", ["1969-12-31T23:59:59", "3000-01-01", "0001-01-01T00:00:00+05:00"])
def test_dates_that_no_clock_shows(date: str, halt: Path) -> None:
    status, said = boot("--kernel", halt, "--date", date)
    assert status == 125 and said.count("\n") == 1
    assert date in said and ("is not in the years 1970 to 2999" in said or "is no date" in said)
