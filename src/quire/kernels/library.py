"""Numba's unit of compilation, for code that is stored: nothing is loaded here, and only what is called is optimised.

Numba optimises each kernel, and whatever that calls once more with each caller. Here only the outermost is, whole.
"""

from typing import Any

from numba.core.codegen import JITCodeLibrary

__all__ = ["StoredLibrary"]


class StoredLibrary(JITCodeLibrary):
    """The code of one kernel and of all that it calls."""

    #: Whether it is called from without, by Python or by C.
    outermost = False

    def _optimize_final_module(self) -> None:
        if self.outermost:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """There is none: the code is not loaded."""
        self._ensure_finalized()
        return 0

    def emit_object(self) -> bytes:
        """Return the ELF object."""
        self._ensure_finalized()
        machine: Any = self._codegen._tm
        return bytes(machine.emit_object(self._final_module))
