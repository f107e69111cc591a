"""A program with threads, forks and execs, of whose allocations one fails: what is left must be somebody's.

``python tests/campaigns/task_failures.py MMU PROGRAM [FIRST STEP COUNT]`` runs PROGRAM once for each point of failure
from FIRST on, every STEP-th, COUNT of them (by default all), and prints a line of totals. The guest may end as it
likes, by a signal too; Quire may not: no exception leaves a run, every frame has one owner afterwards, and those that
the guest has are those of the process that is left, of cached files, and of tables.
"""

import os
import sys
import traceback
from collections import Counter
from typing import Any

from quire import failpoints
from quire.guest.kernel.process import ProcessGuest
from quire.guest.load.launch import LaunchError
from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
from quire.machine import GuestConfig, Vcpu
from quire.memory import OwnerKind

_SITES = frozenset(("allocate", "map", "split"))
_SMALL = 512


def _whose(vcpu: Vcpu, guest: ProcessGuest) -> None:
    """Assert that what the guest has is what is left of it."""
    kernel, frames, store = guest.kernel, vcpu.mmu.frames, guest.space.pages.shared
    images = {id(each.image): each.image for each in kernel.processes.values() if each.image.users}.values()
    spaces = [image.space for image in images]
    of_files = {page.gpa for key in list(store.keys()) for page in store.of(key)}
    private = {entry & ~0xFFF for space in spaces for entry in space.pages.small.values()}
    large = {entry & ~0xFFF for space in spaces for entry in space.pages.large.values()}
    pages = len(private | of_files) + _SMALL * len(large)
    assert frames.frames_of(OwnerKind.GUEST_PAGE) == pages, (
        f"{pages} frames are somebody's, {frames.frames_of(OwnerKind.GUEST_PAGE)} are taken"
    )
    machines = [image.machine for image in images] + ([kernel._idle] if kernel._idle else [])
    tables = sum(each.table_count for each in machines)  # type: ignore[attr-defined]
    assert frames.frames_of(OwnerKind.GUEST_TABLE) == tables, "tables are lost"


def _run(spec: RunSpec, ordinal: int | None) -> tuple[str, failpoints.FailurePlan]:
    """Run once with the failure of this ordinal; return how it ended, in words."""
    said: list[Any] = []
    plan = failpoints.FailurePlan(ordinal, _SITES)
    session = open_session(spec, {b"PATH": b"/bin:/usr/bin"}, look=_whose, say=said.append)
    try:
        with plan:
            status = session.run()
    except LaunchError as error:
        return f"not started ({error.status})", plan
    return f"status {status}", plan


def main(mmu: str, program: str, first: int = 1, step: int = 1, count: int | None = None) -> int:
    """Run the sweep, print what came of it, return 1 if anything was wrong."""
    spec = RunSpec((program,), GuestConfig(mmu, memory=64 << 20), audit_every=1_000_000)
    quiet = os.open(os.devnull, os.O_WRONLY)
    out = os.dup(1)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    _, plan = _run(spec, None)
    ordinals = range(first, plan.reached + 1, step)[:count]
    endings: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for ordinal in ordinals:
        try:
            ending, failed = _run(spec, ordinal)
            assert failed.error is not None, "it was not reached"
            endings[ending] += 1
        except Exception as error:  # the sweep goes on: what one point says is not what the next one does
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong[type(error).__name__] += 1
            text = f"point {ordinal}: {type(error).__name__} in {last.name}: {error}"
            os.write(out, text.encode() + b"\n")
    totals = (
        f"{len(ordinals)} of {plan.reached} points: {dict(sorted(endings.items()))}, wrong: {dict(wrong)}"
    )
    os.write(out, totals.encode() + b"\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
