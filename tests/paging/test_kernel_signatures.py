"""Every kernel has one explicit signature of exact types: nothing is inferred, nothing falls back to floats."""

import importlib
import sys

import pytest

from quire.kernels import Kernel, types
from quire.kernels.store import modules_with_code

#: 32 bits where the engine's library has them.
EXACT = (types.int64, types.uint64, types.int32, types.boolean, types.void)


def kernels() -> list[Kernel]:
    for name in modules_with_code():
        importlib.import_module(name)
    rooms = [module for name, module in sorted(sys.modules.items()) if "._kernels" in name]
    found = {id(one): one for room in rooms for one in vars(room).values() if isinstance(one, Kernel)}
    return list(found.values())


def test_each_room_with_kernels_is_looked_at() -> None:
    assert {one.__module__.split(".")[1] for one in kernels()} == {"memory", "paging", "tlb", "trace", "cpu"}
    assert len(kernels()) > 100


@pytest.mark.parametrize(
    "kernel", [pytest.param(one, id=f"{one.__module__}.{one.__name__}") for one in kernels()]
)
def test_return_type(kernel: Kernel) -> None:
    returned = kernel.declared_signature.result
    parts = returned.parts if isinstance(returned, types.NamedTuple) else (returned,)  # a record, of pointers
    assert all(part in EXACT or isinstance(part, types.CPointer) for part in parts)
