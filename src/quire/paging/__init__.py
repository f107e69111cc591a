"""Paging: tables built in frames, and the one walk that reads them, in one dimension or two.

Contract: a walk reads the memory array and nothing else, and a fault is a value with its level, dimension, error
code or exit qualification. :class:`Tables` edits a hierarchy of either format; :func:`reference_walk` explains
one address in plain Python; the compiled walk is in ``_kernels`` and is imported only by rooms that run guests.
"""

from quire.paging.context import (
    MAX_REFERENCES,
    MEMO_SLOTS,
    MEMO_WORDS,
    RESULT_WORDS,
    Context,
    Dimension,
    Result,
    Rights,
    Status,
    new_context,
)
from quire.paging.format import EPT_FORMAT, GUEST_FORMAT, PagingFormat, level_of
from quire.paging.memory_type import final_memory_type
from quire.paging.reference import load_pdptes, reference_walk
from quire.paging.rules import RULES, Rule
from quire.paging.table_ranges import MappedRange
from quire.paging.tables import Mapping, TableMemory, Tables
from quire.paging.walk_record import Reference, WalkRecord

__all__ = [
    "EPT_FORMAT",
    "GUEST_FORMAT",
    "MAX_REFERENCES",
    "MEMO_SLOTS",
    "MEMO_WORDS",
    "RESULT_WORDS",
    "RULES",
    "Context",
    "Dimension",
    "MappedRange",
    "Mapping",
    "PagingFormat",
    "Reference",
    "Result",
    "Rights",
    "Rule",
    "Status",
    "TableMemory",
    "Tables",
    "WalkRecord",
    "final_memory_type",
    "level_of",
    "load_pdptes",
    "new_context",
    "reference_walk",
]
