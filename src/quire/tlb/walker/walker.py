"""What a walk behind caches reads and writes, as one record."""

from typing import Any, NamedTuple

__all__ = ["Walker"]


class Walker(NamedTuple):
    """Arrays; for kernels that kernels call, the pointer to each."""

    memory: Any  #: host-physical, as words
    context: Any  #: see :class:`quire.paging.Context`
    memo: Any  #: of walks, MEMO_WORDS long
    result: Any  #: of the last walk, see :class:`quire.paging.Result`
    entries: Any  #: of TLBs and walk caches, as ``tlb/layout.py`` describes them ...
    state: Any  #: ... what changes beside them ...
    shapes: Any  #: ... and which structure holds what
    path: Any  #: of the last walk, see :class:`quire.tlb.walker.Path`
