"""What is told of the processes of a guest when it has ended: who came of whom, how each ended, what it used."""

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from quire.guest.kernel.group import Change, Process
from quire.guest.kernel.siginfo import signal_name

__all__ = ["History", "Together"]

#: Of so many processes that have ended a report tells.
_MOST = 1000


class Together(NamedTuple):
    """What processes have of memory together: bytes of address spaces, of them those with a frame; frames of tables."""

    mapped: int = 0
    resident: int = 0
    table_pages: int = 0


class History:
    """Of one machine: the processes that have ended, as rows of a report."""

    def __init__(self) -> None:
        self.most = Together()  #: what all had when they had most resident, of the moments at which one ended
        self._rows: dict[int, dict[str, Any]] = {}
        self._left_out = 0

    def note(self, process: Process) -> None:
        """A process has ended, and its memory is still there."""
        if len(self._rows) < _MOST:
            self._rows[process.pid] = _describe(process)
        else:
            self._left_out += 1

    def weigh(self, processes: Iterable[Process]) -> None:
        """One of the processes ends, and all still have their memory: keep what they have if it is the most so far."""
        images = {id(one.image): one.image for one in processes}.values()  # threads of vfork share one
        now = Together(
            sum(image.space.mapped_bytes for image in images),
            sum(image.space.resident_bytes for image in images),
            sum(image.machine.table_count for image in images),
        )
        self.most = max(self.most, now, key=lambda each: each.resident)

    def record(self, others: dict[int, Process], *, arguments: bool) -> dict[str, Any]:
        """Return all rows, by the numbers of the processes, and those of `others`, which run still.

        Without `arguments` no row has those of the command.
        """
        rows = {pid: _describe(process) for pid, process in others.items() if not process.ended}
        rows |= self._rows
        kept = [dict(rows[pid]) for pid in sorted(rows)]
        if not arguments:
            for row in kept:
                row["command"] = row["command"][:1]
        return {"left_out": self._left_out, "processes": kept}


def _describe(process: Process) -> dict[str, Any]:
    """Return what a report says of a process: times in ns, `peak` in bytes."""
    change, number = process.ending if process.ended else (None, 0)
    return {
        "pid": process.pid,
        "parent": process.parent_pid,
        "command": [os.fsdecode(word) for word in process.image.program.argv],
        "status": number if change is Change.EXITED else None,
        "signal": None if change is None or change is Change.EXITED else signal_name(number),
        "threads": process.threads_made,
        "time": process.usage.time(),
        **asdict(process.used()),
        "page_faults": process.usage.faults,
        "peak": process.usage.peak,
    }
