"""Tables for walks over large guests: every page of 1 to 64 GiB mapped, in both dimensions, flags set.

Tables lie at the start of host-physical memory and the pages above them; only the tables are real. Guest-physical is
host-physical, which a walk cannot know.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.arch import EPTP, SKYLAKE_X, MemoryType
from quire.paging import Context, new_context

__all__ = ["BigTables", "big_tables"]

_GUEST, _GUEST_PS = 0x67, 0xE7  # P RW US A D, and PS
_EPT_TABLE, _EPT_PAGE, _EPT_PS = 0x307, 0x337, 0x3B7  # R W X A D, write-back, PS
_BASE = 0x7F00_0000_0000

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class BigTables:
    """The tables and a context over them."""

    memory: Words
    context: Words
    guest_bytes: int

    def addresses(self, count: int, seed: int, *, skew: float = 1.0) -> Words:
        """Return `count` linear addresses, uniform over the guest, or the denser towards its start the more `skew`.

        The share of them in the first part p of the guest is p to the power of 1 / `skew`.
        """
        if skew == 1.0:
            offsets = np.random.default_rng(seed).integers(0, self.guest_bytes, count, dtype=np.uint64)
        else:
            part = np.random.default_rng(seed).random(count) ** skew
            offsets = (part * self.guest_bytes).astype(np.uint64)
        return offsets + np.uint64(_BASE)


def big_tables(guest_bytes: int, guest_page: int, host_page: int, *, two: bool = True) -> BigTables:
    """Return tables that map `guest_bytes` with pages of these sizes (4 KiB or 2 MiB), in one dimension or two."""
    # Both hierarchies have the same bounds: 4 KiB leaves of everything, tables included, and room above.
    room = (guest_bytes >> 8) + (64 << 20) & -(2 << 20)
    total = guest_bytes + room
    memory = np.zeros((total >> 9) * 2 + (8 << 20) >> 3, np.uint64)
    cr3, used = _hierarchy(memory, 1, _BASE, room, guest_bytes, guest_page, (_GUEST, _GUEST, _GUEST_PS))
    eptp = 0
    if two:
        root, used = _hierarchy(memory, used, 0, 0, total, host_page, (_EPT_TABLE, _EPT_PAGE, _EPT_PS))
        eptp = EPTP.encode(MT=MemoryType.WB, walk_length=3, AD=1, addr=root)
    assert used << 12 <= room, "the tables fit below the pages"
    context = new_context(SKYLAKE_X, total)
    context[Context.CR3], context[Context.EPTP] = cr3, eptp
    return BigTables(memory[: used << 9], context, guest_bytes)


def _hierarchy(
    memory: Words, frame: int, start: int, target: int, size: int, page: int, flags: tuple[int, int, int]
) -> tuple[int, int]:
    """Fill tables from `frame` on that map `start` to `target`; return the root's address and the next free frame."""
    table, small, large = flags
    shift, below = (12, small) if page == 4096 else (21, large)
    count = -(-size >> shift) if size % page else size >> shift
    entries = (np.arange(count, dtype=np.uint64) << np.uint64(shift)) + np.uint64(target) | np.uint64(below)
    while True:
        first = start >> shift & 511
        frames = -(-(first + len(entries)) // 512)
        memory[(frame << 9) + first : (frame << 9) + first + len(entries)] = entries
        here, frame = frame, frame + frames
        shift += 9
        if shift > 39:
            return here << 12, frame
        entries = (np.arange(here, frame, dtype=np.uint64) << np.uint64(12)) | np.uint64(table)
