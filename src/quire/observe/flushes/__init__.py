"""Which flushes are missing and which were not needed: stale translations found while a guest runs.

Contract: the log is per machine and hears of every change of a table that hardware walks; a check is per vCPU and
compares what that vCPU may have kept with what the tables say. A finding is a value; nothing is raised.
"""

from quire.observe.flushes.advice import Advice
from quire.observe.flushes.finding import Attempt, StaleUse
from quire.observe.flushes.flush_check import FlushCheck
from quire.observe.flushes.table_log import Actor, Change, LoggedEntries, LoggedTables, TableLog
from quire.observe.flushes.watch import Watched

__all__ = [
    "Actor",
    "Advice",
    "Attempt",
    "Change",
    "FlushCheck",
    "LoggedEntries",
    "LoggedTables",
    "StaleUse",
    "TableLog",
    "Watched",
]
