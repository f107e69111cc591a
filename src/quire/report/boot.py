"""The report of a boot: one plain record, as a table for people. Knows nothing of the model."""

import os
from typing import IO, Any

from quire.report.quantity import format_count, format_size
from quire.report.run import (
    counted_rows,
    execution_rows,
    flush_text,
    memory_rows,
    print_sections,
    shadow_rows,
    translation_rows,
)
from quire.report.shown import cleaned

__all__ = ["render_boot"]

#: What became of what the guest wrote, by a disk's mode.
_FATES = {
    "temporary": "changes are dropped",
    "read_only": "read-only",
    "writable": "changes are in the file",
}


def render_boot(record: dict[str, Any], file: IO[str]) -> None:
    """Write the record to `file` as aligned text, coloured if `file` is a terminal that wants colour."""
    record = cleaned(record)
    sections = [
        (_title(record), _outcome(record)),
        ("execution", execution_rows(record)),
        ("translation", translation_rows(record)),
        ("memory", memory_rows(record)),
    ]
    if record["memory"]["shadow"] is not None:
        sections.append(("shadow", shadow_rows(record["memory"]["shadow"])))
    if record["balloon"] is not None:
        sections.append(("balloon, in pages of 4 KiB", _balloon(record["balloon"])))
    if record["disks"]:
        sections.append(("disks, in sectors of 512 bytes", _disks(record["disks"])))
    for title, name in (
        ("VM exits", "exits"),
        ("delivered through the guest's IDT", "delivered"),
        ("invalidations", "invalidations"),
    ):
        if record[name]:
            sections.append((title, counted_rows(record[name])))
    if len(record["vcpus"]) > 1:
        sections.append(("vCPUs", _vcpus(record["vcpus"])))
    print_sections([(title, rows) for title, rows in sections if rows], file)
    if record["flushes"] is not None:
        file.write(flush_text(record["flushes"]))


def _title(record: dict[str, Any]) -> str:
    config = record["config"]
    pages = "" if not config["host_page"] else f", pages of {format_size(config['host_page'])} below"
    kernel = os.path.basename(record["boot"]["kernel"])
    return f"quire boot: {kernel} under {config['mmu']}{pages}, {config['profile']}"


def _outcome(record: dict[str, Any]) -> list[tuple[str, str, str]]:
    outcome, times = record["outcome"], record["time"]
    rows = [
        ("status", str(outcome["status"]), outcome["how"]),
        ("guest time", f"{outcome['guest_nanoseconds'] / 1e9:.3f} s", "by the guest's own clock"),
        ("wall time", f"{times['wall_seconds']:.3f} s", f"of it {times['setup_seconds']:.3f} s set-up"),
    ]
    if outcome["reason"] is not None:
        rows.insert(1, ("reason", "", outcome["reason"]))
    return rows


def _balloon(balloon: dict[str, int]) -> list[tuple[str, str, str]]:
    returned = f"{format_count(balloon['frames_returned'])} frames went back to the host meanwhile"
    return [
        ("asked for", format_count(balloon["wanted"]), ""),
        ("given", format_count(balloon["given"]), returned),
    ]


def _disks(disks: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for one in disks:
        rows.append((os.path.basename(one["file"]), format_count(one["sectors"]), _FATES[one["mode"]]))
        rows.append(("  read", format_count(one["read"]), ""))
        rows.append(("  written", format_count(one["written"]), f"{format_count(one['flushes'])} flushes"))
        if one["trouble"] is not None:
            rows.append(("  stopped", "", f"its driver broke a rule: {one['trouble']}"))
    return rows


def _vcpus(vcpus: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for number, one in enumerate(vcpus):
        count = "-" if one["instructions"] is None else format_count(one["instructions"])
        used = f"{format_count(one['walks'])} walks, {format_count(one['exits'])} exits"
        rows.append((f"{number}: instructions", count, used))
    return rows
