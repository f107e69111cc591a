"""Two large real programs: a Python interpreter with imports, and sqlite3 with a table of 100,000 rows."""

from pathlib import Path

import pytest
from native import MMUS, compare, execute, need, python, quire_report, same
from sampling import some

pytestmark = pytest.mark.programs

SCRIPT = r'''
"""Fifty lines: imports, classes, generators, exceptions, text, numbers, files."""
import collections
import functools
import json
import os
import random
import re
import sys


class Account:
    def __init__(self, name, balance):
        self.name, self.balance = name, balance

    def pay(self, other, amount):
        if amount > self.balance:
            raise ValueError(f"{self.name} has {self.balance}, not {amount}")
        self.balance -= amount
        other.balance += amount


@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def primes():
    seen = []
    for n in range(2, 2000):
        if all(n % p for p in seen):
            seen.append(n)
            yield n


rng = random.Random(20240229)
accounts = [Account(f"a{i:02}", rng.randrange(1000)) for i in range(20)]
refused = 0
for _ in range(3000):
    giver, taker = rng.sample(accounts, 2)
    try:
        giver.pay(taker, rng.randint(1, 300))
    except ValueError as error:
        refused += 1
        last = str(error)
with open("accounts.json", "w") as file:
    json.dump({a.name: a.balance for a in accounts}, file, indent=1, sort_keys=True)
with open("accounts.json") as file:
    back = json.load(file)
words = re.findall(r"\b([a-z])(\w*?)(\1)?\b", " ".join(open(sys.argv[1]).read().split()))
print(sum(back.values()), refused, last, len(words), collections.Counter(w[0] for w in words).most_common(5))
print(fib(300), sum(primes()), rng.gauss(0, 1), sorted(os.listdir(".")))
sys.stderr.write("done: %.17g\n" % (sum(1 / n for n in range(1, 5000))))
sys.exit(7)
'''

BUILD = """
pragma journal_mode = delete;
create table t (id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, 'name-' || (i * 7919 % 100003), (i * 2654435761 % 1000003) / 7.0 from n;
create index by_name on t (name);
"""
QUERY = """
select count(*), sum(value), min(name), max(name) from t;
select id, value from t where name = 'name-777';
select substr(name, 6, 1) as d, count(*), round(avg(value), 9) from t group by d order by d;
update t set value = value + 1 where id % 1000 = 0;
delete from t where id between 500 and 600;
select count(*), total(value) from t;
pragma integrity_check;
select no_such_column from t;
"""


def _script(folder: Path) -> list[str | Path]:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "input.txt").write_text("the quick brown fox says that dad and mom eat an egg at noon " * 40)
    return [python(), "-S", "script.py", "input.txt"]


@pytest.mark.parametrize("mmu", some(MMUS, ("shadow",)))
def test_python_script(mmu: str, tmp_path: Path) -> None:
    argv = _script(tmp_path)
    expected = execute(argv, cwd=tmp_path)
    written = (tmp_path / "accounts.json").read_bytes()
    (tmp_path / "accounts.json").write_text("overwritten by the guest")
    assert expected.status == 7 and expected.stderr.startswith(b"done: ")
    outcome, record = quire_report(argv, "--mmu", mmu, cwd=tmp_path)
    same(outcome, expected)
    assert (tmp_path / "accounts.json").read_bytes() == written
    assert record["page_faults"] > 500


def test_python_with_site_and_an_uncaught_exception(tmp_path: Path) -> None:
    code = "import ssl, decimal, subprocess; print(decimal.Decimal(2).sqrt()); {}['lost']"
    record = compare([python(), "-c", code], cwd=tmp_path)
    assert record["outcome"]["status"] == 1


@pytest.mark.parametrize(
    ("mmu", "rows"), [("native", 10_000), ("ept", some(100_000, 20_000)), ("shadow", 1_000)]
)
def test_sqlite_builds_and_queries_a_table(mmu: str, rows: int, tmp_path: Path) -> None:
    sqlite3 = need("sqlite3")
    outcomes = {}
    for side in ("native", "guest"):
        folder = tmp_path / side
        folder.mkdir()
        for step, text in (("build", BUILD.format(rows=rows)), ("query", QUERY)):
            argv = [sqlite3, "file.db"]
            if side == "native":
                outcomes[side, step] = execute(argv, text.encode(), folder)
            else:
                outcomes[side, step], record = quire_report(
                    argv, "--mmu", mmu, stdin=text.encode(), cwd=folder
                )
                assert record["syscalls"]["pwrite64"] > 10
    for step in ("build", "query"):
        same(outcomes["guest", step], outcomes["native", step])
    assert (
        b"%d|" % rows in outcomes["guest", "query"].stdout and b"\nok\n" in outcomes["guest", "query"].stdout
    )
    assert b"no_such_column" in outcomes["guest", "query"].stderr
    pages = [execute([sqlite3, tmp_path / side / "file.db", ".sha3sum"]) for side in ("native", "guest")]
    assert pages[0] == pages[1]
