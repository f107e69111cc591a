"""The record of a boot: plain data for reports, in a fixed order. Host times are under ``time`` alone."""

import sys
from collections.abc import Sequence
from typing import Any

from quire.arch import Vector
from quire.cpu import Detail
from quire.devices.virtio import BalloonDevice, BlockDevice
from quire.guest.boot.boot_spec import BootSpec
from quire.guest.boot.pc import Pc
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
from quire.vcpu import counting
from quire.version import __version__

__all__ = ["SCHEMA", "boot_record"]

#: Version of the record's shape; grows when a field changes its meaning or goes.
SCHEMA = 1


def boot_record(
    spec: BootSpec,
    pc: Pc,
    disks: Sequence[BlockDevice],
    ended: tuple[int, str, str | None],
    times: dict[str, float],
) -> dict[str, Any]:
    """Return the record of a boot that `ended` with a status, how, and why if not as it should.

    `disks` are the first of the PC's virtio devices.
    """
    vcpus, full = pc.machine.vcpus, spec.detail is Detail.FULL
    events = all_events(vcpus)
    status, how, reason = ended
    return {
        "schema": SCHEMA,
        "quire": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "boot": {"kernel": spec.kernel, "initrds": list(spec.initrds), "append": spec.append},
        "config": _config(spec),
        "outcome": {"status": status, "how": how, "reason": reason, "guest_nanoseconds": pc.clock.now()},
        "instructions": events.get("instructions"),
        "accesses": access_counts(events) if full else None,
        "tlb": tlb_counts(events) if full else None,
        "walk_caches": all_walk_hits(vcpus) if full else None,
        "size_conflicts": sum(one.tlb.conflicts for one in vcpus) if full else None,
        "walks": walk_counts(events),
        "page_faults": sum(one.vmx.delivered.get(Vector.PF, 0) for one in vcpus),
        "exits": all_exits(vcpus),
        "delivered": _delivered(pc),
        "invalidations": _invalidations(pc),
        "vcpus": [_row(pc, number) for number in range(len(vcpus))],
        "memory": _memory(pc),
        "balloon": _balloon(pc.balloon) if spec.balloon else None,
        "disks": [
            _disk(one, transport.trouble) for one, transport in zip(disks, pc.virtio.transports, strict=False)
        ],
        "flushes": flush_records(vcpus, lambda address: None),
        "time": times,
    }


def _config(spec: BootSpec) -> dict[str, Any]:
    config = spec.config
    return {
        "mmu": config.mmu,
        "host_page": config.host_page if config.shape.has_map else None,
        "memory": config.memory,
        "detail": spec.detail.name.lower(),
        "caching": str(config.caching),
        "seed": config.seed,
        "profile": config.profile.name,
        "replacement": None if config.tlb.replacement is None else str(config.tlb.replacement),
        "largest_tlb_page": config.tlb.largest_page,
        "walk_caches": config.tlb.walk_caches,
        "vpid": config.vpid,
        "vcpus": config.vcpus,
    }


def _delivered(pc: Pc) -> dict[str, int]:
    """Return how often each exception and interrupt was delivered, by name or number."""
    found: dict[int, int] = {}
    for one in pc.machine.vcpus:
        for vector, count in one.vmx.delivered.items():
            found[int(vector)] = found.get(int(vector), 0) + count
    names = {int(vector): f"#{vector.name}" for vector in Vector}
    return {names.get(vector, f"{vector:#x}"): count for vector, count in sorted(found.items())}


def _invalidations(pc: Pc) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in pc.machine.vcpus:
        for operation, count in one.mmu.invalidations.items():
            found[operation.name] = found.get(operation.name, 0) + count
    return dict(sorted(found.items()))


def _row(pc: Pc, number: int) -> dict[str, Any]:
    one = pc.machine.vcpus[number]
    events = counting(one.cpu).events()
    return {
        "node": one.node,
        "instructions": events.get("instructions"),
        "walks": events["walks"],
        "exits": sum(one.exits.values()),
    }


def _balloon(one: BalloonDevice) -> dict[str, int]:
    """Return the pages that were asked for and were given at the end, and how many frames the host got back."""
    return {"wanted": one.wanted, "given": one.pages, "frames_returned": one.frames_returned}


def _disk(one: BlockDevice, trouble: str | None) -> dict[str, Any]:
    """Return what became of a disk; `trouble` is what its driver did wrong."""
    return {
        "file": one.disk.name,
        "mode": one.disk.mode.name.lower(),
        "sectors": one.disk.sectors,
        "read": one.sectors_read,
        "written": one.sectors_written,
        "flushes": one.flushes,
        "trouble": trouble,
    }


def _memory(pc: Pc) -> dict[str, Any]:
    mmu = pc.machine.mmu
    mapped = mmu.mapped
    host = None
    if mapped is not None:
        host = {
            "mapped": mapped.memory_map.mapped_bytes,
            "resident": mmu.resident_bytes(),
            "table_pages": mapped.memory_map.table_count,
        }
    return {"guest": None, "host": host, "shadow": all_shadows(pc.machine.vcpus)}
