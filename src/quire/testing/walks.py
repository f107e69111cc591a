"""One access walked by the kernel and by its twin, in copies of one world: what each said and did, side by side."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from quire.arch import Access
from quire.paging import RESULT_WORDS, Result, Status, WalkRecord, reference_walk
from quire.paging._kernels import walk
from quire.testing.tally import Tally
from quire.testing.world import World

__all__ = ["BothWalks", "compare_walks", "walk_both"]

_ALWAYS = (
    Result.STATUS,
    Result.VECTOR,
    Result.ERROR,
    Result.FAULT_GPA,
    Result.FAULT_LEVEL,
    Result.FAULT_DIMENSION,
    Result.GUEST_REFERENCES,
    Result.HOST_REFERENCES,
)
_WHEN_OK = (
    Result.HPA,
    Result.GPA,
    Result.GUEST_SHIFT,
    Result.HOST_SHIFT,
    Result.RIGHTS,
    Result.DIRTY,
    Result.GLOBAL,
    Result.GUEST_ENTRY,
    Result.HOST_ENTRY,
)


@dataclass(frozen=True, slots=True)
class BothWalks:
    """The two outcomes as equal-shaped dictionaries, and the twin's record, which explains."""

    kernel: dict[str, Any]
    twin: dict[str, Any]
    record: WalkRecord


def walk_both(world: World, gva: int, access: Access) -> BothWalks:
    """Walk with both, each in its own copy of memory and context. The world itself is as after the twin's walk."""
    memory, context = world.memory.copy(), world.context.copy()
    result = np.zeros(RESULT_WORDS, np.uint64)
    walk(memory, context, np.uint64(gva), np.uint64(access), result)
    record = reference_walk(world.memory, world.context, gva, access)
    words = result.tolist()
    fields = _ALWAYS if words[Result.STATUS] else (*_ALWAYS, *_WHEN_OK)
    kernel: dict[str, Any] = {field.name: words[field] for field in fields}
    count = words[Result.GUEST_REFERENCES] + words[Result.HOST_REFERENCES]
    kernel["references"] = words[Result.REFERENCES : Result.REFERENCES + count]
    kernel["memory"], kernel["context"] = "as the twin's", "as the twin's"
    twin = _said(record)
    if not np.array_equal(memory, world.memory):
        where = int(np.flatnonzero(memory != world.memory)[0])
        kernel["memory"] = f"{int(memory[where]):#x} at {8 * where:#x}"
        twin["memory"] = f"{int(world.memory[where]):#x} at {8 * where:#x}"
    if not np.array_equal(context, world.context):
        kernel["context"], twin["context"] = str(context.tolist()), str(world.context.tolist())
    return BothWalks(kernel, twin, record)


def _said(record: WalkRecord) -> dict[str, Any]:
    said: dict[str, Any] = {
        "STATUS": record.status,
        "VECTOR": record.vector,
        "ERROR": record.error,
        "FAULT_GPA": record.fault_gpa,
        "FAULT_LEVEL": record.fault_level,
        "FAULT_DIMENSION": record.fault_dimension,
        "GUEST_REFERENCES": record.guest_references,
        "HOST_REFERENCES": record.host_references,
    }
    if record.status is Status.OK:
        said |= {
            "HPA": record.hpa,
            "GPA": record.gpa,
            "GUEST_SHIFT": record.guest_shift,
            "HOST_SHIFT": record.host_shift,
            "RIGHTS": record.rights,
            "DIRTY": record.dirty,
            "GLOBAL": record.global_page,
            "GUEST_ENTRY": record.guest_entry,
            "HOST_ENTRY": record.host_entry,
        }
    said["references"] = [reference.hpa for reference in record.references]
    said["memory"], said["context"] = "as the twin's", "as the twin's"
    return said


def compare_walks(tally: Tally, world: World, gva: int, access: Access, what: str) -> WalkRecord:
    """Count one comparison of kernel and twin; `what` names the case in a difference. Return the twin's record."""
    both = walk_both(world, gva, access)
    if both.kernel == both.twin:
        tally.compared += 1
    else:
        differ = [name for name, said in both.twin.items() if both.kernel.get(name) != said]
        kernel, twin = ({name: side.get(name) for name in differ} for side in (both.kernel, both.twin))
        tally.compare(f"{what}, {access.name.lower()} of {gva:#x}", kernel, twin)
    return both.record
