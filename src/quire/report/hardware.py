"""The report of `quire validate hardware`: what was measured, what was predicted, and how far these are apart.

Takes the record of the study room; knows nothing of the model.
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any

from quire.report.quantity import format_count, format_size
from quire.report.sheet import Sheet, open_sheet

__all__ = ["render_hardware"]

_NO_COUNTERS = (
    "This machine's counters cannot be read here, so modelled walks are not compared with counted misses."
)


def render_hardware(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write a row a program, then what it means."""
    config, processor = record["config"], record["processor"]
    rows: Sequence[Mapping[str, Any]] = record["rows"]
    with open_sheet(file) as sheet:
        sheet.title(
            f"{processor['vendor']} family {processor['family']:#x} model {processor['model']:#x}; nearest profile "
            f"{config['profile']}, costs {config['costs']}"
        )
        sheet.text(
            f"{format_size(config['size'])} of memory, {format_count(config['accesses'])} accesses, medians of "
            f"{config['runs']} runs by turns; a cycle takes {config['cycle_ns']:.3f} ns"
        )
        latencies = ", ".join(f"{name} {cycles:.0f}" for name, cycles in config["latencies"].items())
        sheet.text(f"cycles of a reference to tables: {latencies}; {config['walkers']} walkers")
        sheet.text("")
        hosts = [one["host_page"] for one in record["hypotheses"]]
        sheet.table(_columns(hosts), [_row(row, hosts) for row in rows])
        sheet.text("ns an access; more: what 4 KiB pages cost more than 2 MiB, measured and predicted")
        for row in rows:
            if not row["measured"]["as_asked"]:
                share = 100 * row["measured"]["large_huge"]
                sheet.alarm(
                    f"{row['name']} was not given the pages it asked for ({share:.0f} % in 2 MiB pages): not compared"
                )
        sheet.text("")
        _counters(sheet, record)
        _published(sheet, record)
        sheet.text("")
        _verdict(sheet, record)


def _columns(hosts: Sequence[str | None]) -> list[tuple[str, str]]:
    names = ["4 KiB", "2 MiB", "ratio", "more"]
    for host in hosts:
        at = "" if host is None else f" {host}"
        names += [f"predicted{at}", "ratio", "off by"]
    return [("program", "left"), *((name, "right") for name in names)]


def _row(row: Mapping[str, Any], hosts: Sequence[str | None]) -> list[str]:
    measured = row["measured"]
    cells = [
        row["title"],
        *(f"{measured[name]:.2f}" for name in ("small_ns", "large_ns", "ratio", "extra_ns")),
    ]
    for one in row["predicted"]:
        error = "-" if one["error"] is None else f"{100 * one['error']:+.0f} %"
        cells += [f"{one['extra_ns']:.2f}", f"{one['ratio']:.2f}", error]
    return cells


def _counters(sheet: Sheet, record: Mapping[str, Any]) -> None:
    counters = record["counters"]
    if counters is None:
        sheet.text(_NO_COUNTERS)
        return
    for row in record["rows"]:
        counted = counters[row["name"]]
        modelled = ", ".join(f"{one['walks']:.3f}" for one in row["predicted"][:1])
        sheet.text(
            f"{row['title']}: {counted['small_misses']:.3f} misses of the data TLB an access with 4 KiB pages, "
            f"{counted['large_misses']:.3f} with 2 MiB; modelled walks with 4 KiB {modelled}"
        )


def _published(sheet: Sheet, record: Mapping[str, Any]) -> None:
    published = record["graph500"]
    for row in record["rows"]:
        if row["name"] == "bfs":
            share = 100 * (row["measured"]["ratio"] - 1)
            sheet.text(
                f"{row['title']} takes {share:.0f} % longer with 4 KiB pages here. Published: "
                f"{100 * published['native']:.0f} % native to {100 * published['virtual']:.0f} % in a guest "
                f"({published['source']})"
            )


def _verdict(sheet: Sheet, record: Mapping[str, Any]) -> None:
    if record["processor"]["virtual"]:
        each = ", ".join(f"{one['within']} of them if {one['host_page']}" for one in record["hypotheses"])
        sheet.text(
            "This machine is itself a guest: how large its host's pages are, nobody here knows. Each size is one "
            f"hypothesis for all programs: {each}."
        )
    host = f", if the host's pages are {record['host_page']}" if record["host_page"] is not None else ""
    text = (
        f"{record['within']} of {len(record['rows'])} predictions are within "
        f"{100 * record['config']['tolerance']:.0f} %{host}"
    )
    (sheet.highlight if record["enough"] else sheet.alarm)(text)
