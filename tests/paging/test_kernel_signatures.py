"""Every kernel has one explicit signature of exact types: nothing is inferred, nothing falls back to floats."""

import importlib

import pytest
from numba import types
from numba.core.registry import CPUDispatcher

from quire.kernels import load

MODULES = (
    "quire.memory._kernels_buddy",
    "quire.memory._kernels",
    "quire.memory._kernels_batches",
    "quire.paging._kernels",
    "quire.paging._kernels_ept",
    "quire.paging._kernels_memo",
    "quire.tlb._kernels",
    "quire.tlb._kernels_replacement",
    "quire.cpu.soft._kernels",
    "quire.cpu.soft._kernels_blocks",
    "quire.cpu.soft._kernels_lookups",
    "quire.cpu.soft.tcg._kernels_access",
    "quire.cpu.soft.tcg._kernels_emit",
    "quire.cpu.soft.tcg._kernels_misses",
    "quire.cpu.soft.tcg._kernels_raw",
    "quire.cpu.soft.tcg._kernels_slots",
)
#: 32 bits where the engine's library has them.
EXACT = {types.int64, types.uint64, types.int32, types.boolean, types.void}


def dispatchers() -> list[tuple[str, CPUDispatcher]]:
    return [
        (f"{name}.{attribute}", value)
        for name in MODULES
        for attribute, value in vars(importlib.import_module(name)).items()
        if isinstance(value, CPUDispatcher) and value.py_func.__module__ == name
    ]


def test_each_room_with_kernels_is_looked_at() -> None:
    assert {name.rsplit(".", 1)[0] for name, _ in dispatchers()} == set(MODULES)


@pytest.mark.parametrize(("name", "kernel"), [pytest.param(*pair, id=pair[0]) for pair in dispatchers()])
def test_return_type(name: str, kernel: CPUDispatcher) -> None:
    (compiled,) = load(kernel).overloads.values()
    assert compiled.signature.args == kernel.declared_signature.args, name
    returned = compiled.signature.return_type
    parts = returned if isinstance(returned, types.NamedTuple) else (returned,)  # a record, of pointers
    assert all(part in EXACT or isinstance(part, types.CPointer) for part in parts), name
