"""Recorded streams of accesses: real programs under valgrind's lackey, random ones from a seed."""

import os
import subprocess
import tempfile
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from workloads import Workload, need

from quire.arch import Side
from quire.trace import records

__all__ = ["random_pages", "record"]

Words = npt.NDArray[np.uint64]
_SIDES = {b"I ": (0,), b" L": (1,), b" S": (2,), b" M": (1, 2)}
_SIDE_SHIFT, _GVA = 60, (1 << 57) - 1


def record(workload: Workload, skip: int, count: int, pipe: Path) -> Words:
    """Return `count` accesses of a program behind the first `skip`: fetches, loads and stores as lackey traces them."""
    workload.prepare()
    os.mkfifo(pipe)
    command = [need("valgrind"), "--tool=lackey", "--trace-mem=yes", f"--log-file={pipe}", *workload.argv]
    with tempfile.TemporaryFile() as given:
        given.write(workload.stdin)
        given.seek(0)
        process = subprocess.Popen(
            command, stdin=given, cwd=workload.cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    found: list[int] = []
    with pipe.open("rb") as lines:
        for line in islice(lines, skip, None):
            sides = _SIDES.get(line[:2])
            if sides is not None and b"," in line:
                gva = int(line[3 : line.index(b",")], 16) & _GVA
                found += [side << _SIDE_SHIFT | gva for side in sides]
                if len(found) >= count:
                    break
        process.kill()
    process.wait()
    pipe.unlink()
    return np.array(found[:count], np.uint64)


def random_pages(pages: int, count: int) -> Words:
    """Return `count` loads of pages drawn at random from `pages`."""
    drawn = np.random.default_rng(1).integers(0, pages, count, dtype=np.uint64)
    return records(drawn << np.uint64(12), Side.LOAD)
