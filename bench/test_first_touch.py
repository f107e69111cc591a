"""What the first touch of a page costs: a C guest touches 100,000 pages once each, under every Mmu.

The guest's page fault, which Quire's kernel plays, and the exits that the Mmu adds (one EPT violation under ept) are
all of it. Processor time of the whole command, less that of the same command with no page: start-up and the end are
not counted. Targets (issue 4), on a machine where CPython makes 20 million passes of ``while i < n: i += 1`` a
second: 25 microseconds a page under ept, 40 under shadow. The speed of that loop is measured in each round, in
a function and in a module, where names are looked up in a dictionary; figures are shown as they are on this machine,
normalised by either, and as multiples of an empty exit: a bare guest's CPUID through the whole loop.
"""

import statistics
import subprocess
import time
from pathlib import Path

import pytest
from measure import QUIRE, run_timed, table
from workloads import need

from quire.errors import MisuseError
from quire.guest.boot.bare import BareGuest
from quire.machine import GuestConfig

_SOURCE = Path(__file__).parent / "guests" / "first_touch.c"
_PAGES, _FEW_PAGES = 100_000, 4_000
_TARGETS = {"ept": 25, "shadow": 40}
_TARGET_LOOPS = 20.0
_LOOPS = 3_000_000
_LOOP = "i = 0\nwhile i < n: i += 1\n"
_EXITS = 20_000


def _accepted(mmu: str) -> bool:
    try:
        GuestConfig(mmu=mmu)
    except MisuseError:
        return False
    return True


_MMUS = [mmu for mmu in ("native", "ept", "shadow") if _accepted(mmu)]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guest."""
    made = tmp_path_factory.mktemp("guests") / "first_touch"
    subprocess.run([need("cc"), "-O2", "-static", "-o", made, _SOURCE], check=True)
    return made


def _function_speed() -> float:
    """Return million passes a second of the loop in a function."""
    started, i, n = time.process_time(), 0, _LOOPS
    while i < n:
        i += 1
    return _LOOPS / (time.process_time() - started) / 1e6


def _module_speed() -> float:
    """Return million passes a second of the loop in a module."""
    code = compile(_LOOP, "loop", "exec")
    started = time.process_time()
    exec(code, {"n": _LOOPS})
    return _LOOPS / (time.process_time() - started) / 1e6


def _exits_seconds(count: int) -> float:
    """Return the processor time of a bare guest that executes CPUID `count` times."""
    # mov esi, count; again: cpuid; dec esi; jnz again; hlt
    guest = BareGuest(b"\xbe" + count.to_bytes(4, "little") + bytes.fromhex("0fa2 ffce 75fa f4"))
    try:
        started = time.process_time()
        outcome = guest.run()
        took = time.process_time() - started
        assert outcome.exits["CPUID"] == count, outcome
        return took
    finally:
        guest.close()


def _empty_exit() -> float:
    """Return the microseconds of one exit that does nothing for memory."""
    return (_exits_seconds(_EXITS) - _exits_seconds(_EXITS // 20)) / (_EXITS - _EXITS // 20) * 1e6


def _page(guest: Path, mmu: str, verb: str, pages: int) -> float:
    """Return the microseconds of one first touch."""
    command = (QUIRE, "run", "--memory", "1G", "--report", "none", "--mmu", mmu, "--", str(guest))
    none = run_timed((*command, "0", verb)).cpu
    return (run_timed((*command, str(pages), verb)).cpu - none) / pages * 1e6


def _measure(guest: Path, pages: int, rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {}
    _empty_exit()  # compiled kernels are read from their cache
    for _ in range(rounds):
        figures = {"function": _function_speed(), "module": _module_speed(), "empty exit": _empty_exit()}
        for mmu in _MMUS:
            for verb in ("write", "read"):
                figures[f"{mmu}, {verb}"] = _page(guest, mmu, verb, pages)
        for name, figure in figures.items():
            taken.setdefault(name, []).append(figure)
    return taken


def test_first_touch(guest: Path, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    pages = _FEW_PAGES if small else _PAGES
    taken = benchmark.pedantic(_measure, (guest, pages, rounds), rounds=1)
    benchmark.extra_info["microseconds"] = taken
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    function, module, empty = (medians.pop(name) for name in ("function", "module", "empty exit"))
    shown = table(
        f"first touch of {pages} pages, microseconds each: median of {rounds}; the loop makes {function:.1f} M/s "
        f"in a function, {module:.1f} in a module",
        "",
        "here",
        "range",
        "function at 20 M/s",
        "module at 20 M/s",
        "empty exits",
        "target",
    )
    for name, figure in {"empty exit": empty, **medians}.items():
        goal = _TARGETS.get(name.split(",")[0])
        shown.add_row(
            name,
            f"{figure:.1f}",
            f"{min(taken[name]):.1f} to {max(taken[name]):.1f}",
            f"{figure * function / _TARGET_LOOPS:.1f}",
            f"{figure * module / _TARGET_LOOPS:.1f}",
            f"{figure / empty:.2f}",
            "" if goal is None else str(goal),
        )
