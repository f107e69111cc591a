"""Whether a walk's verdict turns on MAXPHYADDR, which belongs to a machine and not to a model (SDM 3A §4.1.4)."""

from typing import Any

from quire.arch import Access, physical_reserved, pse36_reserved
from quire.paging.context import Context, Status, Words
from quire.paging.overlay import Overlay, ReadableWords
from quire.paging.reference import reference_walk
from quire.paging.walk_record import WalkRecord

__all__ = ["turning_widths"]

_WIDTHS = range(36, 53)  # of 64-bit processors


def turning_widths(
    memory: ReadableWords, context: Words, gva: int, access: Access, walk: WalkRecord
) -> list[dict[str, Any]]:
    """Return the ranges of MAXPHYADDR with which the access ends otherwise than `walk` did; none if it never does.

    Each has ``from``, ``to`` (bits) and ``outcome`` in words.
    """
    if not any(ref.entry >> _WIDTHS[0] & (1 << (52 - _WIDTHS[0])) - 1 for ref in walk.references):
        return []
    now, found = _outcome(walk), list[dict[str, Any]]()
    for width in _WIDTHS:
        state = context.copy()
        state[Context.RESERVED] = physical_reserved(width)
        state[Context.PSE_RESERVED] = pse36_reserved(width, pse36=True)
        outcome = _outcome(reference_walk(Overlay(memory), state, gva, access))
        if outcome == now:
            continue
        if found and found[-1]["to"] == width - 1 and found[-1]["outcome"] == outcome:
            found[-1]["to"] = width
        else:
            found.append({"from": width, "to": width, "outcome": outcome})
    return found


def _outcome(walk: WalkRecord) -> str:
    if walk.status is Status.OK:
        return "allowed"
    where = walk.references[-1].layout.title if walk.references else "root"
    if walk.status is Status.PAGE_FAULT:
        return f"#PF, error code {walk.error:#x}, at the {where}"
    return f"{walk.status.name.lower().replace('_', ' ')} at the {where}"
