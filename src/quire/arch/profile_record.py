"""A CPU profile as one plain record, for reports and JSON: what it models, and who published each number."""

from typing import Any

from quire.arch.capabilities import VMX_CAPABILITIES
from quire.arch.geometry import TlbGeometry, WalkCacheGeometry
from quire.arch.profile import CpuProfile
from quire.arch.profile_file import PAGE_SHIFTS

__all__ = ["profile_record"]

_PAGES = {shift: name for name, shift in PAGE_SHIFTS.items()}


def profile_record(profile: CpuProfile) -> dict[str, Any]:
    """Return `profile` as a record. `entries`, `ways` and `sets` are None for a TLB without bound."""
    return {
        "name": profile.name,
        "title": profile.title,
        "vendor": profile.vendor,
        "aliases": list(profile.aliases),
        "maxphyaddr": profile.maxphyaddr,
        "other_maxphyaddr": list(profile.other_widths),
        "linear_bits": profile.linear_bits,
        "page_1g": profile.page_1g,
        "walkers": profile.walkers,
        "vmx": {
            "known": [one for one in VMX_CAPABILITIES if one not in profile.unknown],
            "source": profile.vmx_source,
        },
        "source": profile.source,
        "notes": list(profile.notes),
        "tlbs": [_tlb(one) for one in profile.tlbs],
        "walk_caches": [_walk_cache(one) for one in profile.walk_caches],
    }


def _tlb(tlb: TlbGeometry) -> dict[str, Any]:
    bounded = tlb.entries is not None
    return {
        "name": tlb.name,
        "level": tlb.level,
        "sides": [side.value for side in tlb.sides],
        "pages": [_PAGES[shift] for shift in tlb.page_shifts],
        "entries": tlb.entries,
        "ways": tlb.ways if bounded else None,
        "sets": tlb.sets if bounded else None,
        "replacement": tlb.replacement.value if bounded else None,
        "source": tlb.source,
        "assumed": list(tlb.assumed),
    }


def _walk_cache(cache: WalkCacheGeometry) -> dict[str, Any]:
    return {
        "name": cache.name,
        "mappings": "guest-physical" if cache.guest_physical else "linear",
        "holds": [held.value for held in cache.holds],
        "entries": cache.entries,
        "ways": cache.ways,
        "sets": cache.sets,
        "replacement": cache.replacement.value,
        "source": cache.source,
        "assumed": list(cache.assumed),
    }
