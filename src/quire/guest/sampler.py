"""The working set of a program while it runs: a clock interrupts the Cpu, and what was accessed is sampled.

Wall time decides when a sample is made, so that a record of samples is not reproducible. A system call that takes long
delays a sample; none is made up for.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from quire.machine import Machine
from quire.observe import AccessTracker

__all__ = ["Sampler"]


class Sampler:
    """Samples the guest of `machine` every `period` seconds between enter and exit, and once more at exit.

    A thread calls `interrupt`; the one who is interrupted calls :meth:`sample_if_due`.
    """

    def __init__(
        self,
        machine: Machine,
        period: float,
        interrupt: Callable[[], None],
    ) -> None:
        self._tracker = AccessTracker(machine)
        self._period, self._interrupt = period, interrupt
        self._due = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="quire-working-set", daemon=True)

    def sample_if_due(self) -> None:
        """Sample, if a period has passed since the last one."""
        if self._due:
            self._due = False
            self._tracker.sample(time.perf_counter() - self._begun)

    def record(self) -> dict[str, Any]:
        """Return the samples as plain data: times in seconds since the guest began, sizes in bytes."""
        series = self._tracker.series
        sizes = [one.bytes for one in series]
        return {
            "period": self._period,
            "samples": [{"time": round(one.time, 6), "bytes": one.bytes} for one in series],
            "maximum": max(sizes),
            "mean": round(sum(sizes) / len(sizes)),
            "idle": {str(age): size for age, size in self._tracker.idle().items()},
        }

    def __enter__(self) -> Self:
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._tracker.sample(time.perf_counter() - self._begun)
        self._tracker.close()

    def _tick(self) -> None:
        while not self._closing.wait(self._period):
            self._due = True
            self._interrupt()
