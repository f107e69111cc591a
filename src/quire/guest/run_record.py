"""The record of a run: plain data for reports, dicts of numbers and strings in a fixed order.

Nothing of the model is in it. Everything that depends on the clock is under ``time``.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from quire.cpu import Detail
from quire.guest.counted_record import (
    access_counts,
    all_events,
    all_exits,
    all_shadows,
    all_walk_hits,
    flush_records,
    tlb_counts,
    walk_counts,
)
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.processors import Processors
from quire.guest.kernel.siginfo import GuestDeath, signal_name
from quire.guest.kernel.system import Kernel
from quire.guest.load.launch import Program
from quire.guest.load.symbols import Symbols
from quire.guest.numa_record import numa_record
from quire.guest.run_spec import RunSpec
from quire.guest.sampler import Sampler
from quire.guest.vcpu_record import vcpu_rows
from quire.version import __version__

__all__ = ["SCHEMA", "run_record"]

#: Version of the record's shape; grows when a field changes its meaning or goes.
SCHEMA = 1


def run_record(
    program: Program,
    spec: RunSpec,
    processors: Processors,
    guest: ProcessGuest,
    ended: tuple[int, GuestDeath | None],
    sampler: Sampler | None,
    times: dict[str, float],
    walls: Sequence[str] = (),
    region: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of the run of `program`; keys are in the order in which reports show them.

    `ended` is the exit status and the guest's death, if it died; `region` says which part of the run counts. Raises
    MisuseError for an engine that counts nothing.
    """
    vcpus, (status, death) = processors.all, ended
    full = spec.detail is Detail.FULL
    events = all_events(vcpus)
    return {
        "schema": SCHEMA,
        "quire": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "program": {
            "path": program.path,
            "argv": spec.recorded(program.argv),
        },
        "config": _config(spec, guest, list(walls)),
        "outcome": {
            "status": status,
            "signal": signal_name(death.signo) if death else None,
            "partial": death is not None and death.signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
            "reason": death.text if death else None,
        },
        "region": region,
        "instructions": events.get("instructions"),
        "accesses": access_counts(events) if full else None,
        "tlb": tlb_counts(events) if full else None,
        "walk_caches": all_walk_hits(vcpus) if full else None,
        "size_conflicts": sum(one.tlb.conflicts for one in vcpus) if full else None,
        "walks": walk_counts(events),
        "page_faults": sum(one.page_faults for one in vcpus),
        "exits": all_exits(vcpus),
        "syscalls": dict(sorted(guest.syscall_counts.items(), key=lambda item: (-item[1], item[0]))),
        "unimplemented": dict(guest.unimplemented),
        "tasks": _tasks(guest.kernel, spec),
        "vcpus": vcpu_rows(processors, guest.kernel.scheduler, full=full),
        "memory": _memory(processors, guest),
        "numa": numa_record(vcpus, full=full),
        "flushes": flush_records(vcpus, Symbols(guest.space).name),
        "working_set": None if sampler is None else sampler.record(),
        "time": times,
    }


def _config(spec: RunSpec, guest: ProcessGuest, walls: Sequence[str]) -> dict[str, Any]:
    """Return the hardware that the guest had, and how it was run."""
    config = spec.config
    return {
        "mmu": config.mmu,
        "guest_page": config.guest_page,
        "host_page": config.host_page if config.shape.has_map else None,
        "memory": config.memory,
        "detail": spec.detail.name.lower(),
        "caching": str(config.caching),
        "seed": spec.seed,
        "clock": spec.clock,
        "schedule": spec.schedule,
        "thp": str(guest.space.commons.large.value),
        "sandbox": spec.sandbox,
        "walls": walls,
        "profile": config.profile.name,
        "replacement": None if config.tlb.replacement is None else str(config.tlb.replacement),
        "largest_tlb_page": config.tlb.largest_page,
        "walk_caches": config.tlb.walk_caches,
        "vpid": config.vpid,
        "vcpus": config.vcpus,
    }


def _tasks(kernel: Kernel, spec: RunSpec) -> dict[str, Any]:
    """Return how often another task was given a vCPU, and every process in the order of their numbers."""
    found = kernel.history.record(kernel.processes, arguments=spec.record_arguments)
    if spec.detail is not Detail.FULL:  # where no access is looked up in the modelled TLBs
        for row in found["processes"]:
            row["tlb_misses"] = row["refills"] = None
    return {"deterministic": kernel.clock.is_virtual, "switches": kernel.scheduler.switches} | found


def _memory(processors: Processors, guest: ProcessGuest) -> dict[str, Any]:
    mmu, kernel = processors.current.mmu, guest.kernel
    history = kernel.history
    history.weigh(kernel.with_memory(kernel.first))
    mapped = mmu.mapped
    record: dict[str, Any] = {
        "guest": history.most._asdict(),
        "host": None,
        "shadow": all_shadows(processors.all),
    }
    if mapped is not None:
        record["host"] = {
            "mapped": mapped.memory_map.mapped_bytes,
            "resident": mmu.resident_bytes(),
            "table_pages": mapped.memory_map.table_count,
        }
    return record
