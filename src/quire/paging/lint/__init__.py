"""Checks of whole hierarchies: what is wrong in the tables, what is risky, and what costs more than it must.

Contract: the tables are read, never written, and nothing in them is trusted: a table is scanned once for each level
and set of rights that it is reached with, so that recursive and shared tables end, and what is found beyond a limit
is counted. :func:`lint_tables` is the way in; :class:`Findings` collects for other checks as well.
"""

from quire.paging.lint.finding import Finding, Findings, Severity
from quire.paging.lint.scan import lint_tables

__all__ = ["Finding", "Findings", "Severity", "lint_tables"]
