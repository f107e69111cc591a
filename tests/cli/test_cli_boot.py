"""`quire boot` with disks, on an image that is a Linux kernel to its loader, and ends at once."""

from __future__ import annotations

import fcntl
import json
import struct
from pathlib import Path

import pytest
from commands import Outcome, quire

#: mov al, 3; out 0xf4, al; hlt: the status is twice that and 1.
ENDS = bytes.fromhex("b003 e6f4 f4")
PREFERRED = 0x1000000


def bz_image(program: bytes) -> bytes:
    """Return a bzImage of one setup sector whose 64-bit entry is `program` (boot protocol 2.15)."""
    image = bytearray(0x400)
    image[0x1F1] = 1
    for at, form, value in (
        (0x1FE, "<H", 0xAA55),
        (0x201, "<B", 0x6A),
        (0x202, "<4s", b"HdrS"),
        (0x206, "<H", 0x20F),
        (0x22C, "<I", 0x7FFFFFFF),
        (0x236, "<H", 1),
        (0x238, "<I", 2047),
        (0x258, "<Q", PREFERRED),
        (0x260, "<I", 0x1000),
    ):
        struct.pack_into(form, image, at, value)
    return bytes(image) + bytes(0x200) + program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinuz").write_bytes(bz_image(ENDS))
    (tmp_path / "a.img").write_bytes(b"a" * 4096)
    (tmp_path / "b,c.img").write_bytes(b"b" * 1024)
    return tmp_path


def boot(folder: Path, *options: str) -> Outcome:
    return quire(folder, "boot", "--kernel", "vmlinuz", "--memory", "32M", *options)


def test_disks_are_in_the_report(folder):
    disks = ["--disk", "a.img", "--disk", "b,c.img,ro", "--disk", "./a.img"]
    outcome = boot(folder, *disks, "--report", "json", "-o", "-")
    assert (outcome.status, outcome.stderr) == (7, "")
    counts = {"read": 0, "written": 0, "flushes": 0, "trouble": None}
    assert json.loads(outcome.stdout)["disks"] == [
        {"file": "a.img", "mode": "temporary", "sectors": 8} | counts,
        {"file": "b,c.img", "mode": "read_only", "sectors": 2} | counts,
        {"file": "./a.img", "mode": "temporary", "sectors": 8} | counts,
    ]


def test_the_table_says_what_becomes_of_changes(folder):
    (folder / "d.img").write_bytes(bytes(2048))
    outcome = boot(folder, "--disk", "a.img,rw", "--disk", "b,c.img,ro", "--disk", "d.img", "-o", "-")
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines()]
    at = lines.index("disks, in sectors of 512 bytes")
    assert lines[at + 1 : at + 10] == [
        "a.img 8 changes are in the file",
        "read 0",
        "written 0 0 flushes",
        "b,c.img 2 read-only",
        "read 0",
        "written 0 0 flushes",
        "d.img 4 changes are dropped",
        "read 0",
        "written 0 0 flushes",
    ]


def test_without_disks_the_table_has_none(folder):
    assert "disks" not in boot(folder, "-o", "-").stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("none.img", "cannot open the disk none.img: No such file or directory"),
        ("a.img,rx", "cannot open the disk a.img,rx: No such file or directory"),
        (",rw", "cannot open the disk : No such file or directory"),
        (".", "the disk . is neither a file nor a block device: give one of these"),
        ("e.img", "the disk e.img has 0 bytes: give one of a sector, 512 bytes, or more"),
    ],
)
def test_a_disk_that_cannot_be_is_one_line(folder, option, said):
    (folder / "e.img").write_bytes(b"")
    outcome = boot(folder, "--disk", option)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (125, "", f"quire boot: {said}\n")


def test_a_disk_that_somebody_writes_is_one_line_and_free_afterwards(folder):
    with open(folder / "a.img", "r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcome = boot(folder, "--disk", "b,c.img,rw", "--disk", "a.img")
        said = "the disk a.img is locked: another guest or program may write it; end it first"
        assert (outcome.status, outcome.stderr) == (125, f"quire boot: {said}\n")
        fcntl.flock(other, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_SH)
        outcome = boot(folder, "--disk", "a.img,rw")
        said = "the disk a.img is locked: another guest or program has it; end it first"
        assert (outcome.status, outcome.stderr) == (125, f"quire boot: {said}\n")
    assert boot(folder, "--disk", "a.img,rw", "--report", "none").status == 7
    assert boot(folder, "--disk", "a.img,rw", "--disk", "a.img").status == 125


def test_a_balloon_is_in_the_report_and_leaves_something(folder):
    outcome = boot(folder, "--balloon", "16M", "--report", "json", "-o", "-")
    assert json.loads(outcome.stdout)["balloon"] == {"wanted": 4096, "given": 0, "frames_returned": 0}
    assert "asked for 4_096" in " ".join(boot(folder, "--balloon", "16M", "-o", "-").stdout.split())
    assert json.loads(boot(folder, "--json", "-o", "-").stdout)["balloon"] is None
    outcome = boot(folder, "--balloon", "32M")
    said = "a balloon of 0x2000000 bytes leaves nothing of 0x2000000: give a smaller one"
    assert (outcome.status, outcome.stderr) == (125, f"quire boot: {said}\n")
