"""Numba's unit of compilation, for code that is stored: nothing is loaded here, and only what is called is optimised.

Numba optimises each kernel, and whatever that calls once more with each caller. Here only the outermost is, whole, and
for each level of processor.
"""

from collections.abc import Iterable
from typing import Any

from llvmlite import binding
from numba.core import config
from numba.core.codegen import JITCodeLibrary

__all__ = ["StoredLibrary", "machines_of"]


def machines_of(codegen: Any, levels: Iterable[str]) -> dict[str, Any]:
    """Return what makes code for each of `levels`, otherwise with the settings of `codegen`."""
    settings: Any = config
    options = {"opt": settings.OPT}
    codegen._customize_tm_options(options)
    target = binding.Target.from_triple(binding.get_process_triple())
    return {
        level: target.create_target_machine(**options | {"cpu": level, "features": ""}) for level in levels
    }


class StoredLibrary(JITCodeLibrary):
    """The code of one kernel and of all that it calls."""

    def _optimize_final_module(self) -> None:
        pass  # what calls this is optimised with it

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """There is none: the code is not loaded."""
        self._ensure_finalized()
        return 0

    def emit_object(self, machine: Any) -> bytes:
        """Return the ELF object, optimised for `machine`."""
        self._ensure_finalized()
        codegen, module = self._codegen, self._final_module
        kept, codegen._tm = codegen._tm, machine
        self._final_module = module.clone()
        try:
            super()._optimize_final_module()
            return bytes(machine.emit_object(self._final_module))
        finally:
            codegen._tm, self._final_module = kept, module
