"""The physical memory of an image: ranges of addresses, each a view of the mapped file, and holes between them."""

from bisect import bisect_right
from collections.abc import Iterable

from quire.errors import FormatError, MisuseError

__all__ = ["ImageMemory"]


class ImageMemory:
    """Read-only memory made of `ranges`: pairs of a first address and its bytes.

    ``memory[n]`` is the 8-byte word at address 8 * n, and IndexError where the image has none: a hole, or its end.
    Below `zeros`, a number of bytes, holes are memory that reads as zero. Raises FormatError when two ranges overlap.
    """

    def __init__(self, ranges: Iterable[tuple[int, memoryview]], zeros: int = 0) -> None:
        self._zeros = zeros
        kept = sorted((one for one in ranges if len(one[1])), key=lambda one: one[0])
        self._starts = [start for start, _ in kept]
        self._views = [view for _, view in kept]
        for n in range(1, len(kept)):
            end = self._starts[n - 1] + len(self._views[n - 1])
            if self._starts[n] < end:
                raise FormatError(
                    f"two ranges of the image hold address {self._starts[n]:#x}: "
                    f"one starts there, one at {self._starts[n - 1]:#x} ends at {end:#x}"
                )

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First address and length in bytes of each range, ascending; memory that reads as zero is the first."""
        zeros = [(0, self._zeros)] if self._zeros else []
        return zeros + [(start, len(view)) for start, view in zip(self._starts, self._views, strict=True)]

    def read(self, address: int, length: int) -> memoryview | None:
        """Return `length` bytes at `address`, None unless one range holds them all."""
        n = bisect_right(self._starts, address) - 1
        if n >= 0:
            offset, view = address - self._starts[n], self._views[n]
            if offset + length <= len(view):
                return view[offset : offset + length]
        return memoryview(bytes(length)) if address + length <= self._zeros else None

    def __contains__(self, address: int) -> bool:
        return self.read(address, 1) is not None

    def __getitem__(self, index: int) -> int:
        word = self.read(index << 3, 8)
        if word is None:
            raise IndexError(f"the image has nothing at {index << 3:#x}")
        return int.from_bytes(word, "little")

    def __setitem__(self, index: int, value: int) -> None:
        raise MisuseError(f"An image cannot be written, {value:#x} at {index << 3:#x}: walk an Overlay of it")
