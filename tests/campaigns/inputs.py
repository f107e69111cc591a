"""Mutated inputs through every parser of Quire: an answer, or a line that says what is wrong; no other exception.

``python tests/campaigns/inputs.py COUNT SEED`` makes COUNT mutants of valid files and words, in turn for each parser. A
mutant is a function of its seed, which a failure names.
"""

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from quire.arch import profile_by_name
from quire.cli.durations import DurationType
from quire.cli.lint import _read_vmcs
from quire.cli.numbers import NumberType
from quire.cli.sizes import SizeType
from quire.errors import FormatError, MisuseError
from quire.guest.load.elf import read_elf
from quire.memory.numa.policy import parse_nodes
from quire.report.shown import brief, shown
from quire.state.images import open_image, read_tables
from quire.study import load_costs
from quire.trace.formats import read_trace

sys.path += [str(Path(__file__).parents[1] / "cli"), str(Path(__file__).parents[1])]
from commands import example_files

__all__ = ["campaign", "mutant"]

HERE = Path(__file__).parent

#: Words that parsers get wrong: ends of numbers, of lines, of encodings, of nesting.
_EDGES = (
    b"0", b"-1", b"0x", b"0xffffffffffffffff", b"18446744073709551616", b"1e999", b"nan", b"9" * 5000, b"\0", b"\xff",
    b"\xc2\x9b", b"\n\n", b"[", b"[[", b"{", b"}", b'"', b"'", b"=", b"#", b",", b"true", b"\x7fELF", b"LiME",
    (1 << 63).to_bytes(8, "little"), (1 << 64).to_bytes(9, "little")[:8], b"\xff" * 8, bytes(8), b"4K", b"1Z", b"ms",
    b"[" * 600,
)  # fmt: skip
_REFUSALS = (FormatError, MisuseError, click.ClickException, OSError)


def mutant(seed: int, valid: bytes) -> bytes:
    """Return the mutant of `seed`: some of `valid` replaced, taken out, repeated or cut."""
    seeded = random.Random(seed)
    data = bytearray(valid)
    for _ in range(seeded.choice((1, 1, 1, 2, 3, 8))):
        at = seeded.randrange(len(data) + 1)
        until = min(len(data), at + seeded.choice((0, 1, 1, 4, 8, 64)))
        way = seeded.randrange(6)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << seeded.randrange(8)
        elif way == 1:
            data[at:until] = seeded.choice(_EDGES)
        elif way == 2:
            del data[at:until]
        elif way == 3:
            data[at:at] = data[at:until] * seeded.choice((1, 3, 200))
        elif way == 4:
            data[at:until] = seeded.randbytes(until - at)
        else:
            del data[at:]
    return bytes(data)


def _parsers(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Return a valid input of each parser, and what reads it from a file."""
    example_files(folder)
    costs = next((HERE.parents[1] / "src" / "quire" / "study").rglob("skylake-x.toml")).read_bytes()
    profile = next((HERE.parents[1] / "src" / "quire" / "arch").rglob("zen4.toml")).read_bytes()
    np.save(folder / "trace.npy", np.zeros((4, 2), np.uint64))

    def word(kind: click.ParamType) -> Callable[[Path], object]:
        return lambda path: kind.convert(path.read_bytes().decode("utf-8", "surrogateescape"), None, None)

    return {
        "profile.toml": (profile, lambda path: profile_by_name(str(path))),
        "costs.toml": (costs, lambda path: load_costs(str(path))),
        "tables.toml": ((folder / "tables.toml").read_bytes(), lambda path: read_tables(str(path))),
        "vmcs.toml": (b"guest_cr0 = 0x8000_0031\nguest_cr4 = 8192\n", lambda path: _read_vmcs(str(path))),
        "vmcs.json": (b'{"guest_cr0": "0x8000_0031", "guest_cr4": 8192}', lambda path: _read_vmcs(str(path))),
        "program": (Path("/bin/true").read_bytes()[:4096], lambda path: read_elf(str(path))),
        "dead.core": ((folder / "dead.core").read_bytes()[:8192], lambda path: open_image(str(path))),
        "ram.lime": ((folder / "ram.lime").read_bytes()[:8192], lambda path: open_image(str(path))),
        "trace.npy": ((folder / "trace.npy").read_bytes(), read_trace),
        "trace.din": (b"0 1000\n1 2000 word\n2 400000\n", read_trace),
        "size": (b"512M", word(SizeType())),
        "duration": (b"100ms", word(DurationType())),
        "number": (b"0x7fff_f000", word(NumberType())),
        "nodes": (b"0,2-3", lambda path: parse_nodes(path.read_bytes().decode("utf-8", "surrogateescape"))),
    }


def campaign(count: int, seed: int) -> Counter[str]:
    """Read `count` mutants from `seed` on; return how often each parser took or refused one."""
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parsers = list(_parsers(folder).items())
        for number in range(seed, seed + count):
            what, (valid, read) = parsers[number % len(parsers)]
            path = folder / f"mutant-{what}"
            path.write_bytes(mutant(number, valid))
            try:
                read(path)
                found[f"{what}: taken"] += 1
            except _REFUSALS as refused:
                text = str(refused.message if isinstance(refused, click.ClickException) else refused)
                line = shown(brief(text))  # as a user sees it
                assert line and "\n" not in line and len(line) < 2000, (number, what, line)
                found[f"{what}: refused"] += 1
            except Exception as error:
                raise AssertionError(f"mutant {number} of {what}: {type(error).__name__}: {error}") from error
    return found


if __name__ == "__main__":
    for what, times in sorted(campaign(int(sys.argv[1]), int(sys.argv[2])).items()):
        print(f"{times:8} {what}")
