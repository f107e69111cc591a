"""The TLB hierarchy in plain Python: lists and dicts. The slow twin of the kernels.

Written from the description of a set-associative cache, not from the kernels: an entry is (space, size, page), a set
is chosen by the page number's low bits, an insertion takes a free way, else the one that the policy names, see
``arch/replacement.py``; what is drawn is drawn by xorshift64.
"""

from quire.arch import WORD, CpuProfile, Replacement, Side, TlbGeometry, WalkCacheGeometry
from quire.tlb.layout import KIND_SHIFTS, TRANSLATION
from quire.tlb.tlb import TlbOptions

__all__ = ["ReferenceArray", "ReferenceTlb"]

Key = tuple[int, int, int]

_SHIFTS = (12, 21, 30)


class _Set:
    """One set: its ways, and what its policy knows of them."""

    def __init__(self, ways: int, policy: Replacement) -> None:
        self.keys: list[Key | None] = [None] * ways
        self.values = [0] * ways
        self.order = policy.twin(ways)


class ReferenceArray:
    """One structure. Keys are (space, kind, page)."""

    def __init__(
        self, twin: "ReferenceTlb", geometry: TlbGeometry | WalkCacheGeometry, policy: Replacement
    ) -> None:
        self.twin = twin
        self.unbounded: dict[Key, int] | None = {} if geometry.entries is None else None
        self.sets = [_Set(geometry.ways, policy) for _ in range(geometry.sets)]

    def probe(self, key: Key) -> int | None:
        """Return the value of `key`, now used last, or None."""
        if self.unbounded is not None:
            return self.unbounded.get(key)
        chosen = self.sets[key[2] % len(self.sets)]
        if key not in chosen.keys:
            return None
        way = chosen.keys.index(key)
        chosen.order.use(way, self.twin.clock)
        return chosen.values[way]

    def insert(self, key: Key, value: int) -> None:
        """Hold `key`."""
        if self.unbounded is not None:
            self.unbounded[key] = value
            return
        chosen = self.sets[key[2] % len(self.sets)]
        if key in chosen.keys:
            way = chosen.keys.index(key)
        elif None in chosen.keys:
            way = chosen.keys.index(None)
        else:
            way = chosen.order.victim(self.twin.draw)
        chosen.keys[way], chosen.values[way] = key, value
        chosen.order.use(way, self.twin.clock)

    def drop(self, spaces: set[int], gva: int | None) -> None:
        """Drop what is tagged with one of `spaces`, of the page that holds `gva` unless that is None.

        That page is the one that the walk found, which an entry may hold a piece of.
        """

        def goes(key: Key, value: int) -> bool:
            if key[0] not in spaces or gva is None:
                return key[0] in spaces
            held = KIND_SHIFTS[key[1]]
            whole = held if key[1] > 2 else max(held, _SHIFTS[TRANSLATION.get(value, "walk_size")])
            return gva >> whole == key[2] << held >> whole

        if self.unbounded is not None:
            self.unbounded = {key: value for key, value in self.unbounded.items() if not goes(key, value)}
        for chosen in self.sets:
            for way, key in enumerate(chosen.keys):
                if key is not None and goes(key, chosen.values[way]):
                    chosen.keys[way] = None


class ReferenceTlb:
    """One vCPU's TLBs. `space` and `global_space` are the numbers that tag look-ups and insertions."""

    def __init__(self, profile: CpuProfile, options: TlbOptions, random_state: int) -> None:
        self.clock = self.space = self.global_space = 0
        self._random = random_state
        self._largest = _SHIFTS.index(options.largest_page.bit_length() - 1)
        self.depth = max((one.level for one in profile.tlbs), default=0)
        self.arrays = [
            (one, ReferenceArray(self, one, options.replacement or one.replacement)) for one in profile.tlbs
        ]

    def draw(self) -> int:
        """Return the next number of the generator."""
        word = self._random
        word ^= word << 13 & WORD
        word ^= word >> 7
        word ^= word << 17 & WORD
        self._random = word
        return word

    def lookup(self, gva: int, side: Side) -> tuple[int, int] | None:
        """Return (level that hit, from 1; translation), None of a miss."""
        self.clock += 1
        for level in range(1, self.depth + 1):
            for space in (self.space, self.global_space):
                for size in range(3):
                    array = self._array(side, level, size)
                    value = None if array is None else array.probe((space, size, gva >> _SHIFTS[size]))
                    if value is not None:
                        for nearer in range(level - 1, 0, -1):
                            self._hold(gva, side, nearer, space, size, value)
                        return level, value
        return None

    def fill(self, gva: int, side: Side, size: int, is_global: bool, value: int) -> None:
        """Insert a translation of the page of `size` (0, 1, 2) into every level, the farthest first."""
        space = self.global_space if is_global else self.space
        for level in range(self.depth, 0, -1):
            self._hold(gva, side, level, space, size, value)

    def invalidate(self, spaces: set[int], gva: int | None) -> None:
        """Drop what is tagged with one of `spaces`, of the page that holds `gva` unless that is None."""
        for _, array in self.arrays:
            array.drop(spaces, gva)

    def _array(self, side: Side, level: int, size: int) -> ReferenceArray | None:
        for one, array in self.arrays:
            if one.level == level and side in one.sides and _SHIFTS[size] in one.page_shifts:
                return array
        return None

    def _hold(self, gva: int, side: Side, level: int, space: int, size: int, value: int) -> None:
        """Put a page into one level, whole or the piece of it that `gva` is in."""
        for held in range(min(size, self._largest), -1, -1):
            array = self._array(side, level, held)
            if array is not None:
                if held != size:
                    value += (gva >> _SHIFTS[held] << _SHIFTS[held]) % (1 << _SHIFTS[size])
                array.insert((space, held, gva >> _SHIFTS[held]), value)
                return
