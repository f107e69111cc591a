"""The flag under which the engine looks for requests to stop at blocks and nowhere else, found by experiment.

Code that the engine compiles looks for them behind every access too, where the instruction has been half done. One byte
of the engine's structure switches that off: the third of four flags in a row, of which the second and the last are up
between runs. It is looked for once, in an engine of its own: what a guest's engine runs first decides its TLB's size.
"""

import ctypes
from functools import cache

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

__all__ = ["find_exit_flag"]

#: mov rax, [rdi]; inc rcx; jmp to the next instruction, where a block begins: mov rax, [rdi]
_CODE_AT, _CODE = 0x1000, bytes.fromhex("488b07 48ffc1 eb00 488b07")
_NEXT_BLOCK = _CODE_AT + 8
_SIZE = 0x2000
#: The four flags, and what fills the word.
_FLAGS = (0, 1, 0, 1, 0, 0, 0, 0)

_libc = ctypes.CDLL(None)
_libc.malloc_usable_size.restype = ctypes.c_size_t
_libc.malloc_usable_size.argtypes = [ctypes.c_void_p]


@cache
def find_exit_flag() -> int:
    """Return the flag's offset in an engine's structure, 0 if it is not clear."""
    handle = ctypes.c_void_p()
    if uclib.uc_open(uc.UC_ARCH_X86, uc.UC_MODE_64, ctypes.byref(handle)):
        return 0
    try:
        return _search(handle)
    finally:
        uclib.uc_close(handle)


def _search(handle: ctypes.c_void_p) -> int:
    uclib.uc_mem_map(handle, ctypes.c_uint64(0), ctypes.c_size_t(_SIZE), uc.UC_PROT_ALL)
    uclib.uc_mem_write(handle, ctypes.c_uint64(_CODE_AT), _CODE, ctypes.c_size_t(len(_CODE)))
    stop = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 6)(lambda *_: uclib.uc_emu_stop(handle))
    hook = ctypes.c_size_t()
    uclib.uc_hook_add(
        handle,
        ctypes.byref(hook),
        ctypes.c_int(uc.UC_HOOK_MEM_READ),
        stop,
        ctypes.c_void_p(0),
        ctypes.c_uint64(1),
        ctypes.c_uint64(0),
    )
    if _stopped_by_load(handle) == _NEXT_BLOCK:
        return 0  # as if the flag were up: nothing can be told apart
    octets = _structure(handle)
    candidates = np.flatnonzero((octets.reshape(-1, 8) == _FLAGS).all(axis=1))
    if candidates.size != 1:
        return 0
    flag = 8 * int(candidates[0]) + 2
    octets[flag] = 1
    waits = _stopped_by_load(handle) == _NEXT_BLOCK
    octets[flag] = 0
    return flag if waits and _stopped_by_load(handle) != _NEXT_BLOCK else 0


def _stopped_by_load(handle: ctypes.c_void_p) -> int:
    """Return where the engine ends if a hook of the first load asks it to stop."""
    request = uc.UC_CTL_TB_FLUSH | uc.UC_CTL_IO_WRITE << 30
    uclib.uc_ctl(handle, ctypes.c_int32(request))
    address = ctypes.c_uint64(0)
    uclib.uc_reg_write(handle, x86.UC_X86_REG_RDI, ctypes.byref(address))
    uclib.uc_emu_start(
        handle, ctypes.c_uint64(_CODE_AT), ctypes.c_uint64(_SIZE), ctypes.c_uint64(0), ctypes.c_size_t(0)
    )
    rip = ctypes.c_uint64()
    uclib.uc_reg_read(handle, x86.UC_X86_REG_RIP, ctypes.byref(rip))
    return rip.value


def _structure(handle: ctypes.c_void_p) -> npt.NDArray[np.uint8]:
    size = _libc.malloc_usable_size(handle)
    pointer = ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, (size & ~7,))
