"""Which configuration a comparison ends with, and the one sentence that says why.

The winner is the cheapest of the virtual configurations: native is what they are measured against. Where there is
none, it is the cheapest native one. The component that decides is the one in which the winner saves most against the
next best; with nothing to be compared with, the one in which it spends most over native. Where whole walks, the upper
bound, would make another one cheapest, a second sentence says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quire.report import format_cycles
from quire.study.predict import COMPONENTS

__all__ = ["verdict"]

#: Configurations that are nearer than this, the model does not tell apart: its figures are no better.
_NEAR = 0.05


def verdict(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the winner's name, the component that decides, sentences with the numbers, and who wins by the bound."""
    field = [row for row in rows if row["mmu"] != "native"] or list(rows)
    found = _decided(rows, field)
    winner = next(row for row in field if row["name"] == found["winner"])
    others = [int(row["cycles"]["total"]) for row in field if row is not winner]
    if any(0 < total - winner["cycles"]["total"] < _NEAR * total for total in others):
        found["sentence"] += (
            f" That is within {100 * _NEAR:.0f} %, less than figures that are assumptions can decide."
        )
    by_bound = min(field, key=lambda row: (int(row["bound"]["cycles"]), row is not winner))
    if by_bound is not winner:
        found["sentence"] += (
            f" Without walk caches, with every walk whole, it would be {by_bound['name']}: "
            f"{format_cycles(by_bound['bound']['cycles'])} cycles against "
            f"{format_cycles(winner['bound']['cycles'])} of {winner['name']}."
        )
    return {**found, "bound_winner": by_bound["name"]}


def _decided(rows: Sequence[Mapping[str, Any]], field: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the verdict by predicted cycles alone, on the configurations of `field`."""
    ranked = sorted(field, key=lambda row: int(row["cycles"]["total"]))
    winner = ranked[0]
    base = _base(rows, winner)
    alike = [row for row in ranked[1:] if row["cycles"]["total"] == winner["cycles"]["total"]]
    dearer = ranked[1 + len(alike) :]
    other = dearer[0] if dearer else base
    over = winner["overhead"]["over_native"]
    text = f"{winner['name']} takes {format_cycles(winner['cycles']['total'])} cycles"
    if alike:
        text += f", as {' and '.join(row['name'] for row in alike)} {'do' if len(alike) > 1 else 'does'}"
    if over is not None and winner is not base:
        text += f", {100 * over:.1f} % over native"
    if other is None or other is winner:
        name = max(COMPONENTS, key=lambda one: _part(winner, one))
        return _record(winner, name, f"{text}, most of them for {_what(winner, winner, name)}.")
    if dearer:
        name = max(COMPONENTS, key=lambda one: _part(other, one) - _part(winner, one))
        less = other["cycles"]["total"] - winner["cycles"]["total"]
        text += f", {format_cycles(less)} fewer than {other['name']}; what decides is {_what(winner, other, name)}"
        return _record(
            winner,
            name,
            f"{text}: {format_cycles(_part(winner, name))} cycles against {format_cycles(_part(other, name))}.",
        )
    name = max(COMPONENTS, key=lambda one: _part(winner, one) - _part(other, one))
    more = _part(winner, name) - _part(other, name)
    return _record(
        winner, name, f"{text}; most of that, {format_cycles(more)}, is {_what(winner, other, name)}."
    )


def _record(winner: Mapping[str, Any], component: str, sentence: str) -> dict[str, Any]:
    return {"winner": winner["name"], "component": component, "sentence": sentence}


def _base(rows: Sequence[Mapping[str, Any]], winner: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the native row with the winner's guest page."""
    same = (row for row in rows if row["mmu"] == "native" and row["guest_page"] == winner["guest_page"])
    return next(same, None)


def _part(row: Mapping[str, Any], component: str) -> int:
    value = row["cycles"][component]
    return sum(value.values()) if isinstance(value, Mapping) else int(value)


def _what(winner: Mapping[str, Any], other: Mapping[str, Any], component: str) -> str:
    """Return the component in words; of VM exits, the cause that differs most."""
    words = COMPONENTS[component]
    if component != "exits":
        return words
    mine, theirs = winner["cycles"]["exits"], other["cycles"]["exits"]
    if winner is other:
        theirs = {}
    causes = sorted({*mine, *theirs})
    if not causes:
        return words
    cause = max(causes, key=lambda one: abs(mine.get(one, 0) - theirs.get(one, 0)))
    counts = winner["exits"]["by_reason"].get(cause, 0), other["exits"]["by_reason"].get(cause, 0)
    if winner is other or other["mmu"] == "native":
        return f"{words}, {counts[0]:_} of them {cause}"
    return f"{words}, {cause} above all ({counts[0]:_} against {counts[1]:_})"
