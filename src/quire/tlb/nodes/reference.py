"""References by node in plain Python, from the explained walk: the slow twin of the kernel.

The walk's references are in the order in which hardware makes them: for each guest entry those to EPT that translate
its address, then the entry; last those that translate the page. A walk cache spares the first of each of these.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping

from quire.paging import WalkRecord
from quire.paging.context import Dimension
from quire.paging.walk_record import Reference
from quire.tlb.nodes.references import NodeCount

__all__ = ["count_by_node"]


def count_by_node(
    record: WalkRecord,
    node_of: Callable[[int], int],
    read: Collection[int] | None = None,
    made: Mapping[int, int] | None = None,
) -> Counter[tuple[int, NodeCount]]:
    """Return how many references of a walk went to each node, by kind.

    `read` are the guest levels whose entries were read, `made` says how many references to EPT the table of each level
    took, 0 being the page: what walk caches left. Without them all were made.
    """
    found: Counter[tuple[int, NodeCount]] = Counter()
    host: list[Reference] = []

    def note_host(level: int) -> None:
        last = host if made is None else host[len(host) - made.get(level, 0) :]
        found.update((node_of(one.hpa), NodeCount.HOST_TABLE) for one in last)
        host.clear()

    for one in record.references:
        if one.dimension is Dimension.HOST:
            host.append(one)
            continue
        note_host(one.level)
        if read is None or one.level in read:
            found[node_of(one.hpa), NodeCount.GUEST_TABLE] += 1
    note_host(0)
    return found
