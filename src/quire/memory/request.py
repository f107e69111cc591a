"""What may be asked of a pool, and what is said of a request that no pool can serve.

Models: orders, owners, ranges of frames and batches of numbers, each with the value, the bound and the next step. Does
not model: what one pool's records say (``refusal.py`` does). Fails: MisuseError, returned or raised as each says.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.layout import MAX_ORDER, ORDER_COUNT
from quire.memory.owner import FREE_OWNER, Owner, OwnerKind

MAX_HFN: Final = 1 << (52 - FRAME_SHIFT)  # 52 physical address bits


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
