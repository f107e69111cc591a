"""The working set of a run in a report: what was sampled, its largest and mean, a line of it over time, idle memory."""

from itertools import pairwise
from typing import Any

from quire.report.quantity import format_size

__all__ = ["sparkline", "working_set_rows"]

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 40


def working_set_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and note of each row of the section."""
    samples = found["samples"]
    line = sparkline([one["bytes"] for one in samples])
    rows = [
        (
            "samples",
            str(len(samples)),
            f"every {found['period'] * 1e3:g} ms of wall time: another run has others",
        ),
        ("maximum", format_size(found["maximum"]), "accessed between two samples"),
        ("mean", format_size(found["mean"]), ""),
        ("over time", f"{samples[-1]['time']:.3f} s", line),
    ]
    for age, size in found["idle"].items():
        name = "used in the last sample" if age == "0" else f"idle for {age} samples and more"
        rows.append((name, format_size(size), ""))
    return rows


def sparkline(values: list[int]) -> str:
    """Return `values`, not negative, as a line of at most 40 bars; several under one bar are its largest."""
    bars = min(len(values), _MOST_BARS)
    top = max(values, default=0) or 1
    edges = [n * len(values) // bars for n in range(bars + 1)] if bars else []
    peaks = [max(values[a:b]) for a, b in pairwise(edges)]
    return "".join(_BARS[min(peak * len(_BARS) // top, len(_BARS) - 1)] for peak in peaks)
