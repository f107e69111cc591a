"""Recorded accesses through TLBs, without a guest: tags alone, or with every walk that the misses take.

Contract: the same misses and the same contents as one look-up after another; a record is a word, see :data:`RECORD`.
:func:`replay` and :func:`replay_walks` compile on first use.
"""

from quire.trace.formats import FORMATS, TraceFormat, read_trace, write_trace
from quire.trace.record import RECORD, records
from quire.trace.replay import replay, replay_walks
from quire.trace.walks import Walks

__all__ = [
    "FORMATS",
    "RECORD",
    "TraceFormat",
    "Walks",
    "read_trace",
    "records",
    "replay",
    "replay_walks",
    "write_trace",
]
