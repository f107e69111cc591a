"""The TLB hierarchy in plain Python: ordered dicts as LRU sets. The slow twin of the kernels.

Written from the description of a set-associative cache, not from the kernels: an entry is (size, space, page), a set
is chosen by the page number's low bits, a hit makes an entry the youngest, a miss in L1 that hits L2 copies it.
"""

from collections import OrderedDict

from quire.arch import CpuProfile

__all__ = ["ReferenceTlb"]

Key = tuple[int, int, int]

_SHIFTS = (12, 21, 30)


class _Array:
    def __init__(self, profile: CpuProfile, name: str) -> None:
        geometry = profile.tlb(name)
        self.ways = geometry.ways
        self.sets: list[OrderedDict[Key, int]] = [OrderedDict() for _ in range(geometry.sets)]

    def at(self, key: Key) -> OrderedDict[Key, int]:
        return self.sets[key[2] % len(self.sets)]

    def probe(self, key: Key) -> int | None:
        chosen = self.at(key)
        if key not in chosen:
            return None
        chosen.move_to_end(key)
        return chosen[key]

    def insert(self, key: Key, translation: int) -> None:
        chosen = self.at(key)
        if key not in chosen and len(chosen) == self.ways:
            chosen.popitem(last=False)
        chosen[key] = translation
        chosen.move_to_end(key)


class ReferenceTlb:
    """One vCPU's TLBs. `space` and `global_space` are the numbers that tag look-ups and insertions."""

    def __init__(self, profile: CpuProfile) -> None:
        self.data = [_Array(profile, name) for name in ("l1d_4k", "l1d_2m", "l1d_1g")]
        small, large = _Array(profile, "l1i_4k"), _Array(profile, "l1i_2m")
        self.code = [small, large, large]
        shared, huge = _Array(profile, "l2_shared"), _Array(profile, "l2_1g")
        self.second = [shared, shared, huge]
        self.space = self.global_space = 0

    def lookup(self, gva: int, fetch: bool) -> tuple[int, int] | None:
        """Return (level, translation) of a hit, None of a miss."""
        first = self.code if fetch else self.data
        sizes = (0, 1) if fetch else (0, 1, 2)
        for level, arrays, tried in ((1, first, sizes), (2, self.second, (0, 1, 2))):
            for space in (self.space, self.global_space):
                for size in tried:
                    key = (size, space, gva >> _SHIFTS[size])
                    found = arrays[size].probe(key)
                    if found is not None:
                        if level == 2:
                            first[size].insert(key, found)
                        return level, found
        return None

    def fill(self, gva: int, fetch: bool, size: int, is_global: bool, translation: int) -> None:
        """Insert a translation of the page of `size` (0, 1, 2) into L2 and L1."""
        space = self.global_space if is_global else self.space
        key = (size, space, gva >> _SHIFTS[size])
        self.second[size].insert(key, translation)
        (self.code if fetch else self.data)[size].insert(key, translation)

    def invalidate(self, spaces: set[int], gva: int | None) -> None:
        """Drop what is tagged with one of `spaces`, of the page that holds `gva` unless that is None."""
        for array in {id(a): a for a in (*self.data, *self.code, *self.second)}.values():
            for chosen in array.sets:
                for key in list(chosen):
                    size, space, page = key
                    if space in spaces and (gva is None or gva >> _SHIFTS[size] == page):
                        del chosen[key]
