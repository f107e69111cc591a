"""The report of a run: one plain record, as a table for people or as JSON for programs.

Takes the record that a session made (see docs/reference/run-report.md for its fields); knows nothing of the model.
"""

import os
from collections.abc import Sequence
from typing import IO, Any

from quire.report.flushes import render_advice, render_findings
from quire.report.numa import numa_rows
from quire.report.page import PAGE_WIDTH, open_console
from quire.report.quantity import format_count, format_size
from quire.report.shown import cleaned
from quire.report.working_set import working_set_rows

Rows = list[tuple[str, str, str]]

__all__ = [
    "counted_rows",
    "execution_rows",
    "flush_text",
    "memory_rows",
    "print_sections",
    "render_table",
    "shadow_rows",
    "translation_rows",
]

_NOT_COUNTED = "not counted (--detail full counts it)"
_NAME_WIDTH, _VALUE_WIDTH = 30, 15
_MOST_PROCESSES = 30  # of which the table tells


def render_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write the record to `file` as aligned text, coloured if `file` is a terminal that wants colour."""
    record = cleaned(record)
    print_sections(_sections(record), file)
    if record.get("flushes") is not None:
        file.write(flush_text(record["flushes"]))


def print_sections(sections: Sequence[tuple[str, Rows]], file: IO[str]) -> None:
    """Write sections of aligned rows, coloured if `file` is a terminal that wants colour."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = open_console(file, PAGE_WIDTH)
    with console.capture() as captured:
        for title, rows in sections:
            console.print(Text(title, "bold"))
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
            table.add_column(min_width=_NAME_WIDTH, no_wrap=True)
            table.add_column(justify="right", no_wrap=True, min_width=_VALUE_WIDTH)
            table.add_column(style="dim", overflow="fold")
            for name, value, note in rows:
                table.add_row(*map(Text, (name, value, note)))
            console.print(Padding(table, (0, 0, 0, 2)))
    file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def flush_text(flushes: dict[str, Any]) -> str:
    """Return what a check of flushes found: paragraphs, not columns."""
    findings, advice = flushes["findings"], flushes["advice"]
    text = f"stale translations: {len(findings) or 'none'}\n" + render_findings(findings)
    if advice:
        text += "flushes that nothing needed\n" + render_advice(advice)
    return text


def _sections(record: dict[str, Any]) -> list[tuple[str, Rows]]:
    sections = [
        (_title(record), _outcome(record)),
        ("execution", execution_rows(record)),
        ("translation", translation_rows(record)),
        ("memory", memory_rows(record)),
    ]
    if record["memory"].get("shadow") is not None:
        sections.append(("shadow", shadow_rows(record["memory"]["shadow"])))
    if record.get("numa") is not None:
        sections.append(("NUMA", numa_rows(record["numa"])))
    if record.get("working_set") is not None:
        sections.append(("working set", working_set_rows(record["working_set"])))
    if record["exits"]:
        sections.append(("VM exits", counted_rows(record["exits"])))
    if record["syscalls"]:
        sections.append(("system calls", counted_rows(record["syscalls"])))
    tasks = record.get("tasks")
    if tasks is not None and (len(tasks["processes"]) > 1 or tasks["processes"][0]["threads"] > 1):
        sections.append(("tasks", _tasks(tasks)))
    if len(record.get("vcpus") or ()) > 1:
        sections.append(("vCPUs", _vcpus(record["vcpus"])))
    if record["unimplemented"]:
        sections.append(("not implemented (ENOSYS)", counted_rows(record["unimplemented"])))
    return sections


def _tasks(tasks: dict[str, Any]) -> Rows:
    """Return a row for each process, indented below its parent."""
    rows = [("switches", format_count(tasks["switches"]), "of a vCPU from one task to another")]
    depth: dict[int, int] = {}
    for one in tasks["processes"][:_MOST_PROCESSES]:
        depth[one["pid"]] = level = min(depth.get(one["parent"], -1) + 1, 6)
        how = one["signal"] or (f"status {one['status']}" if one["status"] is not None else "was running")
        threads = f", {one['threads']} threads" if one["threads"] > 1 else ""
        used = f"{format_count(one['walks'])} walks, {format_count(one['page_faults'])} page faults"
        if one["tlb_misses"] is not None:
            used = f"{format_count(one['tlb_misses'])} TLB misses, {used}"
        used += f", {format_size(one['peak'])} at most"
        name = f"{'  ' * level}{one['pid']} {os.path.basename(one['command'][0])}"
        rows.append((name[:_NAME_WIDTH], f"{one['time'] / 1e6:.3f} ms", f"{how}, {used}{threads}"))
    more = len(tasks["processes"]) - _MOST_PROCESSES + tasks["left_out"]
    if more > 0:
        rows.append(("", "", f"and {format_count(more)} others: --json has them"))
    return rows


def _vcpus(vcpus: Sequence[dict[str, Any]]) -> Rows:
    """Return a row for each vCPU."""
    rows = []
    for number, one in enumerate(vcpus):
        misses = "" if one["tlb_misses"] is None else f"{format_count(one['tlb_misses'])} TLB misses, "
        told = one["shootdowns"]
        used = f"{misses}{format_count(one['walks'])} walks, {format_count(one['switches'])} switches"
        shot = f"shootdowns {format_count(told['sent'])} sent, {format_count(told['received'])} received"
        count = "-" if one["instructions"] is None else format_count(one["instructions"])
        rows.append((f"{number}: instructions", count, f"{used}, {shot}"))
    return rows


def _title(record: dict[str, Any]) -> str:
    config = record["config"]
    pages = format_size(config["guest_page"]).replace(" ", "")
    if config["host_page"]:
        pages += " x " + format_size(config["host_page"]).replace(" ", "")
    name = record["program"]["argv"][0]
    return f"quire run: {name} under {config['mmu']}, {pages} pages, {config['profile']}"


def _outcome(record: dict[str, Any]) -> Rows:
    outcome, times = record["outcome"], record["time"]
    how = outcome["signal"] or ("exited" if outcome["status"] == 0 else "exited with an error")
    rows = [
        ("status", str(outcome["status"]), how),
        ("wall time", f"{times['wall_seconds']:.3f} s", f"of it {times['setup_seconds']:.3f} s set-up"),
    ]
    if outcome["partial"]:
        rows.insert(1, ("partial", "yes", "the guest was stopped from outside: counts end there"))
    walls = record["config"].get("walls")
    if walls:
        rows.append(("walls of the sandbox", str(len(walls)), ", ".join(walls)))
    return rows


def execution_rows(record: dict[str, Any]) -> Rows:
    """Return what was executed."""
    accesses = record["accesses"]
    if accesses is None:
        instructions = record["instructions"]
        counted = ("-", _NOT_COUNTED) if instructions is None else (format_count(instructions), "")
        return [("instructions", *counted), ("accesses", "-", _NOT_COUNTED)]
    return [
        ("instructions", format_count(record["instructions"]), ""),
        ("reads", format_count(accesses["read"]), ""),
        ("writes", format_count(accesses["write"]), ""),
        ("fetches", format_count(accesses["fetch"]), "one an instruction"),
    ]


def translation_rows(record: dict[str, Any]) -> Rows:
    """Return look-ups, walks and faults."""
    rows: Rows = []
    tlb = record["tlb"]
    if tlb is None:
        rows.append(("TLB", "-", _NOT_COUNTED))
    else:
        first = {"l1d": "L1 data TLB misses", "l1i": "L1 code TLB misses"}
        for name, counts in tlb.items():
            title = first.get(name) or f"{name.upper()} TLB misses"
            hits, misses = counts["hits"], counts["misses"]
            share = f"{100 * misses / (hits + misses):.3f} % of " if hits + misses else ""
            rows.append((title, format_count(misses), f"{share}{format_count(hits + misses)} look-ups"))
    walks = record["walks"]
    per_walk, references = walks["references_per_walk"], walks["references"]
    what = f"for TLB misses; {format_count(walks['to_set_dirty'])} of them to set a dirty flag"
    if tlb is None:
        what = "for misses of the engine's own TLB, not of a modelled one"
    tables = "shadow" if record["config"]["mmu"] == "shadow" else "guest"
    rows += [
        ("page walks", format_count(walks["count"]), what),
        ("references per walk", f"{per_walk['guest'] + per_walk['host']:.2f}", ""),
        (f"  in {tables} tables", f"{per_walk['guest']:.2f}", f"{format_count(references['guest'])} in all"),
        ("  in EPT", f"{per_walk['host']:.2f}", f"{format_count(references['host'])} in all"),
    ]
    for name, hits in (record["walk_caches"] or {}).items():
        if hits:
            rows.append((f"  {name} cache", format_count(hits), "hits of walks"))
    rows.append(("guest page faults", format_count(record["page_faults"]), ""))
    if record["size_conflicts"]:
        note = "look-ups of a page that a TLB still had with another size"
        rows.append(("page size conflicts", format_count(record["size_conflicts"]), note))
    return rows


def memory_rows(record: dict[str, Any]) -> Rows:
    """Return what memory the guest had."""
    rows: Rows = []
    backed_by = "EPT" if record["config"]["mmu"] == "ept" else "memory map"
    for name, title in (("guest", "guest-virtual"), ("host", f"guest-physical ({backed_by})")):
        part = record["memory"][name]
        if part is not None:
            rows += [
                (f"{title} mapped", format_size(part["mapped"]), ""),
                (f"{title} resident", format_size(part["resident"]), ""),
                (f"{title} tables", format_count(part["table_pages"]), "pages of 4 KiB"),
            ]
    return rows


def shadow_rows(counts: dict[str, int]) -> Rows:
    """Return what the shadow has and did."""
    notes = {
        "table_pages": "of 4 KiB",
        "filled": "#PF exits that were gaps in the shadow",
        "prefetched": "entries filled with them",
        "guest_faults": "#PF exits that were the guest's own",
        "writes_followed": "writes to tables in sync, carried out by the hypervisor",
        "unsynced": "page tables left to the guest to write",
        "resynced": "of them, compared again at a flush",
        "unshadowed": "tables written again and again",
        "zapped": "pages, for any reason",
        "reclaimed": "of them, for the bound on pages",
        "roots_built": "",
        "roots_reused": "found again, without a rebuild",
        "flushes": "of the TLB, by the hypervisor",
    }
    return [(name.replace("_", " "), format_count(counts[name]), note) for name, note in notes.items()]


def counted_rows(counts: dict[str, int]) -> Rows:
    """Return a row for each name."""
    return [(name, format_count(count), "") for name, count in counts.items()]
