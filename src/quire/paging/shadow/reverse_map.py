"""The reverse map: from a guest frame to the shadow leaves that map it, so that all of them can be found and changed.

A leaf is known by the HPA of its entry, a frame by its number and the level of the leaf that maps it (the first of
its frames for a large one). Most frames are mapped once: then the entry stands alone, without a set around it.
"""

from collections.abc import Iterator

__all__ = ["ReverseMap"]


class ReverseMap:
    """Leaves by guest frame and level."""

    def __init__(self) -> None:
        self._leaves: dict[tuple[int, int], int | set[int]] = {}

    def add(self, frame: int, level: int, where: int) -> None:
        """Note that the entry at `where` maps `frame` at `level`."""
        place = (frame, level)
        known = self._leaves.get(place)
        if known is None:
            self._leaves[place] = where
        elif isinstance(known, set):
            known.add(where)
        elif known != where:
            self._leaves[place] = {known, where}

    def remove(self, frame: int, level: int, where: int) -> None:
        """Forget that entry."""
        place = (frame, level)
        known = self._leaves[place]
        if not isinstance(known, set):
            del self._leaves[place]
            return
        known.remove(where)
        if len(known) == 1:
            self._leaves[place] = known.pop()

    def leaves(self, frame: int, level: int) -> list[int]:
        """Return the entries that map `frame` by a leaf of exactly `level`, in ascending order."""
        known = self._leaves.get((frame, level))
        if known is None:
            return []
        return sorted(known) if isinstance(known, set) else [known]

    def within(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """Return (frame, level, entry) of every leaf that maps any of `count` frames from `first`."""
        found = []
        if count < len(self._leaves):
            for level in (1, 2, 3):
                size = 1 << 9 * (level - 1)
                for frame in range(first & -size, first + count, size):
                    found += [(frame, level, where) for where in self.leaves(frame, level)]
            return found
        return [
            (frame, level, where)
            for frame, level, where in self
            if frame < first + count and frame + (1 << 9 * (level - 1)) > first
        ]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield (frame, level, entry) of every leaf."""
        for frame, level in list(self._leaves):
            for where in self.leaves(frame, level):
                yield frame, level, where
