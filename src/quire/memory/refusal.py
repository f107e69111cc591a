"""What a pool says to a wrong call: which of the ways to misuse it this one is.

Models: one message for each mistake, with the value, the bound and the next step. Fails: never; it returns the
error that the pool raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.layout import MAX_ORDER, ORDER_COUNT
from quire.memory.owner import FREE_OWNER, Owner, OwnerKind

if TYPE_CHECKING:
    from quire.memory.pool import Pool

MAX_HFN: Final = 1 << (52 - FRAME_SHIFT)  # 52 physical address bits


def refused_free(pool: Pool, hfn: int, order: int, owner: Owner) -> MisuseError:
    """Return why `owner` cannot free the block of `order` at `hfn`; called only when it cannot."""
    index = hfn - pool._base_hfn
    if not pool.first_hfn <= hfn < pool.first_hfn + pool.frame_count:
        return outside(pool, hfn)
    if not 0 <= order <= MAX_ORDER or owner.kind is OwnerKind.CACHED:
        return refused_request(order, owner)
    if hfn & ((1 << order) - 1):
        return MisuseError(
            f"frame {hfn:#x} cannot start a block of order {order}: such blocks start at multiples of "
            f"{1 << order:#x}; pass the number that allocate() returned"
        )
    head, block_order, is_free = pool._blocks.block_of(index)
    holder = pool.owners.lookup(pool._ids[index])
    if is_free and not pool._contents.was_allocated(index):
        return MisuseError(
            f"frame {hfn:#x} was never allocated: {owner} can free only what allocate() returned"
        )
    if is_free:
        return MisuseError(
            f"frame {hfn:#x} is free already: {owner} frees it twice; forget the number after free()"
        )
    if head != index:
        return MisuseError(
            f"frame {hfn:#x} is inside the block of order {block_order} at {pool._base_hfn + head:#x} "
            f"of {holder}: free the whole block by its first frame"
        )
    if block_order != order:
        return MisuseError(
            f"the block at frame {hfn:#x} of {holder} has order {block_order}, not {order}: "
            "free it with the order it was allocated with"
        )
    return MisuseError(f"frame {hfn:#x} belongs to {holder}, not to {owner}: only its owner may free it")


def outside(pool: Pool, hfn: int) -> MisuseError:
    """Return what is said of a frame that is not the pool's."""
    return MisuseError(
        f"frame {hfn:#x} is outside the pool of frames {pool.first_hfn:#x} to "
        f"{pool.first_hfn + pool.frame_count - 1:#x}: ask the pool that allocated it"
    )


def refused_request(order: int, owner: Owner) -> MisuseError:
    """Return why there is no block of `order` for `owner`."""
    if not 0 <= order < ORDER_COUNT:
        return MisuseError(
            f"no block has order {order}: give 0 (one frame) to {MAX_ORDER} ({1 << MAX_ORDER:#x} frames)"
        )
    if owner.kind is OwnerKind.CACHED:
        return MisuseError(f"{owner} is a cache's own: its FrameCache allocates and frees in its name")
    return MisuseError(f"{FREE_OWNER} cannot own frames: pass the Owner that will use and free the block")


def check_range(first_hfn: int, frame_count: int, host: HostMemory | None) -> None:
    """Raise MisuseError unless a pool can have these frames."""
    limit = MAX_HFN if host is None else host.frame_count
    if first_hfn < 0 or frame_count <= 0 or first_hfn + frame_count > limit:
        raise MisuseError(
            f"a pool cannot have {frame_count:#x} frames from {first_hfn:#x}: give at least one frame, "
            f"all below frame {limit:#x}"
        )
    if host is not None:
        hpa = host.find_data(first_hfn, frame_count)
        if hpa is not None:
            raise MisuseError(
                f"a pool must start empty, but hpa {hpa:#x} contains {host.load(hpa):#x}: "
                "discard() the frames first, or leave them out"
            )


def block_numbers(hfns: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return a copy of the frame numbers of a batch; negative ones become large ones, outside. MisuseError."""
    numbers = np.ascontiguousarray(hfns)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise MisuseError(
            f"cannot free blocks given as {numbers.ndim} dimensions of {numbers.dtype}: "
            "give one dimension of integers, as allocate_many() returned"
        )
    return numbers.astype(np.uint64)
