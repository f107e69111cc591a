"""The programs as guests: what an access costs in translation with each size of page, and so what 4 KiB cost more.

A guest runs twice, with fewer and with more accesses, and the difference is the accesses alone: start-up, first touches
and the filling of memory are in both. An access that waits for the one before waits for its whole walk; independent
ones have as many walks under way as the processor has walkers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from quire.arch import CpuProfile
from quire.study.compare import compare_spec
from quire.study.configuration import Configuration
from quire.study.costs import Costs
from quire.study.counts import Counts
from quire.study.hardware.programs import LARGE, Program
from quire.study.predict import predict_counts
from quire.study.runner import run_all
from quire.study.spared import Spared

__all__ = ["Predicted", "extra_cycles", "predict_programs", "steady"]

#: Accesses of the shorter run: they fill the caches that the longer one finds full.
_WARM = 100_000
#: What a guest has beside the program's memory, for the program itself and its libraries.
_MORE_MEMORY = 256 << 20
_TRANSLATION = ("tlb_l2", "walk_guest", "walk_host")
_GUEST_PAGES = ("4K", "2M")


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of one program over host pages of one size, None on bare metal: cycles an access that 4 KiB pages cost more, and
    the walks and references an access with 4 KiB pages.
    """

    host_page: str | None
    extra_cycles: float
    walks: float
    references: float


def predict_programs(
    made: Path,
    programs: Sequence[Program],
    size: int,
    accesses: int,
    profile: CpuProfile,
    costs: Costs,
    host_pages: Sequence[str | None],
    jobs: int,
    done: Callable[[str], object],
) -> dict[str, list[Predicted]]:
    """Return of each program what is predicted over each of `host_pages`; None there is a machine without a host."""
    asked = [
        Configuration("native" if host is None else "ept", guest, host)
        for host in host_pages
        for guest in _GUEST_PAGES
    ]
    found = {}
    for program in programs:
        counted = _count(made, program, size, accesses, profile, asked, jobs)
        found[program.name] = [
            _predicted(program, host, counted[2 * at : 2 * at + 2], accesses, profile, costs)
            for at, host in enumerate(host_pages)
        ]
        done(f"{program.name} as a guest")
    return found


def _count(
    made: Path,
    program: Program,
    size: int,
    accesses: int,
    profile: CpuProfile,
    asked: Sequence[Configuration],
    jobs: int,
) -> list[Counts]:
    """Return the counts of the program's accesses alone under each configuration."""
    both = []
    for count in (_WARM, _WARM + accesses):
        command = [str(made), program.name, str(size), str(count), LARGE]
        spec = compare_spec(command, size + _MORE_MEMORY, 0, False, profile)
        both.append([Counts.of(run.record) for run in run_all(spec, asked, jobs=jobs)])
    return [steady(longer, shorter) for shorter, longer in zip(*both, strict=True)]


def steady(longer: Counts, shorter: Counts) -> Counts:
    """Return the events that the longer run of a program has more than the shorter; tables are as large in both."""
    events = {
        field.name: getattr(longer, field.name) - getattr(shorter, field.name)
        for field in fields(Counts)
        if isinstance(getattr(longer, field.name), int)
    }
    more, less = longer.spared, shorter.spared
    spared = Spared(more.reached - less.reached, more.entries - less.entries, more.nested - less.nested)
    exits = {reason: count - shorter.exits.get(reason, 0) for reason, count in longer.exits.items()}
    return replace(longer, **events, spared=spared, exits=exits)


def extra_cycles(
    program: Program, small: Counts, large: Counts, accesses: int, profile: CpuProfile, costs: Costs
) -> float:
    """Return the cycles of translation an access that `small` takes more than `large`."""
    each = []
    for counts in (small, large):
        found = predict_counts(counts, costs)
        each.append(sum(found.component(name) for name in _TRANSLATION) / accesses)
    overlap = profile.walkers if program.independent else 1
    return (each[0] - each[1]) / overlap


def _predicted(
    program: Program,
    host: str | None,
    pair: Sequence[Counts],
    accesses: int,
    profile: CpuProfile,
    costs: Costs,
) -> Predicted:
    small, large = pair
    return Predicted(
        host,
        extra_cycles(program, small, large, accesses, profile, costs),
        small.walks / accesses,
        (small.guest_references + small.host_references) / accesses,
    )
