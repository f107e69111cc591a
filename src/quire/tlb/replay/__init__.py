"""Recorded accesses through TLBs, without a guest: tags alone, or with every walk that the misses take.

Contract: the same misses and the same contents as one look-up after another; a record is a word, see :data:`RECORD`.
:func:`replay` and :func:`replay_walks` compile on first use.
"""

from quire.tlb.replay.record import RECORD, records
from quire.tlb.replay.replay import replay, replay_walks
from quire.tlb.replay.walks import Walks

__all__ = ["RECORD", "Walks", "records", "replay", "replay_walks"]
