"""Large pages of a memory map, split while writes are logged at 4 KiB, and joined again where they still are alike."""

from quire.arch import PAGE_SIZE, page_size
from quire.paging import Tables

__all__ = ["SplitPages"]

_LARGE, _HUGE = page_size(2), page_size(3)
_ALL = 1 << 48


class SplitPages:
    """The large pages of `memory_map` that were split; :meth:`join` undoes it."""

    def __init__(self, memory_map: Tables) -> None:
        self._map = memory_map
        self._large: list[int] = []
        self._huge: list[int] = []

    def split(self) -> None:
        """Split every large page. Raises OutOfFrames, with some of them split: :meth:`join` then joins these."""
        found = self._map.leaves(0, _ALL)
        for start in found.starts[found.levels == 3].tolist():
            self._map.split(start)
            self._huge.append(start)
        found = self._map.leaves(0, _ALL)
        for start in found.starts[found.levels == 2].tolist():
            self._map.split(start)
            self._large.append(start)

    def add(self, start: int, size: int) -> None:
        """`size` bytes at `start` would be a large page, but are mapped by small ones."""
        if size > PAGE_SIZE:
            self._large += range(start, start + size, _LARGE)
        if size == _HUGE:
            self._huge.append(start)

    def join(self) -> None:
        """Join what can be joined."""
        for start in (*self._large, *self._huge):
            if self._map.target(start) is not None:
                self._map.join(start)
        self._large.clear()
        self._huge.clear()
