"""What the benchmarks run: the same programs, inputs and order everywhere. Everything is seeded.

Each workload has a small variant, which shows that a benchmark works and says nothing about speed.
"""

import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

_MB = 1_000_000
_LOOP = """
n = {count}
seen = {{}}
total = 0
for i in range(n):
    key = (i * 7919) % 1009
    seen[key] = seen.get(key, 0) + i
    total += len(str(key)) ^ (i & 7)
print(total, sum(seen.values()))
"""
_SQL = """
pragma journal_mode = delete;
create table t (id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, 'name-' || (i * 7919 % 100003), (i * 2654435761 % 1000003) / 7.0 from n;
create index by_name on t (name);
select count(*), sum(value), min(name), max(name) from t;
select id, value from t where name = 'name-777';
select substr(name, 6, 1) as d, count(*), round(avg(value), 9) from t group by d order by d;
"""


@dataclass(frozen=True)
class Workload:
    """One command, its standard input and directory. `leaves` is a file that must not be there when it begins."""

    name: str
    argv: tuple[str, ...]
    stdin: bytes
    cwd: Path
    leaves: str | None = None

    def prepare(self) -> None:
        """Make the directory as it was before any run."""
        if self.leaves is not None:
            (self.cwd / self.leaves).unlink(missing_ok=True)


def need(program: str) -> str:
    """Return the path of `program`, or skip with the reason."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"this machine has no {program}")
    return found


def text(size: int) -> bytes:
    """Return `size` bytes of words drawn from a vocabulary, common ones more often: about as text compresses."""
    rng = random.Random(20240229)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(4000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    parts: list[str] = []
    length = 0
    while length < size:
        line = " ".join(rng.choices(words, weights, k=12)) + "\n"
        parts.append(line)
        length += len(line)
    return "".join(parts).encode()[:size]


def gzip(folder: Path, size: int) -> Workload:
    """gzip -c of `size` bytes of text."""
    name = f"text-{size}"
    shown = f"{size // _MB} MB" if size >= _MB else f"{size // 1000} kB"
    if not (folder / name).exists():
        (folder / name).write_bytes(text(size))
    return Workload(f"gzip of {shown}", (need("gzip"), "-c", name), b"", folder)


def python_loop(folder: Path, small: bool) -> Workload:
    """A loop over a dict, integers and strings in a real interpreter: what PATH has may be a shell script."""
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    code = _LOOP.format(count=20_000 if small else 200_000)
    return Workload("Python loop", (python, "-I", "-S", "-c", code), b"", folder)


def sqlite(folder: Path, small: bool) -> Workload:
    """sqlite3 builds a table of 100,000 rows with an index in a file, and queries it."""
    rows = 2_000 if small else 100_000
    argv = (need("sqlite3"), "bench.db")
    return Workload(f"sqlite3, {rows} rows", argv, _SQL.format(rows=rows).encode(), folder, "bench.db")
