"""Charts as SVG: where the cycles of a comparison go, and cycles over page-table updates.

The same record gives the same bytes: names of elements are salted with a constant, and there is no date in the file.
Text stays text. No state of matplotlib outside the figure is used.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from quire.report.compare import COMPONENT_TITLES, component_cycles
from quire.report.quantity import format_cycles
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["chart_style", "compare_chart", "crossover_chart", "to_svg"]

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
_COLOURS = ("#999999", "#F0E442", "#56B4E9", "#0072B2", "#D55E00", "#E69F00", "#009E73")
_LINES = (("o", "#999999"), ("s", "#0072B2"), ("^", "#D55E00"))
_WIDTH, _BAR, _MARGIN = 8.0, 0.42, 1.5  # inches
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "quire",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.parse_math": False,
}


def compare_chart(record: Mapping[str, Any]) -> bytes:
    """Return the SVG of a comparison: a bar a configuration, stacked by component."""
    record = cleaned(record)
    rows: Sequence[Mapping[str, Any]] = record["rows"]
    with chart_style():
        figure, axes = _figure(_MARGIN + _BAR * len(rows))
        start = [0] * len(rows)
        for (component, title), colour in zip(COMPONENT_TITLES.items(), _COLOURS, strict=True):
            cycles = [component_cycles(row, component) for row in rows]
            if any(cycles):
                axes.barh(range(len(rows)), cycles, left=start, height=0.7, color=colour, label=title)
            start = [sum(pair) for pair in zip(start, cycles, strict=True)]
        for number, total in enumerate(start):
            axes.text(total, number, f" {format_cycles(total)}", va="center")
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, max(start) * 1.1)
        axes.xaxis.set_major_formatter(lambda value, _: format_cycles(value))
        axes.set_xlabel("predicted cycles")
        axes.set_title(f"{record['program']['argv'][0]}, x", loc="left")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.5 / (_BAR * len(rows))), ncols=4, frameon=False
        )
        return to_svg(figure)


def crossover_chart(record: Mapping[str, Any]) -> bytes:
    """Return the SVG of a crossover: a line an Mmu, and where shadow and nested cost the same."""
    record = cleaned(record)
    with chart_style():
        figure, axes = _figure(4.0)
        for mmu, (marker, colour) in zip(record["mmus"], _LINES, strict=False):
            points = [(row["updates"], row["cycles_per_read"][mmu]) for row in record["rows"]]
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=mmu, clip_on=False)
        crossing = record["crossing"]["measured"]
        if crossing is not None:
            axes.axvline(crossing, color="black", linestyle=":", linewidth=1)
            axes.text(crossing, axes.get_ylim()[1], f" {crossing:.1f}", va="top")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("page-table updates per 1000 reads")
        axes.set_ylabel("predicted cycles per read")
        axes.set_title(f"shadow against nested paging, costs {record['config']['costs']}", loc="left")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return to_svg(figure)


@contextmanager
def chart_style() -> Iterator[None]:
    """Use the same settings on every machine, whatever its user's are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_svg(figure: "Figure") -> bytes:
    """Return `figure` as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": "quire"})
    return file.getvalue()
