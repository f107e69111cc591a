"""Runs ``quire`` in this process, as a user would in a fresh directory, and makes the files that its examples name."""

import contextlib
import io
import os
import re
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quire.cli import main
from quire.state.images import ImageMemory, MemoryRange, ProcessorState, read_tables, write_core
from quire.state.images.processor import SegmentState

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs" / "reference"
_BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^```text (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """What a user sees."""

    status: int
    stdout: str
    stderr: str


def quire(folder: Path, *argv: str) -> Outcome:
    """Run ``quire ARGV`` in `folder`."""
    out, err = io.StringIO(), io.StringIO()
    before, cwd, environment = sys.argv, os.getcwd(), dict(os.environ)
    os.chdir(folder)
    sys.argv = ["quire", *argv]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    finally:
        sys.argv = before
        os.chdir(cwd)
        for name in (
            os.environ.keys() - environment.keys()
        ):  # what an importing command sets for its own process
            del os.environ[name]
    return Outcome(status, out.getvalue(), err.getvalue())


def refused(folder: Path, *argv: str) -> str:
    """Run a command that must be refused with one line; return that line."""
    outcome = quire(folder, *argv)
    assert outcome.status == 125, outcome
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr.rstrip("\n")


def blocks(name: str) -> list[tuple[str, str]]:
    """Return the console and TOML blocks of a reference document."""
    return _BLOCK.findall((DOCUMENTS / f"{name}.md").read_text())


def write_blocks(name: str, folder: Path) -> None:
    """Write the files of a document: TOML, whose first lines are comments with their names, and text with a name."""
    for file, body in _FILE.findall((DOCUMENTS / f"{name}.md").read_text()):
        (folder / file).write_text(body)
    for kind, body in blocks(name):
        if kind == "toml":
            (folder / body.splitlines()[0].removeprefix("# ")).write_text(body)


def lime(ranges: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a LiME image."""
    return b"".join(
        struct.pack("<4sIQQ8x", b"EMiL", 1, start, start + len(content) - 1) + content
        for start, content in ranges
    )


def contents(memory: ImageMemory) -> list[tuple[int, bytes]]:
    """Return the ranges of an image with their bytes."""
    found = []
    for start, length in memory.ranges:
        content = memory.read(start, length)
        assert content is not None
        found.append((start, bytes(content)))
    return found


PROCESSOR = ProcessorState(
    {"rip": 0x401000, "rsp": 0x7000, "rflags": 2, "cr0": 0x8001_0033, "cr2": 0x1234, "cr3": 0x1000, "cr4": 0x20},
    {"cs": SegmentState(selector=0x33), "fs": SegmentState(base=0x1122_3344)},
)  # fmt: skip


def example_files(folder: Path) -> None:
    """Write every file that help texts and documents name."""
    for name in ("walk", "lint", "profiles", "explain"):
        write_blocks(name, folder)
    tables = contents(read_tables(str(folder / "tables.toml")).memory)
    nested = contents(read_tables(str(folder / "nested.toml")).memory)[1:]
    with open(folder / "dead.core", "wb") as file:
        write_core(file, [MemoryRange(start, memoryview(one)) for start, one in tables], [PROCESSOR])
    (folder / "ram.lime").write_bytes(lime(tables))
    (folder / "host.lime").write_bytes(lime(nested))
