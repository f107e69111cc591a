"""An engine of its own in which facts of the library are tried out before a guest's engine relies on them.

What a guest's engine runs first decides the size of its TLB, so that nothing is tried out there.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from quire.errors import BackendError

__all__ = ["CODE_AT", "Trial", "structure_of", "trial"]

#: Where a trial's code begins; what is read lies below.
CODE_AT = 0x1000
_SIZE = 0x2000

_libc = ctypes.CDLL(None)
_libc.malloc_usable_size.restype = ctypes.c_size_t
_libc.malloc_usable_size.argtypes = [ctypes.c_void_p]


def structure_of(handle: ctypes.c_void_p) -> npt.NDArray[np.uint8]:
    """Return the octets of the engine's own structure, which `handle` points to, in whole words."""
    size = _libc.malloc_usable_size(handle)
    pointer = ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (size & ~7,))


class Trial:
    """An engine with `code` at CODE_AT, whose reads of memory call :attr:`on_read` in turn."""

    def __init__(self, handle: ctypes.c_void_p, code: bytes) -> None:
        self.handle = handle
        self.on_read: Callable[[], object] = lambda: None
        self.octets = structure_of(handle)
        self._code = code
        uclib.uc_mem_map(handle, ctypes.c_uint64(0), ctypes.c_size_t(_SIZE), uc.UC_PROT_ALL)
        uclib.uc_mem_write(handle, ctypes.c_uint64(CODE_AT), code, ctypes.c_size_t(len(code)))
        self._hook = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 6)(lambda *_: self.on_read())
        made = ctypes.c_size_t()
        uclib.uc_hook_add(
            handle,
            ctypes.byref(made),
            ctypes.c_int(uc.UC_HOOK_MEM_READ),
            self._hook,
            ctypes.c_void_p(0),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )

    def run(self) -> tuple[int, int]:
        """Compile the code anew and run it from its first byte; return the library's error number and RIP."""
        uclib.uc_ctl(self.handle, ctypes.c_int32(uc.UC_CTL_TB_FLUSH | uc.UC_CTL_IO_WRITE << 30))
        address = ctypes.c_uint64(0)
        uclib.uc_reg_write(self.handle, x86.UC_X86_REG_RDI, ctypes.byref(address))
        end = ctypes.c_uint64(CODE_AT + len(self._code))
        error = uclib.uc_emu_start(
            self.handle, ctypes.c_uint64(CODE_AT), end, ctypes.c_uint64(0), ctypes.c_size_t(0)
        )
        rip = ctypes.c_uint64()
        uclib.uc_reg_read(self.handle, x86.UC_X86_REG_RIP, ctypes.byref(rip))
        return int(error), rip.value

    def stop(self) -> None:
        """Ask the library to stop the run."""
        uclib.uc_emu_stop(self.handle)


@contextmanager
def trial(code: bytes) -> Iterator[Trial]:
    """Open an engine for 64-bit `code`, and close it. Raises BackendError if the library opens none."""
    handle = ctypes.c_void_p()
    if error := uclib.uc_open(uc.UC_ARCH_X86, uc.UC_MODE_64, ctypes.byref(handle)):
        raise BackendError(
            f"Unicorn opens no x86-64 engine (error {error}): reinstall unicorn 2.1.3 or newer"
        )
    try:
        yield Trial(handle, code)
    finally:
        uclib.uc_close(handle)
