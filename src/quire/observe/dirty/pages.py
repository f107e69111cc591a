"""A set of guest frames as a bitmap: what a harvest returns."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError

__all__ = ["DirtyPages", "members"]

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DirtyPages:
    """`bitmap` has a bit for each guest frame, frame 0 in bit 0 of word 0, as ``KVM_GET_DIRTY_LOG`` has it."""

    bitmap: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, flags: Flags) -> "DirtyPages":
        """Return the frames whose flag is set."""
        octets = np.zeros(-(-flags.size // 64) * 8, np.uint8)
        packed = np.packbits(flags, bitorder="little")
        octets[: packed.size] = packed
        return cls(octets.view(np.uint64))

    def frames(self) -> npt.NDArray[np.int64]:
        """Return the guest frame numbers in ascending order."""
        found: npt.NDArray[np.int64] = np.flatnonzero(
            np.unpackbits(self.bitmap.view(np.uint8), bitorder="little")
        )
        return found

    def __len__(self) -> int:
        return int(np.bitwise_count(self.bitmap).sum())

    def __contains__(self, frame: int) -> bool:
        inside = 0 <= frame < 64 * self.bitmap.size
        return inside and bool(int(self.bitmap[frame >> 6]) >> (frame & 63) & 1)

    def __repr__(self) -> str:
        return f"<DirtyPages: {len(self)} of {64 * self.bitmap.size:#x} frames>"


def members(
    pages: "DirtyPages | npt.NDArray[np.uint64] | Iterable[int]", count: int
) -> npt.NDArray[np.int64]:
    """Return frame numbers from a harvest, a bitmap (an array of 64-bit words) or frame numbers, all below `count`.

    Raises MisuseError for a frame that the guest does not have.
    """
    if isinstance(pages, np.ndarray) and pages.dtype == np.uint64:
        pages = DirtyPages(pages)
    found = (
        pages.frames() if isinstance(pages, DirtyPages) else np.fromiter((int(n) for n in pages), np.int64)
    )
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < count:
        wrong = int(found[(found < 0) | (found >= count)][0])
        raise MisuseError(f"The guest has no frame {wrong:#x}: give frames below {count:#x}")
    return found
