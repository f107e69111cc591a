"""What a run says of its processes: who came of whom, how each ended, what it used."""

from typing import Any

from quire.guest.kernel.system import Kernel
from quire.guest.run_spec import RunSpec

__all__ = ["task_record"]


def task_record(kernel: Kernel, spec: RunSpec) -> dict[str, Any]:
    """Return the processes in the order of their beginning, and how often another task was given the vCPU."""
    rows = {row["pid"]: row for row in kernel.history}
    rows |= {pid: kernel.describe(process) for pid, process in kernel.processes.items() if pid not in rows}
    if not spec.record_arguments:
        for row in rows.values():
            row["command"] = row["command"][:1]
    return {
        "deterministic": kernel.clock.is_virtual,
        "switches": kernel.scheduler.switches,
        "left_out": kernel.left_out,
        "processes": [rows[pid] for pid in sorted(rows)],
    }
