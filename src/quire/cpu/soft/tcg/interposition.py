"""Quire's functions in the tables of the engine's library, in place of its own: once in a process, for all its engines.

An engine that has no context, here or of somebody else's, gets what the library does.
"""

import ctypes
import threading
from collections import deque
from functools import cache
from typing import Any

from quire.cpu.soft.tcg import _kernels_emit, _kernels_misses, _kernels_records
from quire.cpu.soft.tcg.cells import CONTEXTS, REGISTRY
from quire.cpu.soft.tcg.library import ABSOLUTE, GLOBAL, JUMP, Library
from quire.cpu.soft.tcg.offsets import engines_library, knows_library
from quire.cpu.soft.tcg.repairs.table import Table

__all__ = [
    "library_with_contexts",
    "map_near",
    "register",
    "table_of_repairs",
    "turn_accesses",
    "unmap",
    "unregister",
]

#: How far a 32-bit displacement reaches, with a step to spare; between places that are tried.
_REACH, _STEP = (1 << 31) - (4 << 20), 4 << 20
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS_FIXED = 3, 0x100022
_registering = threading.Lock()
_gone: deque[tuple[int, int]] = deque()
_FREED = 1  # a key that no CPU state has, and that does not end a search
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
#: Functions whose every call within the library is Quire's.
_GENERATOR: dict[str, Any] = {
    "tcg_gen_callN": _kernels_emit.on_call,
    "gen_intermediate_code": _kernels_records.on_generate,
}
_ACCESSES: dict[str, Any] = {
    "gen_new_label": _kernels_emit.on_new_label,
    "tcg_gen_qemu_ld_i32": _kernels_emit.on_load_i32,
    "tcg_gen_qemu_ld_i64": _kernels_emit.on_load_i64,
    "tcg_gen_qemu_st_i32": _kernels_emit.on_store_i32,
    "tcg_gen_qemu_st_i64": _kernels_emit.on_store_i64,
    "tlb_flush_by_mmuidx": _kernels_misses.on_flush,
    "tlb_flush_page_by_mmuidx": _kernels_misses.on_flush_page,
    **{
        f"cpu_{name}_mmuidx_ra": getattr(_kernels_misses, f"on_own_{name}")
        for name in ("ldub", "ldsb", "lduw", "ldsw", "ldl", "ldq", "stb", "stw", "stl", "stq")
    },
}
#: Functions that emitted code calls, by a table; the library's own calls of them stay its own.
_LISTED: dict[str, Any] = {
    f"helper_{name}_mmu": made
    for made, names in (
        (_kernels_misses.on_load, "ret_ldub le_lduw le_ldul le_ldq be_lduw be_ldul be_ldq"),
        (_kernels_misses.on_store, "ret_stb le_stw le_stl le_stq be_stw be_stl be_stq"),
    )
    for name in names.split()
}


@cache
def library_with_contexts() -> Library | None:
    """Return the library, its generator turned and the table of contexts in place; None if it is not a known one."""
    library = engines_library()
    try:
        if knows_library() and _map(REGISTRY, 16 * CONTEXTS):
            _turn(library, _GENERATOR, (ABSOLUTE, GLOBAL, JUMP))
            return library
    except LookupError:
        pass
    return None


@cache
def table_of_repairs() -> Table | None:
    """Return which helpers of the library others stand for; None if it is not a known one."""
    library = library_with_contexts()
    try:
        return None if library is None else Table(library)
    except LookupError:
        return None


@cache
def turn_accesses() -> bool:
    """Turn what accesses go through, too; return whether that was possible."""
    library = library_with_contexts()
    if library is None:
        return False
    try:
        _turn(library, _LISTED, (ABSOLUTE,))
        _turn(library, _ACCESSES, (ABSOLUTE, GLOBAL, JUMP))
    except LookupError:
        return False
    return True


def _turn(library: Library, functions: dict[str, Any], kinds: tuple[int, ...]) -> None:
    """Let the library's words of these `kinds` for `functions` hold Quire's; all are found before any is changed."""
    slots = {
        name: [one for one in library.slots(f"{name}_x86_64") if one.kind in kinds] for name in functions
    }
    for name, made in functions.items():
        library.write(slots[name], made.address)


def register(env: int, context: int) -> bool:
    """Let the engine with CPU state `env` have `context`; False if there are too many engines.

    What an engine had that was there before, and is gone, is forgotten.
    """
    keys, first = _table(), env >> 4
    _forget_gone()
    with _registering:
        _forget(keys, env, None)
        for n in range(CONTEXTS):
            at = 2 * ((first + n) % CONTEXTS)
            if keys[at] in (0, _FREED):
                keys[at + 1] = context
                keys[at] = env
                break
        else:
            return False
    _forget_gone()
    return True


def unregister(env: int, context: int) -> None:
    """Take `context` away from `env`, unless another engine is there by now that has one of its own."""
    _gone.append((env, context))
    _forget_gone()


def _forget_gone() -> None:
    """Free the places of engines that are gone, or let whoever is at the table do it.

    The collector may free an engine at any time, also while this thread is at the table: waiting would be for ever.
    """
    while _gone and _registering.acquire(blocking=False):
        try:
            while _gone:
                _forget(_table(), *_gone.popleft())
        finally:
            _registering.release()


def _forget(keys: "ctypes.Array[ctypes.c_uint64]", env: int, context: int | None) -> None:
    """Free the place of `env`, if it has this context; None is any."""
    first = env >> 4
    for n in range(CONTEXTS):
        at = 2 * ((first + n) % CONTEXTS)
        if keys[at] == env and (context is None or keys[at + 1] == context):
            keys[at] = _FREED
            _end_searches(keys, at)
        if keys[at] == 0:
            break


def _end_searches(keys: "ctypes.Array[ctypes.c_uint64]", at: int) -> None:
    """Let searches end at freed places that nothing follows: else they would grow longer with each engine."""
    while keys[at] == _FREED and keys[(at + 2) % (2 * CONTEXTS)] == 0:
        keys[at] = 0
        at = (at - 2) % (2 * CONTEXTS)


def map_near(address: int, size: int) -> int:
    """Map `size` bytes so near `address` that 32 bits reach them; return where, 0 if there is no room.

    The farthest place comes first: engines lie in the heap, which is to grow, or the next one lies too far from all.
    """
    begin = address & -_STEP
    for distance in range((_REACH - size) & -_STEP, 0, -_STEP):
        for at in (begin + distance, begin - distance):
            if at > 0 and _map(at, size):
                return at
    return 0


def unmap(address: int, size: int) -> None:
    """Give back what :func:`map_near` mapped."""
    _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


def _map(address: int, size: int) -> bool:
    """Map memory at `address` unless anything is there."""
    got = _libc.mmap(address, size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS_FIXED, -1, 0)
    return bool(got == address)


def _table() -> "ctypes.Array[ctypes.c_uint64]":
    return (ctypes.c_uint64 * (2 * CONTEXTS)).from_address(REGISTRY)
