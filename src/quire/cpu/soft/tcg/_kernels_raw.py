"""Memory and functions by address: what stands between the library's functions has nothing else."""

import numpy as np

from quire.cpu.soft.stop_request import HALTED, NOW
from quire.cpu.soft.tcg.cells import CONTEXTS, REGISTRY, Cell
from quire.kernels import compiled_by, kernel, types

U = np.uint64
_BY = "quire.cpu.soft.tcg._intrinsics"
_0, _1, _8, _4 = (U(n) for n in (0, 1, 8, 4))
_RETURNS, _LEAVE, _LOOKED_AT = U(8 * Cell.RETURNS), U(8 * Cell.LEAVE), U(8 * Cell.LOOKED_AT)
_HALTED, _ONE, _NOW = np.uint32(HALTED), np.uint8(1), np.uint16(NOW)
_REGISTRY, _LAST = U(REGISTRY), U(CONTEXTS - 1)


# Compiled as ``_intrinsics.py`` says.
load64 = compiled_by(_BY, "load64")
store64 = compiled_by(_BY, "store64")
load32 = compiled_by(_BY, "load32")
store32 = compiled_by(_BY, "store32")
load16 = compiled_by(_BY, "load16")
store16 = compiled_by(_BY, "store16")
load8 = compiled_by(_BY, "load8")
store8 = compiled_by(_BY, "store8")
call3 = compiled_by(_BY, "call3")
do1 = compiled_by(_BY, "do1")
prefetch = compiled_by(_BY, "prefetch")
user_at = compiled_by(_BY, "user_at")


@kernel(types.uint64(types.uint64), inline="always")
def context_of(env):
    """Return the context of the engine with the CPU state `env`, 0 if it has none."""
    slot = (env >> _4) & _LAST
    found = _0
    for _ in range(CONTEXTS):
        key = load64(_REGISTRY + (slot << _4))
        if key == env:
            found = load64(_REGISTRY + (slot << _4) + _8)
            break
        if key == _0:
            break
        slot = (slot + _1) & _LAST
    return found


@kernel(types.void(types.uint64))
def ask_to_stop(context):
    """Have the engine end at its next block."""
    store32(load64(context + _RETURNS), _HALTED)
    store8(load64(context + _LEAVE), _ONE)
    store16(load64(context + _LOOKED_AT), _NOW)
