"""The choice of who counts, by detail and by what the engine's library is."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quire.cpu.detail import Detail
from quire.cpu.soft.counts import Counts, PrivilegeTold, Uncounted
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.hooked import HookedCounts
from quire.cpu.soft.state import SoftState
from quire.cpu.soft.tcg.context import repair
from quire.cpu.soft.tcg.emitted import EmittedCounts
from quire.cpu.soft.tcg.emitted_blocks import EmittedBlocks
from quire.tlb import Tlb

__all__ = ["make_counts"]


def make_counts(
    engine: Engine,
    pointers: npt.NDArray[np.uint64],
    state: npt.NDArray[np.uint64],
    tlb: Tlb,
    code: Callable[[int, int], bytes],
    privilege: PrivilegeTold,
    *,
    evicted: bool,
    by_hooks: bool,
) -> Counts:
    """Return the counts of a new engine, whose hooks get `pointers`, in the detail that `state` says.

    `code` reads code bytes as a fetch would see them. `evicted`: translations go after so many fills of the engine's
    TLB, of which only hooks have those of every access. `by_hooks`: nothing is to be added to the engine's code.
    """
    full = state[SoftState.DETAIL] == Detail.FULL
    made: Counts | None = None
    if engine.stops_at_blocks and not by_hooks:
        if not full:
            made = EmittedBlocks.make_blocks(engine, pointers, state)
        elif not evicted and not state[SoftState.NODES]:
            made = EmittedCounts.make(engine, pointers, state, tlb, privilege.before_walks)
    if made is not None:
        return made
    if full:
        made = HookedCounts(engine, pointers, state, tlb, code, privilege.before_blocks)
    else:
        made = Uncounted(engine, pointers.ctypes.data)
    made.undo = repair(engine)
    return made
