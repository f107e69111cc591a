"""How a compiled loop is declared: one explicit signature; its code is stored, and loaded at the first use.

A kernel that only other kernels call is part of their machine code. So a command pays for the few kernels that it
calls, not for all that its modules name; and where stored code fits, it does so without a compiler.
"""

from quire.kernels import types
from quire.kernels.declared import Callback, Kernel, callback, carray, compiled_by, kernel
from quire.kernels.loading import load
from quire.kernels.notice import before_compiling

__all__ = [
    "Callback",
    "Kernel",
    "before_compiling",
    "callback",
    "carray",
    "compiled_by",
    "kernel",
    "load",
    "types",
]
