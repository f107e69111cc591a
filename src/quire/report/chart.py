"""Charts: where the cycles of a comparison go, and cycles over page-table updates."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quire.report.compare import COMPONENT_TITLES, component_cycles
from quire.report.picture import INK, draw, picture_style
from quire.report.quantity import format_cycles
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["compare_chart", "crossover_chart"]

# Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
_COLOURS = ("#999999", "#F0E442", "#56B4E9", "#0072B2", "#D55E00", "#E69F00", "#009E73")
_LINES = (("o", "#999999"), ("s", "#0072B2"), ("^", "#D55E00"))
_WIDTH, _BAR, _MARGIN, _HEAD = 8.0, 0.42, 1.4, 0.35  # inches
_BAR_HEIGHT = 0.7
#: How far the axis goes beyond the longest bar, so that what is written behind the bars is within the picture.
_ROOM = 1.55


def compare_chart(
    record: Mapping[str, Any], form: str = "svg", *, relative: bool = False, bound: bool = False
) -> bytes:
    """Return the picture of a comparison: a panel a processor, a bar a configuration, stacked by component.

    `relative` makes every bar as long as the next: shares of its own total, which a dear configuration does not
    flatten. `bound` marks what each would be with whole walks.
    """
    record = cleaned(record)
    panels = [
        [row for row in record["rows"] if row["profile"] == one["profile"]] for one in record["verdicts"]
    ]
    bars = len(record["rows"])
    title = f"{record['program']['argv'][0]} on {', '.join(record['config']['profiles'])}: {_pages(record)}"
    with picture_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, _MARGIN + _BAR * bars + _HEAD * len(panels)))
        figure.suptitle(title, x=0.01, ha="left", fontsize="large")
        sizes = [len(rows) for rows in panels]
        every: list[Axes] = list(
            figure.subplots(len(panels), squeeze=False, sharex=True, gridspec_kw={"height_ratios": sizes})[
                :, 0
            ]
        )
        most = max(_reach(row, bound) for row in record["rows"])
        for axes, rows in zip(every, panels, strict=True):
            _bars(axes, rows, relative, bound)
            axes.set_xlim(0, (100 if relative else most) * _ROOM)
            axes.set_title(f"{rows[0]['profile']}, costs {rows[0]['costs']}")
        every[-1].set_xlabel("per cent of the row's cycles" if relative else "predicted cycles")
        handles, labels = _keys(every)
        figure.legend(handles, labels, loc="outside lower center", ncols=4, markerscale=0.5)
        return draw(figure, form, title, " ".join(_row_words(row) for row in record["rows"]))


def _pages(record: Mapping[str, Any]) -> str:
    """Return the pairs of pages that ran, or native's pages where nothing else did."""
    rows = record["rows"]
    virtual = [row for row in rows if row["host_page"] is not None] or rows
    pages = dict.fromkeys(row["name"].split()[1] for row in virtual)
    return f"pages GUEST/HOST {', '.join(pages)}" if virtual is not rows else f"pages {', '.join(pages)}"


def _reach(row: Mapping[str, Any], bound: bool) -> int:
    return max(int(row["cycles"]["total"]), int(row["bound"]["cycles"]) * bound, 1)


def _bars(axes: "Axes", rows: Sequence[Mapping[str, Any]], relative: bool, bound: bool) -> None:
    """Draw the bars of one processor, its totals behind them."""
    numbers = range(len(rows))
    scale = [100 / _reach(row, False) if relative else 1 for row in rows]
    start = [0.0] * len(rows)
    for (component, title), colour in zip(COMPONENT_TITLES.items(), _COLOURS, strict=True):
        lengths = [component_cycles(row, component) * times for row, times in zip(rows, scale, strict=True)]
        if any(lengths):
            axes.barh(numbers, lengths, left=start, height=_BAR_HEIGHT, color=colour, label=title)
        start = [sum(pair) for pair in zip(start, lengths, strict=True)]
    ends = list(start)
    if bound and not relative:
        whole = [row["bound"]["cycles"] for row in rows]
        axes.plot(whole, numbers, "|", color=INK, markersize=16, label="bound: whole walks")
        ends = [max(pair) for pair in zip(start, whole, strict=True)]
    for number, (row, end) in enumerate(zip(rows, ends, strict=True)):
        axes.annotate(
            _words(row), (end, number), xytext=(6, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_yticks(numbers, [row["name"] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    if relative:
        axes.set_xticks(range(0, 101, 20), [f"{share} %" for share in range(0, 101, 20)])
        axes.spines["bottom"].set_bounds(0, 100)
    else:
        axes.xaxis.set_major_formatter(lambda value, _: format_cycles(value))


def _words(row: Mapping[str, Any]) -> str:
    """Return what is written behind a bar: the total, and what it is over native."""
    over = row["overhead"]["over_native"]
    percent = "" if over is None or row["mmu"] == "native" else f", {100 * over:+.1f} % over native"
    return f"{format_cycles(row['cycles']['total'])} cycles{percent}"


def _row_words(row: Mapping[str, Any]) -> str:
    return f"{row['profile']} {row['name']}: {_words(row)}."


def _keys(every: Sequence["Axes"]) -> tuple[list[Any], list[str]]:
    """Return what the legend shows: each label of any panel once."""
    found: dict[str, Any] = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def crossover_chart(record: Mapping[str, Any], form: str = "svg") -> bytes:
    """Return the picture of a crossover: a line an Mmu, and where shadow and nested cost the same."""
    record = cleaned(record)
    config = record["config"]
    pages = f"pages GUEST/HOST {config['guest_page']}/{config['host_page']}"
    title = f"shadow against nested paging: {pages}, costs {config['costs']}"
    with picture_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, 4.0))
        axes = figure.add_subplot()
        for mmu, (marker, colour) in zip(record["mmus"], _LINES, strict=False):
            points = [(row["updates"], row["cycles_per_read"][mmu]) for row in record["rows"]]
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=mmu, clip_on=False)
        crossing = record["crossing"]["measured"]
        if crossing is not None:
            axes.axvline(crossing, color=INK, linestyle=":", linewidth=1)
            axes.text(crossing, axes.get_ylim()[1], f" equal at {crossing:.1f}", va="top")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("page-table updates per 1000 reads")
        axes.set_ylabel("predicted cycles per read")
        axes.set_title(title)
        figure.legend(loc="outside right upper")
        return draw(figure, form, title, record["crossing"]["sentence"])
