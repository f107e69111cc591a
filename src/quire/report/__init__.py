"""Reports: plain records and arrays in, tables, JSON and lines of text out. Nothing of the model is imported.

Contract: what a report shows is in the record; the same record gives the same bytes.
"""

from quire.report.boot import render_boot
from quire.report.compare import render_compare_table
from quire.report.flushes import render_advice, render_findings
from quire.report.page import render_json
from quire.report.quantity import format_count, format_cycles, format_size
from quire.report.run import render_table
from quire.report.walk import render_walk_table, walk_lines

__all__ = [
    "format_count",
    "format_cycles",
    "format_size",
    "render_advice",
    "render_boot",
    "render_compare_table",
    "render_findings",
    "render_json",
    "render_table",
    "render_walk_table",
    "walk_lines",
]
