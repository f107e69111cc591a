"""Mutated ELF files through the loader: a program, or one line that says why not; never an exception of another kind.

``python tests/campaigns/elf.py COUNT SEED [EXECUTED]`` loads COUNT mutants of a small program and has the first
EXECUTED run, each as a guest in a sandbox. A mutant is a function of its seed, which a failure names.
"""

import random
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path

from quire.arch import HWCAP
from quire.guest.kernel.process import GuestOptions, ProcessGuest
from quire.guest.load.launch import LaunchError, prepare
from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
from quire.machine import GuestConfig

sys.path.append(str(Path(__file__).parents[1] / "guest"))
from guest_fakes import FakeMachine

_HEADER, _PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_CODE_AT = 0x200
_EXIT = bytes.fromhex("b83c000000 31ff 0f05")  # exit(0)
#: Words that loaders get wrong: the ends of user space, of canonical addresses, of numbers, of pages.
_EDGES = (
    0, 1, 0x10, 0xFFF, 0x1000, 0x10000, 0x400000, 1 << 21, 1 << 30, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 46,
    0x7FFF_0000_0000, 0x7FFF_FFFF_E000, 0x7FFF_FFFF_F000, (1 << 47) - 1, 1 << 47, 1 << 63, (1 << 64) - 4096,
    (1 << 64) - 1,
)  # fmt: skip
_TYPES = (0, 1, 1, 1, 2, 3, 6, 0x6474E551, 0x6474E553)


def program(kind: int, entry: int, phdrs: list[tuple[int, ...]]) -> bytes:
    """Return a file of e_type `kind` with these program headers, one page with code that ends with status 0."""
    header = (b"\x7fELF\2\1\1", kind, 62, 1, entry, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0)
    data = _HEADER.pack(*header) + b"".join(_PHDR.pack(*phdr) for phdr in phdrs)
    return (data.ljust(_CODE_AT, b"\0") + _EXIT).ljust(0x1000, b"\xcc")


def mutant(seed: int) -> bytes:
    """Return the file of `seed`: a program of one to three segments, some of its words replaced by others."""
    seeded = random.Random(seed)
    kind = seeded.choice((2, 3))
    count = seeded.randint(1, 3)
    base = 0x400000 if kind == 2 else seeded.choice((0, 0x1000, 0x400000))
    phdrs = [[1, seeded.choice((5, 7, 7)), 0, base, base, 0x1000, 0x1000, 0x1000]]
    for n in range(1, count):
        at = base + 0x10000 * n
        phdrs.append([seeded.choice(_TYPES), seeded.randrange(8), 0x1000 * n, at, at, 0x1000, 0x2000, 0x1000])
    header = [b"\x7fELF\2\1\1", kind, 62, 1, base + _CODE_AT, 64, 0, 0, 64, 56, count, 0, 0, 0]
    for _ in range(seeded.choice((0, 1, 1, 2, 3, 8))):
        row = seeded.choice((header, *phdrs))
        column = seeded.randrange(1, len(row))
        row[column] = _word(seeded, row[column])
    for row, sizes in (
        (header, (0, 2, 2, 4, 8, 8, 8, 4, 2, 2, 2, 2, 2, 2)),
        *((p, (4, 4, *[8] * 6)) for p in phdrs),
    ):
        for column, size in enumerate(sizes):
            if size:
                row[column] &= (1 << 8 * size) - 1
    data = bytearray(_HEADER.pack(*header) + b"".join(_PHDR.pack(*row) for row in phdrs))
    data = data.ljust(_CODE_AT, b"\0") + _EXIT
    data = data.ljust(0x1000 * count, b"\xcc")
    for _ in range(seeded.choice((0, 0, 0, 1, 5))):
        data[seeded.randrange(_CODE_AT)] = seeded.getrandbits(8)
    return bytes(data[: seeded.choice((len(data), len(data), len(data), seeded.randrange(len(data))))])


def _word(seeded: random.Random, now: int) -> int:
    how = seeded.randrange(4)
    if how == 0:
        return seeded.choice(_EDGES)
    if how == 1:
        return now + seeded.choice((-4096, -1, 1, 8, 4096, 1 << 21, 1 << 46))
    return now ^ 1 << seeded.randrange(64) if how == 2 else seeded.getrandbits(seeded.randrange(1, 65))


def load(path: Path, seed: int) -> str:
    """Load the file of `seed` into a guest that never runs; return ``loaded`` or ``refused``."""
    path.write_bytes(mutant(seed))
    try:
        guest = ProcessGuest(
            FakeMachine(512), prepare([str(path)], None, "/"), {}, GuestOptions(seed, True, "/", HWCAP)
        )
        try:
            guest.start()
        finally:
            guest.close()
    except LaunchError as error:
        assert error.status in (125, 126, 127), f"seed {seed}: status {error.status}"
        assert "\n" not in str(error), f"seed {seed}: {error}"
        return "refused"
    return "loaded"


def execute(path: Path, seed: int) -> str:
    """Run the file of `seed` as a guest; return ``refused``, its status, or the signal that ended it."""
    path.write_bytes(mutant(seed))
    config = GuestConfig(memory=8 << 20, mmu=("native", "ept", "shadow")[seed % 3])
    try:
        session = open_session(RunSpec((str(path),), config, sandbox=True), {})
        return f"status {session.run()}"
    except LaunchError:
        return "refused"


def campaign(loads: int, seed: int, runs: int) -> tuple[Counter[str], Counter[str]]:
    """Load `loads` mutants and run `runs` of them, from `seed` on; return how often each came to what."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant"
        path.touch(0o700)
        loaded = Counter(load(path, seed + n) for n in range(loads))
        return loaded, Counter(execute(path, seed + n) for n in range(runs))


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    print(*campaign(numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0), sep="\n")
