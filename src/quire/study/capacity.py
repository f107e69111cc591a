"""Which level of cache serves the references of walks: a model of capacity alone.

Entries are in groups: leaf and upper entries of each dimension. References are uniform over the bytes of a group. The
group with the most references a byte lies nearest the core, then the next, and so on outwards: what a good replacement
would come to. A level serves what lies within its capacity and beyond that of the levels before it. There are no
conflicts, no prefetches, and what a level holds the levels behind it hold as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quire.arch import PAGE_SIZE
from quire.study.costs import Cache
from quire.study.counts import Counts, TableSize, levels_of

__all__ = ["MEMORY", "Group", "groups_of", "served_by"]

#: What serves a reference that no cache does.
MEMORY = "memory"
_ENTRY, _LINE = 8, 64


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that are referenced alike: of dimension `guest` or `host`, so many references over so many bytes."""

    name: str
    dimension: str
    references: float
    size: float


def groups_of(counts: Counts) -> list[Group]:
    """Return the groups of a run's references; their references add up to those that were counted.

    A completed walk reads one leaf of the first dimension; walk caches spare it other entries. It has the page
    translated by the second, and each table of the first that it reads, but for one that a cached entry names. A
    translation reads one leaf of the second dimension, or nothing where the nested TLB answers: for tables first, which
    are few and come again soonest.
    """
    completed, spared = counts.completed, counts.spared
    leaf = min(completed, counts.guest_references)
    groups = [
        Group("guest upper", "guest", counts.guest_references - leaf, _upper_bytes(counts.first)),
        Group("guest leaf", "guest", leaf, _leaf_bytes(counts.first)),
    ]
    if counts.second is not None:
        asked = counts.guest_references - spared.reached
        tables = max(0, asked - spared.nested)
        pages = max(0, completed - max(0, spared.nested - asked))
        upper = max(0, counts.host_references - tables - pages)
        of_tables = _leaf_bytes(TableSize(0, counts.first.table_pages * PAGE_SIZE, counts.second.page))
        groups += [
            Group("host upper", "host", upper, _upper_bytes(counts.second)),
            Group("host leaf of tables", "host", tables, of_tables),
            Group("host leaf of pages", "host", pages, _leaf_bytes(counts.second)),
        ]
    return groups


def served_by(groups: Sequence[Group], caches: Sequence[Cache]) -> dict[str, dict[str, float]]:
    """Return, by dimension, how many references each cache and memory serve."""
    levels = [*(cache.name for cache in caches), MEMORY]
    served = {name: dict.fromkeys(levels, 0.0) for name in dict.fromkeys(group.dimension for group in groups)}
    start = 0.0
    for group in sorted(groups, key=lambda one: -one.references / one.size):
        end, inside = start + group.size, 0.0
        for cache in caches:
            within = max(0.0, min(end, cache.capacity) - start)
            share = max(0.0, within - inside) / group.size
            served[group.dimension][cache.name] += group.references * share
            inside = max(inside, within)
        served[group.dimension][MEMORY] += group.references * (1 - inside / group.size)
        start = end
    return served


def _leaf_bytes(tables: TableSize) -> int:
    """Bytes of the lines that hold the leaves, as if the mapped pages were one range."""
    leaves = -(-tables.mapped // tables.page)
    return max(1, -(-leaves * _ENTRY // _LINE)) * _LINE


def _upper_bytes(tables: TableSize) -> int:
    """Bytes of the lines that hold the other entries: one for each table but the root, one line a level at least."""
    upper_levels = max(1, levels_of(tables.page) - 1)
    return max(upper_levels * _LINE, -(-(tables.table_pages - 1) * _ENTRY // _LINE) * _LINE)
