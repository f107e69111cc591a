"""What a pool says to a wrong call, from its records: which of the ways to misuse it this one is.

Models: one message for each mistake, with the value, the bound and the next step. Fails: never; it returns the
error that the pool raises.
"""

from __future__ import annotations

from quire.errors import MisuseError
from quire.memory.layout import MAX_ORDER
from quire.memory.ledger import Ledger
from quire.memory.owner import Owner, OwnerKind
from quire.memory.request import refused_request


def refused_free(pool: Ledger, hfn: int, order: int, owner: Owner) -> MisuseError:
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


def outside(pool: Ledger, hfn: int) -> MisuseError:
    """Return what is said of a frame that is not the pool's."""
    return MisuseError(
        f"frame {hfn:#x} is outside the pool of frames {pool.first_hfn:#x} to "
        f"{pool.first_hfn + pool.frame_count - 1:#x}: ask the pool that allocated it"
    )
