"""The part of a run that counts: from one point to another, by default from its first instruction to its end.

What was counted before it is taken off the record. A start that the program never reaches leaves nothing to count.
"""

from collections.abc import Callable, Mapping
from typing import Any

from quire.guest.kernel.process import ProcessGuest
from quire.guest.point import Point
from quire.vcpu import Cpu

__all__ = ["Region", "since"]

#: Parts of a record that only grow while a guest runs.
_COUNTED = ("instructions", "accesses", "tlb", "walk_caches", "size_conflicts", "walks", "page_faults", "exits",
            "syscalls", "unimplemented")  # fmt: skip
_TALLIES = ("exits", "syscalls", "unimplemented")  #: of them, those that list only what happened


class Region:
    """Watches one run for `start` and then for `end`; either may be None."""

    def __init__(self, start: Point | None, end: Point | None) -> None:
        self.start, self.end = start, end
        self.started = start is None  #: whether what happens counts
        self.ended = False  #: whether the run is to end

    @property
    def points(self) -> list[Point]:
        """The points that the run is to be watched for."""
        return [point for point in (self.start, self.end) if point is not None]

    def begin(self, guest: ProcessGuest, cpu: Cpu, on_start: Callable[[], None]) -> None:
        """Watch a guest that is about to execute its first instruction; `on_start` is called when the region begins."""
        self._guest, self._cpu, self._on_start = guest, cpu, on_start
        for point in self.points:
            point.begin(cpu)
        if self._awaited is not None:
            self._awaited.arm(guest, cpu)

    @property
    def _awaited(self) -> Point | None:
        return self.end if self.started else self.start

    def at_syscall(self) -> bool:
        """Note points in front of the system call that the guest asks for; return whether the run is to end there."""
        while self._awaited is not None and not self.ended and self._awaited.at_syscall(self._guest):
            self._reach(self._awaited)
        return self.ended

    def at_interruption(self) -> bool:
        """Note points where the guest was interrupted; return whether the run is to end there."""
        awaited = self._awaited
        if awaited is not None and not self.ended and awaited.at_interruption(self._guest, self._cpu):
            self._reach(awaited)
        return self.ended

    def finish(self) -> None:
        """Wait no longer: the guest has ended."""
        if self._awaited is not None and not self.ended:
            self._awaited.disarm(self._cpu)

    def _reach(self, point: Point) -> None:
        point.disarm(self._cpu)
        if self.started:
            self.ended = True
            return
        self.started = True
        self._on_start()
        if self.end is not None:
            self.end.arm(self._guest, self._cpu)


def since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record `after` of a run with what had been counted in `before` taken off.

    What memory holds is as it was at the end; ``region.resident_before`` says what was resident when the region began.
    """
    found = {key: _less(before[key], value) if key in _COUNTED else value for key, value in after.items()}
    for key in _TALLIES:
        found[key] = {name: count for name, count in found[key].items() if count}
    walks = found["walks"]
    walks["references_per_walk"] = {
        dimension: round(number / walks["count"], 4) if walks["count"] else 0.0
        for dimension, number in walks["references"].items()
    }
    if after["numa"] is not None:
        references = _less(before["numa"]["references"], after["numa"]["references"])
        found["numa"] = {**after["numa"], "references": references}
    parts = before["memory"].items()
    resident = {part: memory["resident"] for part, memory in parts if memory and "resident" in memory}
    found["region"] = {**after["region"], "resident_before": resident}
    return found


def _less(before: Any, after: Any) -> Any:
    """Return counts less what they were, part by part."""
    if isinstance(after, Mapping):
        return {key: _less((before or {}).get(key), value) for key, value in after.items()}
    if isinstance(after, list):
        return [_less(one, other) for one, other in zip(before, after, strict=True)]
    return after if before is None or after is None or isinstance(after, float) else after - before
