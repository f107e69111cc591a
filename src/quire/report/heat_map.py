"""Heat maps of TLBs and walk caches: for each structure, which sets are full and which were filled most.

A structure of one set has nothing to compare: it is a bar, its ways used of all that it has.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quire.report.picture import PAPER, draw, picture_style
from quire.report.quantity import format_count, format_size
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

__all__ = ["heat_map"]

_WIDTH, _PANEL, _BAR, _MARGIN = 8.0, 1.15, 0.32, 1.3  # inches
_COLOURS = "cividis"  # people with any kind of colour vision see the same order
_BAR_COLOUR = "#0072B2"
_MOST_TICKS = 16
_MOST_PARTED = 64  # sets
_SHARE = "share of the ways, or of the fills of the busiest set"


def heat_map(record: Mapping[str, Any], form: str = "svg") -> bytes:
    """Return the picture of the record of `quire tlb`: what was ever filled, a panel a structure with several sets."""
    record = cleaned(record)
    with_sets = [one for one in record["structures"] if one["set_use"] is not None]
    filled = [one for one in with_sets if any(one["set_use"]["fills"])]
    maps = [one for one in filled if len(one["set_use"]["fills"]) > 1]
    single = [one for one in filled if one not in maps]
    title = f"{_run_words(record)}: TLBs and walk caches by set"
    empty = ", ".join(one["name"] for one in with_sets if one not in filled)
    below = f"never filled: {empty or 'none'}" if with_sets else "no structure has sets: nothing to compare"
    with picture_style():
        from matplotlib.figure import Figure

        heights = [_PANEL] * len(maps) + [_BAR * len(single) + _PANEL / 2] * bool(single)
        figure = Figure(figsize=(_WIDTH, _MARGIN + sum(heights)))
        figure.suptitle(title, x=0.01, ha="left", fontsize="large")
        figure.supxlabel(below, x=0.01, ha="left", fontsize="medium")
        if heights:
            every: list[Axes] = list(
                figure.subplots(len(heights), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
            )
            for axes, one in zip(every[: len(maps)], maps, strict=True):
                colours = _panel(axes, one)
            if maps:
                every[len(maps) - 1].set_xlabel("set")
                _colour_bar(figure, colours, every[: len(maps)])
            if single:
                _single_sets(every[-1], single)
        return draw(
            figure, form, title, " ".join(f"{_words(one)}." for one in filled) or "Nothing was filled."
        )


def _panel(axes: "Axes", one: Mapping[str, Any]) -> "ScalarMappable":
    """Draw two rows of cells: ways used, of all that there are, and entries taken in, of the most of any set."""
    used, fills = one["set_use"]["used"], one["set_use"]["fills"]
    edges = range(len(used) + 1)
    for row, (values, most) in enumerate(((fills, max(fills)), (used, one["ways"]))):
        shares = [[100 * value / most for value in values]]
        colours = axes.pcolormesh(
            edges, [row, row + 1], shares, cmap=_COLOURS, vmin=0, vmax=100, **_lines(used)
        )
        axes.annotate(
            f"{_range(values)} a set",
            (len(values), row + 0.5),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks([0.5, 1.5], ["fills", f"used, of {format_count(one['ways'])}"])
    axes.tick_params(axis="y", length=0)
    numbers = range(0, len(used), max(1, len(used) // _MOST_TICKS))
    axes.set_xticks([number + 0.5 for number in numbers], map(str, numbers))
    axes.spines[:].set_visible(False)
    axes.set_title(_words(one))
    return colours


def _lines(sets: Sequence[int]) -> dict[str, Any]:
    """Return how cells are parted: by a line where they are wide enough for one."""
    return {"edgecolors": PAPER, "linewidth": 0.6} if len(sets) <= _MOST_PARTED else {}


def _colour_bar(figure: "Figure", colours: "ScalarMappable", every: Sequence["Axes"]) -> None:
    """Draw the scale that all panels share, as high as they are together."""
    bar = figure.colorbar(colours, ax=list(every), format=lambda value, _: f"{value:.0f} %", pad=0.08)
    bar.set_label(_SHARE if len(every) > 1 else _SHARE.replace(", ", ",\n"))
    bar.outline.set_visible(False)


def _single_sets(axes: "Axes", single: Sequence[Mapping[str, Any]]) -> None:
    """Draw a bar for each structure of one set: the ways used of all that it has."""
    for number, one in enumerate(single):
        axes.barh(number, 100, height=0.6, fill=False, edgecolor=_BAR_COLOUR)
        axes.barh(number, 100 * one["used"] / one["capacity"], height=0.6, color=_BAR_COLOUR)
        fills = sum(one["set_use"]["fills"])
        words = f"{format_count(one['used'])} of {format_count(one['capacity'])}, {format_count(fills)} fills"
        axes.annotate(words, (100, number), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(single)), [one["name"] for one in single])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 135)
    axes.set_xticks(range(0, 101, 25), [f"{share} %" for share in range(0, 101, 25)])
    axes.set_xlabel("ways used")
    axes.invert_yaxis()
    axes.set_title("structures of one set")


def _run_words(record: Mapping[str, Any]) -> str:
    """Return what ran, on what: the program, the processor, the Mmu, the pages of both dimensions."""
    config = record["config"]
    sizes = [format_size(size) for size in (config["guest_page"], config["host_page"]) if size]
    pages = f"pages {'GUEST/HOST ' * (len(sizes) > 1)}{'/'.join(sizes)}"
    return f"{record['program']['argv'][0]} on {config['profile']} under {config['mmu']}, {pages}"


def _words(one: Mapping[str, Any]) -> str:
    total = f"{format_count(one['used'])} of {format_count(one['capacity'])} entries used"
    return f"{one['name']}: {total}, {format_count(sum(one['set_use']['fills']))} fills"


def _range(values: Sequence[int]) -> str:
    least, most = format_count(min(values)), format_count(max(values))
    return least if least == most else f"{least} to {most}"
