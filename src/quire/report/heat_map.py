"""Heat maps of TLBs and walk caches as SVG: for each structure, which sets are full and which were filled most.

The same record gives the same bytes, as of every chart.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quire.report.chart import chart_style, to_svg
from quire.report.quantity import format_count
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["heat_map"]

_WIDTH, _PANEL, _TOP, _BOTTOM = 8.0, 0.95, 0.65, 0.55  # inches
_COLOURS = "cividis"  # people with any kind of colour vision see the same order
_MOST_TICKS = 16


def heat_map(record: Mapping[str, Any]) -> bytes:
    """Return the SVG of the record of `quire tlb`: a panel a structure that was ever filled, a column a set."""
    record = cleaned(record)
    with_sets = [one for one in record["structures"] if one["set_use"] is not None]
    shown = [one for one in with_sets if any(one["set_use"]["fills"])]
    with chart_style():
        from matplotlib.figure import Figure

        height = _TOP + _PANEL * len(shown) + _BOTTOM
        figure = Figure(figsize=(_WIDTH, height))
        figure.subplots_adjust(top=1 - _TOP / height, bottom=_BOTTOM / height, hspace=1.4)
        name, profile = record["program"]["argv"][0], record["config"]["profile"]
        title = f"{name}, {profile}: by set, dark is none, bright is the most"
        figure.text(0.125, 1 - 0.2 / height, title, va="top", fontsize="large")
        if shown:
            for axes, one in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
                _panel(axes, one)
        empty = ", ".join(one["name"] for one in with_sets if one not in shown)
        figure.text(0.125, 0.1 / height, f"never filled: {empty or 'none'}", va="bottom")
        return to_svg(figure)


def _panel(axes: "Axes", one: Mapping[str, Any]) -> None:
    """Draw two rows of cells: ways used, of all that there are, and entries taken in, of the most of any set."""
    used, fills = one["set_use"]["used"], one["set_use"]["fills"]
    edges = range(len(used) + 1)
    for row, (values, most) in enumerate(((fills, max(fills)), (used, one["ways"]))):
        axes.pcolormesh(edges, [row, row + 1], [values], cmap=_COLOURS, vmin=0, vmax=most)
        axes.text(len(values), row + 0.5, f" {_range(values)}", va="center")
    axes.set_yticks([0.5, 1.5], ["fills", f"of {format_count(one['ways'])} ways"])
    axes.tick_params(axis="y", length=0)
    numbers = range(0, len(used), max(1, len(used) // _MOST_TICKS))
    axes.set_xticks([number + 0.5 for number in numbers], map(str, numbers))
    axes.spines[:].set_visible(False)
    total = f"{format_count(one['used'])} of {format_count(one['capacity'])} entries used"
    axes.set_title(f"{one['name']}: {total}, {format_count(sum(fills))} fills", loc="left")


def _range(values: Sequence[int]) -> str:
    least, most = format_count(min(values)), format_count(max(values))
    return least if least == most else f"{least} to {most}"
