"""Replay from Python: arrays in, counts out."""

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.paging import MEMO_WORDS, RESULT_WORDS
from quire.tlb.layout import TlbState
from quire.tlb.tlb import Tlb
from quire.tlb.walker import PATH_WORDS, Walker
from quire.trace.walks import WalkCount, Walks

__all__ = ["replay", "replay_walks"]

Words = npt.NDArray[np.uint64]


def replay(tlb: Tlb, stream: Words) -> None:
    """Send `stream`, records of :data:`RECORD`, through `tlb`: tags alone, every page of 4 KiB and mapped.

    The counts are in :meth:`Tlb.misses` and :meth:`Tlb.lookups`. Raises MisuseError for what is no record.
    """
    from quire.trace._kernels import replay_tags

    _check(tlb, stream)
    done = 0
    while done < stream.size:
        done = int(replay_tags(tlb.entries, tlb.state, tlb.shapes, stream, done))
        if done < stream.size:
            tlb.grow()


def replay_walks(tlb: Tlb, stream: Words, memory: Words, context: Words) -> Walks:
    """Send `stream` through `tlb`, walking the tables of `context` in `memory` on each miss, behind its walk caches.

    Sets accessed and dirty flags as the walk does. A record whose walk faults is counted and passed over. Raises
    MisuseError for what is no record.
    """
    from quire.trace._kernels import replay_and_walk

    _check(tlb, stream)
    memo, result = np.zeros(MEMO_WORDS, np.uint64), np.zeros(RESULT_WORDS, np.uint64)
    path, counts = np.zeros(PATH_WORDS, np.uint64), np.zeros(len(WalkCount), np.uint64)
    done = 0
    while done < stream.size:
        walker = Walker(memory, context, memo, result, tlb.entries, tlb.state, tlb.shapes, path)
        done = int(replay_and_walk(walker, stream, done, counts))
        if done < stream.size:
            tlb.grow()
    return Walks(
        walks=int(counts[WalkCount.WALKS]),
        faulted=int(counts[WalkCount.FAULTED]),
        guest_references=int(counts[WalkCount.GUEST_REFERENCES]),
        host_references=int(counts[WalkCount.HOST_REFERENCES]),
    )


def _check(tlb: Tlb, stream: Words) -> None:
    if stream.dtype != np.uint64 or stream.ndim != 1 or not stream.flags.c_contiguous:
        raise MisuseError(
            f"A stream of shape {stream.shape} and type {stream.dtype} cannot be replayed: "
            "give a contiguous array of uint64, see quire.trace.records"
        )
    tlb.state[TlbState.REPLAY_PAGE : TlbState.LOOKUPS] = 0  # since the last replay that page may have gone
    from quire.trace._kernels import count_records

    at = int(count_records(tlb.state, stream))
    if at >= 0:
        raise MisuseError(
            f"Record {at} of the stream is {int(stream[at]):#x}, no access: "
            "make records with quire.trace.records"
        )
