"""Mutation test of the walks: ``python tests/mutation/run.py [MODULE] [--every N]``.

Each mutant of the walk kernels and of their twin runs, without the compiler, against the comparison of the two and
the manual's cases. One that nothing notices survives: it must be listed with its reason in ``survivors.toml``.
Prints the score of each module; exit status 1 when fewer than 95 % are killed or a survivor is not listed.
"""

import os

os.environ["NUMBA_DISABLE_JIT"] = "1"

import argparse
import contextlib
import importlib.abc
import importlib.util
import io
import json
import multiprocessing
import random
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numba  # noqa: F401 - imported once, before the forks
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from mutants import Mutant, mutants  # noqa: E402

import quire.arch  # noqa: E402

MODULES = (
    "quire.paging._kernels",
    "quire.paging._kernels_ept",
    "quire.paging.reference",
    "quire.paging.reference_ept",
    "quire.paging.reference_rights",
)
SURVIVORS = HERE / "survivors.toml"
_SOURCE = Path(quire.arch.__file__).parent.parent.parent
_TIMEOUT = 240.0  # seconds; a mutant may loop for ever
_LEAST = 0.95


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a mutant's tree, everything else as ever."""

    def __init__(self, name: str, mutant: Mutant, path: Path) -> None:
        self.name, self.mutant, self.path = name, mutant, path

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.tree, str(self.path), "exec"), module.__dict__)


def _survives() -> bool:
    """Compare kernel and twin, then the manual's cases, then the long suites. True when nothing was noticed."""
    from quire.testing import Setting, Tally
    from quire.testing.random_world import random_access, random_world
    from quire.testing.suites import reserved_bits, walk_matrix
    from quire.testing.walks import walk_both

    np.seterr(all="ignore")
    rng = random.Random(1)
    for _ in range(2500):
        world = random_world(rng)
        both = walk_both(world, world.gva, random_access(rng))
        if both.kernel != both.twin:
            return False
    import pytest

    tests = HERE.parent / "paging"
    names = (
        *("test_walk_manual.py", "test_walk_modes.py", "test_walk_ept_controls.py", "test_walk_reasons.py"),
        "../tlb/test_retained.py",
    )
    if pytest.main(["-q", "-x", "-p", "no:cacheprovider", *(str(tests / name) for name in names)]):
        return False
    walk_matrix._SAMPLE = 1500  # type: ignore[attr-defined]
    for suite in (*walk_matrix.SUITES, *reserved_bits.SUITES):
        for case in suite.cases:
            tally = Tally()
            case.function(Setting(), tally)
            if tally.different:
                return False
    return True


def _child(name: str, mutant: Mutant, path: Path, sending: Any) -> None:
    sys.meta_path.insert(0, _Mutated(name, mutant, path))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            survived = _survives()
        except Exception:
            survived = False
    sending.send(survived)


def judge(name: str, mutant: Mutant) -> bool:
    """Return whether a mutant of module `name` survives. One that hangs or crashes is noticed."""
    path = _SOURCE / (name.replace(".", "/") + ".py")
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(name, mutant, path, sending), daemon=True)
    child.start()
    sending.close()
    try:
        survived = bool(receiving.recv()) if receiving.poll(_TIMEOUT) else False
    except EOFError:
        survived = False
    child.kill()
    child.join()
    return survived


def listed() -> dict[str, dict[str, str]]:
    """Return the known survivors: module to name to reason."""
    return tomllib.loads(SURVIVORS.read_text(encoding="utf-8")) if SURVIVORS.exists() else {}


def score(name: str, every: int, jobs: int) -> tuple[int, list[Mutant]]:
    """Judge each `every`-th mutant of a module; return how many there were and which survived.

    A sample leaves out those that are listed: to survive takes the longest, and that is known of them.
    """
    source = (_SOURCE / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    known = listed().get(name, {}) if every > 1 else {}
    chosen = [mutant for mutant in list(mutants(source))[::every] if mutant.name not in known]
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = list(pool.map(lambda mutant: judge(name, mutant), chosen))
    return len(chosen), [mutant for mutant, survived in zip(chosen, verdicts, strict=True) if survived]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES)
    parser.add_argument("--every", type=int, default=1, help="judge only each N-th mutant")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of lines")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    known, failed, records = listed(), False, []
    for name in options.modules:
        count, survivors = score(name, options.every, options.jobs)
        reasons = known.get(name, {})
        unlisted = [mutant.name for mutant in survivors if mutant.name not in reasons]
        killed = (count - len(survivors)) / count
        failed |= bool(unlisted) or killed < _LEAST
        records.append({"module": name, "mutants": count, "survivors": len(survivors), "unlisted": unlisted})
        if not options.json:
            print(
                f"{name}: {count - len(survivors)} of {count} mutants killed, {100 * killed:.1f} %",
                flush=True,
            )
            for mutant in survivors:
                print(
                    f"  {mutant.line}: {mutant.name}  - {reasons.get(mutant.name, 'NOT LISTED')}", flush=True
                )
    if options.json:
        print(json.dumps(records))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
