"""The ladder of walk caches, as Bhargava and others climbed it (ASPLOS 2008): what each spares a nested walk.

Reads at random addresses of a large guest go through the TLBs of a profile; each miss walks 4 x 4 levels. Rung by
rung the walker gets caches: none, those of linear addresses (one dimension), EPT's own (both dimensions), the nested
TLB, and then the hypervisor maps 2 MiB pages. As in the paper a cached guest entry holds a guest-physical address,
which has to be translated: the manual's combined caches, which :class:`quire.tlb.Tlb` models by default, hold the
host-physical one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from quire.arch import CpuProfile, Held, Side, WalkCacheGeometry
from quire.errors import MisuseError
from quire.study.big_tables import big_tables
from quire.tlb import AddressSpace, Tlb, TlbOptions
from quire.trace import Walks, records, replay_walks

__all__ = ["RUNGS", "Rung", "ladder_record"]

_SPACE = AddressSpace(1, 0, 1)
_4K, _2M = 4 << 10, 2 << 20


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung: which walk caches it has, the page of EPT, and what the paper says of it."""

    name: str
    has: Callable[[WalkCacheGeometry], bool]
    host_page: int
    published: str


def _linear(cache: WalkCacheGeometry) -> bool:
    return not cache.guest_physical


def _structures(cache: WalkCacheGeometry) -> bool:
    return Held.PAGE not in cache.holds


RUNGS = (
    Rung("no cache", lambda cache: False, _4K, "24 references"),
    Rung("1-D: linear walk caches", _linear, _4K, ""),
    Rung(
        "2-D: EPT's as well",
        _structures,
        _4K,
        "guests 15 to 38 % faster than without walk caches in both dimensions",
    ),
    Rung("nested TLB as well", lambda cache: True, _4K, "another 3 to 7 %"),
    Rung("2M host pages", lambda cache: True, _2M, "another 3 to 22 %"),
)


def ladder_record(
    profile: CpuProfile,
    *,
    guest_bytes: int,
    reads: int,
    seed: int = 0,
    done: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Climb the ladder; return each rung's walks and references, and whether every rung spares some.

    Raises MisuseError for a guest that is no multiple of 2 MiB, for no reads, or a profile without walk caches.
    """
    if guest_bytes < _2M or guest_bytes % _2M:
        raise MisuseError(
            f"A guest of {guest_bytes:#x} bytes has no 2 MiB pages: give a multiple of 0x200000"
        )
    if reads < 1:
        raise MisuseError(f"{reads} reads show nothing: give at least 1")
    if not profile.walk_caches:
        raise MisuseError(
            f"Profile {profile.name} has no walk caches to climb: choose another, see quire profiles"
        )
    rows: list[dict[str, Any]] = []
    for rung in RUNGS:
        walks = _climb(profile, rung, guest_bytes, reads, seed)
        rows.append(_row(rung, walks))
        done(rung.name)
    counts = [row["references_per_walk"] for row in rows]
    return {
        "profile": profile.name,
        "guest_bytes": guest_bytes,
        "reads": reads,
        "seed": seed,
        "rows": rows,
        "falls": all(after < before for before, after in pairwise(counts)),
        "first_is_24": counts[0] == 24,
    }


def _climb(profile: CpuProfile, rung: Rung, guest_bytes: int, reads: int, seed: int) -> Walks:
    caches = tuple(cache for cache in profile.walk_caches if rung.has(cache))
    tlb = Tlb(replace(profile, walk_caches=caches), TlbOptions(tables_by_gpa=True))
    tlb.enter(_SPACE)
    tables = big_tables(guest_bytes, _4K, rung.host_page)
    stream = records(tables.addresses(reads, seed), Side.LOAD)
    return replay_walks(tlb, stream, tables.memory, tables.context)


def _row(rung: Rung, walks: Walks) -> dict[str, Any]:
    return {
        "name": rung.name,
        "host_page": rung.host_page,
        "walks": walks.walks,
        "guest_references": walks.guest_references,
        "host_references": walks.host_references,
        "references_per_walk": round((walks.guest_references + walks.host_references) / walks.walks, 4),
        "published": rung.published,
    }
