"""Heat maps of TLBs and walk caches as SVG: for each structure, which sets are full and which were filled most.

The same record gives the same bytes, as of every chart.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quire.report.chart import chart_style, to_svg
from quire.report.quantity import format_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["heat_map"]

_WIDTH, _PANEL, _MARGIN = 8.0, 0.95, 0.6  # inches
_COLOURS = "cividis"  # people with any kind of colour vision see the same order


def heat_map(record: Mapping[str, Any]) -> bytes:
    """Return the SVG of the record of `quire tlb`: a panel a structure, a column a set."""
    shown = [one for one in record["structures"] if one["set_use"] is not None]
    with chart_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, _MARGIN + _PANEL * max(len(shown), 1)))
        name, profile = record["program"]["argv"][0], record["config"]["profile"]
        figure.suptitle(f"{name}, {profile}: sets, dark the least, bright the most", x=0.125, ha="left")
        panels = figure.subplots(max(len(shown), 1), squeeze=False)[:, 0]
        for axes, one in zip(panels, shown, strict=False):
            _panel(axes, one)
        if not shown:
            panels[0].set_axis_off()
            panels[0].text(0, 0.5, "no structure has sets")
        figure.subplots_adjust(hspace=1.4)
        return to_svg(figure)


def _panel(axes: "Axes", one: Mapping[str, Any]) -> None:
    """Draw two rows of cells, each in colours of its own range: ways used, and entries taken in."""
    used, fills = one["set_use"]["used"], one["set_use"]["fills"]
    for row, (values, most) in enumerate(((fills, max(fills)), (used, one["ways"]))):
        axes.pcolormesh(
            range(len(values) + 1), [row, row + 1], [values], cmap=_COLOURS, vmin=0, vmax=max(most, 1)
        )  # fmt: skip
        axes.text(len(values), row + 0.5, f" {_range(values)}", va="center")
    axes.set_yticks([0.5, 1.5], ["fills", f"of {one['ways']} ways"])
    axes.tick_params(axis="y", length=0)
    axes.set_xticks(_ticks(len(used)), map(str, _ticks(len(used))))
    axes.spines[:].set_visible(False)
    total = f"{format_count(one['used'])} of {format_count(one['capacity'])} entries used"
    axes.set_title(f"{one['name']}: {total}, {format_count(sum(fills))} fills", loc="left")


def _range(values: Sequence[int]) -> str:
    least, most = format_count(min(values)), format_count(max(values))
    return least if least == most else f"{least} to {most}"


def _ticks(sets: int) -> list[int]:
    """Return the edges of sets that are numbered: at most nine, and the last."""
    step = max(1, sets // 8)
    return list(range(0, sets + 1, step))
