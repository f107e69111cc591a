"""Which helpers of the library others stand for: a row for each, found by the helper's address.

Who stands for one is loaded when the first instruction that needs it is translated: most programs need none.
"""

import ctypes
from functools import cache
from importlib import import_module
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quire.cpu.soft.tcg.cells import REPAIRS, Repair
from quire.cpu.soft.tcg.library import Library
from quire.cpu.soft.tcg.repairs.operations import (
    DOT_PRODUCTS,
    ROUNDING,
    VECTOR,
    Status,
    vector_number,
    x87_number,
)

__all__ = ["StandIn", "Table", "stand_ins"]

_ROOM = __package__
#: A helper whose flags say that it may do anything: to the generator the others are this one.
_PROTOTYPE = "helper_pcmpestri_xmm_x86_64"
_RAISING = "_kernels_vector"  # exceptions at the instruction itself
_COMPARISONS = ("comiss", "ucomiss", "comisd", "ucomisd")
_BINARY = ("fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr")
#: x87 helpers of the same form: operations, what stands for them, and what their names end with.
_X87 = (
    (("fsqrt", "frndint", "f2xm1", "fsin", "fcos"), "on_top", ""),
    (("fprem", "fprem1", "fscale"), "on_top_and_next", ""),
    (("fyl2x", "fyl2xp1", "fpatan"), "on_popped", ""),
    (("fptan", "fsincos", "fxtract"), "on_pushed", ""),
    (_BINARY, "on_top_and_operand", "_ST0_FT0"),
    (_BINARY, "on_other_and_top", "_STN_ST0"),
    (("fcom", "fucom"), "on_comparison", "_ST0_FT0"),
    (("flds", "fldl"), "on_load", "_ST0"),
    (("flds", "fldl"), "on_operand", "_FT0"),
    (("fsts", "fstl", "fist", "fistl", "fistll", "fistt", "fisttl", "fisttll"), "on_store", "_ST0"),
)


class StandIn(NamedTuple):
    """A callback of a module of this room, and what it gets behind the helper's own arguments."""

    module: str
    name: str
    operation: int


class Table:
    """The table for one library; :attr:`rows` is laid out as compiled code wants it.

    Raises LookupError if the library lacks a helper.
    """

    def __init__(self, library: Library) -> None:
        self.rows: npt.NDArray[np.uint64] = np.zeros((REPAIRS, Repair.WORDS), np.uint64)
        self.prototype = library.address(_PROTOTYPE)
        self._stand_ins: dict[int, StandIn] = {}
        for name, stand_in in stand_ins().items():
            helper = library.address(f"helper_{name}_x86_64")
            at = helper >> 4 & REPAIRS - 1
            while self.rows[at, Repair.HELPER]:
                at = (at + 1) % REPAIRS
            self.rows[at, Repair.HELPER], self.rows[at, Repair.OPERATION] = helper, stand_in.operation
            self.rows[at, Repair.RAISES] = stand_in.module == _RAISING
            self._stand_ins[at] = stand_in
        self._resolver = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(self._resolve)
        self.resolver = ctypes.cast(self._resolver, ctypes.c_void_p).value or 0

    def _resolve(self, at: int) -> None:
        """Load who stands for the helper of row `at`."""
        stand_in = self._stand_ins[at]
        callback = getattr(import_module(f"{_ROOM}.{stand_in.module}"), stand_in.name)
        self.rows[at, Repair.STAND_IN] = callback.address


@cache
def stand_ins() -> dict[str, StandIn]:
    """Return who stands for each helper, by its name without ``helper_``."""
    found = {name: StandIn("_kernels_vector", _of_vector(name), vector_number(name)) for name in VECTOR}
    for name in ROUNDING:
        found[f"{name}_xmm"] = StandIn("_kernels_vector", "on_rounding", vector_number(f"{name} 0"))
        for how in range(16):
            del found[f"{name} {how}"]
    for name in DOT_PRODUCTS:
        found[f"{name}_xmm"] = StandIn("_kernels_vector", "on_dot_product", found.pop(name).operation)
    for names, callback, suffix in _X87:
        found |= {f"{name}{suffix}": StandIn("_kernels_x87", callback, x87_number(name)) for name in names}
    for name in ("fcom", "fucom"):  # which set no condition but C1
        found[f"{name}i_ST0_FT0"] = StandIn("_kernels_x87", "on_flags", x87_number(name, Status.C1))
    for name in ("pcmpestri", "pcmpestrm", "pcmpistri", "pcmpistrm"):
        found[f"{name}_xmm"] = StandIn("_kernels_text", f"on_{name}", 0)
    return found


def _of_vector(name: str) -> str:
    """Return what stands for a helper of vectors that has no immediate."""
    if name in _COMPARISONS:
        return "on_comparison"
    if name.startswith(("cvtsi2", "cvtsq2")):
        return "on_number"
    return "on_to_number" if name.endswith(("2si", "2sq")) else "on_two"
