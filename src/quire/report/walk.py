"""A walk for people: each reference numbered, with its dimension, level, entry and flags, and the outcome.

The fields are read by name from any record that has them: the report room takes data, never the model.
"""

from typing import Any

__all__ = ["walk_lines"]

_LEVEL_NAMES = {
    0: {4: "PML4E", 3: "PDPTE", 2: "PDE", 1: "PTE"},
    1: {4: "EPT PML4E", 3: "EPT PDPTE", 2: "EPT PDE", 1: "EPT PTE"},
}


def walk_lines(walk: Any) -> list[str]:
    """Return one aligned line a reference and a last line with the outcome."""
    lines = []
    for number, ref in enumerate(walk.references, 1):
        name = _LEVEL_NAMES[ref.dimension][ref.level]
        flags = ref.flags() if ref.entry else "not present"
        indent = "" if ref.dimension == 0 else "  "
        lines.append(
            f"{number:>2}  {indent + name:<12} [{ref.index:>3}]  at hpa {ref.hpa:#012x}  {ref.entry:#018x}  {flags}"
        )
    return [*lines, _outcome(walk)]


def _outcome(walk: Any) -> str:
    status = walk.status.name
    if status == "OK":
        return f"    -> gpa {walk.gpa:#x} -> hpa {walk.hpa:#x}, allowed {walk.rights!r}"
    where = _LEVEL_NAMES[walk.fault_dimension].get(walk.fault_level, "")
    if status == "PAGE_FAULT":
        return f"    -> #PF at the {where}, error code {walk.error:#x}"
    if status == "NON_CANONICAL":
        return "    -> #GP: the address is not canonical, no table is read"
    return f"    -> {status} at the {where}, gpa {walk.fault_gpa:#x}, qualification {walk.error:#x}"
