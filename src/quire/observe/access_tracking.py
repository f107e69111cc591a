"""Which guest memory is used: EPT's accessed flags, harvested and cleared again and again; ages, working sets.

The unit is the leaf that maps a frame: 4 KiB, or all of a large page. A flag that is cleared is flushed on every vCPU
(INVEPT, SDM 3C §28.4.3.4), else a cached translation would hide the next access. What Quire itself reads or writes by
guest-physical address sets no flag; its user accesses are walks and do.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from quire import failpoints
from quire.arch import EPT_PTE, EPTP, PAGE_SHIFT, PAGE_SIZE, page_size
from quire.errors import MisuseError
from quire.mmu.abilities import Mapped
from quire.observe.watched import WatchedMachine
from quire.paging import Context, MappedRange
from quire.tlb import Operation

__all__ = ["AccessTracker", "WorkingSet"]

_A = np.uint64(EPT_PTE.mask("A"))
_ALL = 1 << 48
_SIZES = np.array([0, *(page_size(level) for level in (1, 2, 3))], np.int64)
Frames = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """`bytes` of guest memory were accessed between the sample before and `time`, in the caller's unit."""

    time: float
    bytes: int


class AccessTracker:
    """Accesses to the memory of the guest of `machine` from now until :meth:`close`; one tracker at a time.

    :attr:`series` has a record a sample. Raises MisuseError for a guest whose EPT keeps no accessed flags.
    """

    def __init__(self, machine: WatchedMachine) -> None:
        self._machine, self._mmu = machine, _tracked(machine)
        self._map = self._mmu.memory_map
        self._ages = np.zeros(self._mmu.guest_bytes >> PAGE_SHIFT, np.uint32)
        self.series: list[WorkingSet] = []
        self._harvest()
        self._mmu.tracked = True

    def sample(self, time: float) -> Frames:
        """Return the guest frames accessed since the last sample, or since the start; `time` goes into the series.

        All frames of a large page count as accessed with it.
        """
        found, accessed = self._harvest()
        frames = _frames_of(found, accessed)
        self._ages += 1
        self._ages[frames] = 0
        self.series.append(WorkingSet(time, PAGE_SIZE * frames.size))
        return frames

    def ages(self) -> tuple[Frames, npt.NDArray[np.uint32]]:
        """Return the guest frames that have memory, and how many samples ago each was accessed last: 0 in the last."""
        found = self._map.leaves(0, _ALL)
        frames = _frames_of(found, np.ones(found.starts.size, np.bool_))
        return frames, self._ages[frames]

    def idle(self) -> dict[int, int]:
        """Return bytes by age in samples: ages 0, 1, 2 to 3, 4 to 7 and so on, each under its least; empty ones too.

        A page never seen accessed is as old as the tracker.
        """
        _, ages = self.ages()
        if not ages.size:
            return {}
        edges = [0, *(1 << n for n in range(int(ages.max()).bit_length()))]
        counts, _ = np.histogram(ages, [*edges, 1 << 32])
        return {edge: PAGE_SIZE * int(count) for edge, count in zip(edges, counts, strict=True)}

    def close(self) -> None:
        """Stop. Idempotent."""
        self._mmu.tracked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _harvest(self) -> tuple[MappedRange, npt.NDArray[np.bool_]]:
        """Return every leaf and whether it was accessed; clear these flags and flush."""
        if failpoints.armed is not None:
            failpoints.reach("protect", self._map.exhausted)
        found = self._map.leaves(0, _ALL)
        accessed: npt.NDArray[np.bool_] = found.entries & _A != 0
        places, entries = found.places[accessed], found.entries[accessed] & ~_A
        if not places.size:
            return found, accessed
        if hasattr(self._map.memory, "row"):
            self._machine.mmu.host.memory.words[places >> np.uint64(3)] = entries
        else:  # somebody notes writes of tables
            for place, entry in zip(places.tolist(), entries.tolist(), strict=True):
                self._map.memory.store(place, entry)
        self._machine.shoot_down(Operation.INVEPT_CONTEXT)
        return found, accessed


def _frames_of(found: MappedRange, chosen: npt.NDArray[np.bool_]) -> Frames:
    """Return the frames that the chosen leaves map, in ascending order."""
    starts = (found.starts[chosen] >> np.uint64(PAGE_SHIFT)).astype(np.int64)
    counts = _SIZES[found.levels[chosen].astype(np.int64)] >> PAGE_SHIFT
    first = np.repeat(starts - np.cumsum(counts) + counts, counts)
    frames: Frames = first + np.arange(first.size)
    return frames


def _tracked(machine: WatchedMachine) -> Mapped:
    """Return the Mmu whose accessed flags are to be used; raises MisuseError if that cannot be."""
    mapped = machine.mmu.mapped
    if mapped is None or not mapped.hardware_walks_map:
        raise MisuseError(
            f"The {machine.mmu.name} Mmu keeps no accessed flags of guest memory: make the guest with mmu='ept'"
        )
    if mapped.tracked:
        raise MisuseError("Accesses are tracked already: close that tracker first")
    if not EPTP.get(int(mapped.context[Context.EPTP]), "AD"):
        raise MisuseError("EPT keeps no accessed flags: set EPTP.AD first")
    return mapped
