"""Shadow against nested paging as page-table updates grow: measured counts, predicted cycles, where the lines cross.

Nested paging pays on each TLB miss, shadow paging on each update. Beside the crossing of the measured lines is that of
the closed formula: shadow is better while misses x (c_2D - c_1D) > updates x (c_exit + c_sync).
"""

from collections.abc import Callable, Sequence
from typing import Any

from quire.errors import MisuseError
from quire.machine import MMUS
from quire.study.costs import Costs
from quire.study.counts import Counts
from quire.study.predict import NOT_MODELLED, Prediction, predict_counts
from quire.study.update_guest import PAGES, READS, UpdateGuest
from quire.version import __version__

__all__ = ["FORMULA", "UPDATES", "crossing", "crossover_record", "formula_crossing"]

#: Updates per 1000 reads of a sweep, unless the caller gives others.
UPDATES = (0, 1, 2, 5, 10, 20)
FORMULA = "shadow is better while misses x (c_2D - c_1D) > updates x (c_exit + c_sync)"
_SCHEMA = 2
_ROUNDS = 20
_MOST_UPDATES = 1000
_NESTED, _SHADOW, _FLAT = "ept", "shadow", "native"
#: The exits of an update under shadow: the flush of the page unmapped, and the fault that fills it again.
_SYNC = ("INVLPG", "EXCEPTION_OR_NMI")
#: What was published on the same question, to be read beside the numbers here.
PUBLISHED = (
    "VMware, Performance Evaluation of Intel EPT Hardware Assist, 2009: EPT gains up to 48 % over shadow paging in "
    "MMU-intensive benchmarks, up to 600 % in microbenchmarks; TLB misses cost it more, which large pages recover."
)


def crossover_record(
    costs: Costs,
    *,
    updates: Sequence[int] = UPDATES,
    mmus: Sequence[str] = MMUS,
    done: Callable[[str, int], object] = lambda mmu, count: None,
) -> dict[str, Any]:
    """Run the sweep and return its record. `done` hears of each run that has ended.

    Raises MisuseError for updates that are not ascending numbers of 0 to 1000, or fewer than two.
    """
    _check(updates)
    measured: dict[str, dict[int, tuple[Counts, Prediction]]] = {}
    for mmu in mmus:
        guest = UpdateGuest(mmu, _ROUNDS)
        measured[mmu] = {}
        for count in updates:
            counts = guest.count(count)
            measured[mmu][count] = counts, predict_counts(counts, costs)
            done(mmu, count)
    rows = [_row(count, {mmu: measured[mmu][count] for mmu in mmus}) for count in updates]
    first = {mmu: measured[mmu][updates[0]] for mmu in mmus}
    found = None
    if _SHADOW in mmus and _NESTED in mmus:
        found = crossing(
            *([(row["updates"], row["cycles_per_read"][m]) for row in rows] for m in (_SHADOW, _NESTED))
        )
    return {
        "schema": _SCHEMA,
        "quire": __version__,
        "config": {
            "costs": costs.name,
            "reads": READS * _ROUNDS,
            "pages": PAGES,
            "guest_page": "4K",
            "host_page": "4K",
        },
        "mmus": list(mmus),
        "rows": rows,
        "crossing": {
            "measured": found,
            "formula": formula_crossing(first, costs),
            "sentence": _sentence(found, rows, mmus),
        },
        "formula": FORMULA,
        "published": PUBLISHED,
        "not_modelled": list(NOT_MODELLED),
    }


def crossing(ours: Sequence[tuple[int, float]], theirs: Sequence[tuple[int, float]]) -> float | None:
    """Return where two lines over the same points first cost the same, straight between points; None if nowhere."""
    before: tuple[int, float] | None = None
    for (x, mine), (_, other) in zip(ours, theirs, strict=True):
        gap = mine - other
        if gap == 0:
            return float(x)
        if before is not None and (gap > 0) != (before[1] > 0):
            return round(before[0] + (x - before[0]) * before[1] / (before[1] - gap), 4)
        before = x, gap
    return None


def formula_crossing(first: dict[str, tuple[Counts, Prediction]], costs: Costs) -> dict[str, float] | None:
    """Return the closed formula's terms and its crossing, from runs with the fewest updates; None without ept.

    A one-dimensional walk is one under shadow, or under native where there is no shadow: both read 4 entries.
    """
    flat = first.get(_SHADOW) or first.get(_FLAT)
    if _NESTED not in first or flat is None:
        return None
    nested = first[_NESTED]
    one, two = _walk_cycles(*flat), _walk_cycles(*nested)
    misses = nested[0].tlb_misses / _ROUNDS
    update = sum(costs.exit_cost(reason) for reason in _SYNC)
    exits = len(_SYNC) * costs.round_trip.value
    return {
        "misses": round(misses, 4),
        "c_1d": round(one, 4),
        "c_2d": round(two, 4),
        "c_exit": exits,
        "c_sync": update - exits,
        "updates": round(misses * (two - one) / update, 4),
    }


def _check(updates: Sequence[int]) -> None:
    if len(updates) < 2 or list(updates) != sorted(set(updates)):
        raise MisuseError(f"A sweep over {list(updates)} updates shows no line: give two or more, ascending")
    for count in (updates[0], updates[-1]):
        if not 0 <= count <= _MOST_UPDATES:
            raise MisuseError(f"{count} updates per {READS} reads cannot be swept: give 0 to {_MOST_UPDATES}")


def _row(updates: int, runs: dict[str, tuple[Counts, Prediction]]) -> dict[str, Any]:
    reads = READS * _ROUNDS
    return {
        "updates": updates,
        "counts": {
            mmu: {
                "walks": counts.walks,
                "references": {"guest": counts.guest_references, "host": counts.host_references},
                "exits": dict(counts.exits),
                "exits_per_update": round(sum(counts.exits.values()) / (updates * _ROUNDS), 4)
                if updates
                else None,
            }
            for mmu, (counts, _) in runs.items()
        },
        "cycles_per_read": {mmu: round(found.total / reads, 4) for mmu, (_, found) in runs.items()},
    }


def _walk_cycles(counts: Counts, prediction: Prediction) -> float:
    cycles = prediction.component("walk_guest") + prediction.component("walk_host")
    return cycles / max(1, counts.walks)


def _sentence(found: float | None, rows: Sequence[dict[str, Any]], mmus: Sequence[str]) -> str:
    absent = [mmu for mmu in (_SHADOW, _NESTED) if mmu not in mmus]
    if absent:
        return f"Nothing crosses: {' and '.join(absent)} is not among the Mmus that ran."
    last = rows[-1]["cycles_per_read"]
    ratio = last[_SHADOW] / last[_NESTED]
    end = f"at {rows[-1]['updates']} shadow takes {ratio:.2f} times the cycles of ept."
    if found is None:
        return f"Nothing crosses between {rows[0]['updates']} and {rows[-1]['updates']} updates; {end}"
    return f"shadow and ept cost the same at {found:.1f} updates per {READS} reads; {end}"
