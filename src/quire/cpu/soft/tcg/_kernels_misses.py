"""Accesses that the engine's own TLB does not answer: what stands for the library's functions of them.

Each lets the library make the access, or makes it with a kept entry of the engine's TLB, and asks the model afterwards,
for an access that faults is none. What emitted code calls says how many accesses of its block are done, and counts this
one itself; what the library's own instructions call does neither.
"""

import numpy as np

from quire.arch import LOW32, WORD, Access
from quire.cpu.soft.state import Pointer, SoftState
from quire.cpu.soft.tcg._kernels_access import (
    after_library,
    allow,
    engine_entry,
    key_of,
    look_up_access,
    place_of_saved,
)
from quire.cpu.soft.tcg._kernels_raw import (
    context_of,
    load8,
    load16,
    load32,
    load64,
    prefetch,
    store8,
    store16,
    store32,
    store64,
    user_at,
)
from quire.cpu.soft.tcg._kernels_recording import enter
from quire.cpu.soft.tcg.cells import SIDE_SLOTS, Cell, Near, Saved
from quire.cpu.soft.tcg.offsets import MMU_INDICES, Offset
from quire.kernels import callback, carray, kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_C = {cell: U(8 * cell) for cell in Cell}
_USER, _NEAR, _FULL = _C[Cell.USER], _C[Cell.NEAR], _C[Cell.FULL]
_RECORDING = _C[Cell.RECORDING]
_ENV, _EPOCH = _C[Cell.ENV], _C[Cell.EPOCH]
_N_CLOCK, _N_DONE, _N_READS, _N_WRITES = U(Near.CLOCK), U(Near.DONE), U(Near.READS), U(Near.WRITES)
_RIGHTS, _ADDEND = U(8 * Saved.RIGHTS), U(8 * Saved.ADDEND)
_P_STATE, _N_STATE = int(Pointer.STATE), len(SoftState)
_MEMORY_WORDS = int(SoftState.MEMORY_WORDS)
_READ, _WRITE = U(Access.READ), U(Access.WRITE)
_TLB, _TLB_REST = U(Offset.ENV_TLB & WORD), U(Offset.ENV_TLB_REST & WORD)
_REST_SIZE, _USED, _CPU_ENV = U(Offset.TLB_REST_SIZE), U(Offset.TLB_USED), U(Offset.CPU_ENV)
_0, _1, _2, _3, _4, _6, _8 = (U(n) for n in (0, 1, 2, 3, 4, 6, 8))
_9, _12, _15, _16, _24 = (U(n) for n in (9, 12, 15, 16, 24))
_LOW32, _PLAIN = U(LOW32), U(0xFFFF)
_OFFSET, _PAGE, _NONE = U(0xFFF), U(4096), U(WORD)
_DONE_MASK, _SWAPPED = U(0x7FFF), U(8 << 4)
_EPOCHS = U(1 << 17)
#: Entries that each of the engine's TLBs is to have, as its mask: what a flush costs grows with them.
_WANTED = U(((1 << 10) - 1) << 6)


def _library(name, result, *arguments):
    return types.ExternalFunction(f"{name}_x86_64", result(*arguments))


_LOAD = (_WORD, _WORD, _WORD, _WORD, _WORD)
_STORE = (types.void, _WORD, _WORD, _WORD, _WORD, _WORD)
_load8 = _library("helper_ret_ldub_mmu", *_LOAD)
_load16, _load16_be = _library("helper_le_lduw_mmu", *_LOAD), _library("helper_be_lduw_mmu", *_LOAD)
_load32, _load32_be = _library("helper_le_ldul_mmu", *_LOAD), _library("helper_be_ldul_mmu", *_LOAD)
_load64, _load64_be = _library("helper_le_ldq_mmu", *_LOAD), _library("helper_be_ldq_mmu", *_LOAD)
_store8 = _library("helper_ret_stb_mmu", *_STORE)
_store16, _store16_be = _library("helper_le_stw_mmu", *_STORE), _library("helper_be_stw_mmu", *_STORE)
_store32, _store32_be = _library("helper_le_stl_mmu", *_STORE), _library("helper_be_stl_mmu", *_STORE)
_store64, _store64_be = _library("helper_le_stq_mmu", *_STORE), _library("helper_be_stq_mmu", *_STORE)
_OWN_LOAD = (_WORD, _WORD, _WORD, _HALF, _WORD)
_OWN_STORE = (types.void, _WORD, _WORD, _WORD, _HALF, _WORD)
_own_ldub = _library("cpu_ldub_mmuidx_ra", *_OWN_LOAD)
_own_ldsb = _library("cpu_ldsb_mmuidx_ra", *_OWN_LOAD)
_own_lduw = _library("cpu_lduw_mmuidx_ra", *_OWN_LOAD)
_own_ldsw = _library("cpu_ldsw_mmuidx_ra", *_OWN_LOAD)
_own_ldl = _library("cpu_ldl_mmuidx_ra", *_OWN_LOAD)
_own_ldq = _library("cpu_ldq_mmuidx_ra", *_OWN_LOAD)
_own_stb = _library("cpu_stb_mmuidx_ra", *_OWN_STORE)
_own_stw = _library("cpu_stw_mmuidx_ra", *_OWN_STORE)
_own_stl = _library("cpu_stl_mmuidx_ra", *_OWN_STORE)
_own_stq = _library("cpu_stq_mmuidx_ra", *_OWN_STORE)


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD))
def library_load(env, gva, plain, back):
    """Have the library make a load."""
    size_log, swapped = (plain >> _4) & _3, plain & _SWAPPED != _0
    if size_log == _3:
        return _load64_be(env, gva, plain, back) if swapped else _load64(env, gva, plain, back)
    if size_log == _2:
        return _load32_be(env, gva, plain, back) if swapped else _load32(env, gva, plain, back)
    if size_log == _1:
        return _load16_be(env, gva, plain, back) if swapped else _load16(env, gva, plain, back)
    return _load8(env, gva, plain, back)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def library_store(env, gva, value, plain, back):
    """Have the library make a store."""
    size_log, swapped = (plain >> _4) & _3, plain & _SWAPPED != _0
    if size_log == _3:
        if swapped:
            _store64_be(env, gva, value, plain, back)
        else:
            _store64(env, gva, value, plain, back)
    elif size_log == _2:
        if swapped:
            _store32_be(env, gva, value, plain, back)
        else:
            _store32(env, gva, value, plain, back)
    elif size_log == _1:
        if swapped:
            _store16_be(env, gva, value, plain, back)
        else:
            _store16(env, gva, value, plain, back)
    else:
        _store8(env, gva, value, plain, back)


@kernel(types.uint64(_WORD, _WORD))
def load_host(at, size_log):
    """Load from this process's memory."""
    if size_log == _3:
        return load64(at)
    if size_log == _2:
        return U(load32(at))
    if size_log == _1:
        return U(load16(at))
    return U(load8(at))


@kernel(types.void(_WORD, _WORD, _WORD))
def store_host(at, value, size_log):
    """Store to this process's memory."""
    if size_log == _3:
        store64(at, value)
    elif size_log == _2:
        store32(at, np.uint32(value & _LOW32))
    elif size_log == _1:
        store16(at, np.uint16(value & _PLAIN))
    else:
        store8(at, np.uint8(value & U(0xFF)))


@kernel(types.boolean(_WORD, _WORD, _WORD, _WORD))
def is_kept(context, gva, marked, right):
    """Whether an access of emitted code can be made with the entry that is kept for its page."""
    page, size = gva >> _12, _1 << ((marked >> _4) & _3)
    if (gva & _OFFSET) + size > _PAGE or marked & _SWAPPED:
        return False
    at = place_of_saved(context, page)
    return load64(at) == key_of(context, page, marked & _15) and load64(at + _RIGHTS) & right != _0


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, types.boolean))
def settle(context, gva, marked, access, restore):
    """Ask the model about an access of emitted code that was made, and tell the engine's TLB what came of it."""
    env, near = load64(context + _ENV), load64(context + _NEAR)
    size = _1 << ((marked >> _4) & _3)
    done = (marked >> _16) & _DONE_MASK
    look_up_access(context, gva, access, done, (gva & _OFFSET) + size > _PAGE)
    store64(near + _N_CLOCK, load64(near + _N_CLOCK) - _1)  # emitted code counts the access itself
    if restore:
        allow(context, env, marked & _15, gva >> _12, True)
    else:
        after_library(context, env, marked & _15, gva, size)


@callback(_WORD(_WORD, _WORD, _WORD, _WORD))
def on_load(env, gva, marked, back):
    """helper_le_ldq_mmu and its like, of emitted code."""
    context = context_of(env)
    if context == _0 or load64(context + _FULL) == _0:
        return library_load(env, gva, marked & _PLAIN, back)
    store64(load64(context + _NEAR) + _N_DONE, (marked >> _16) & _DONE_MASK)
    if is_kept(context, gva, marked, _1):
        at = gva + load64(place_of_saved(context, gva >> _12) + _ADDEND)
        prefetch(at)  # it takes as long as the look-up does
        settle(context, gva, marked, _READ, True)
        return load_host(at, (marked >> _4) & _3)
    value = library_load(env, gva, marked & _PLAIN, back)
    settle(context, gva, marked, _READ, False)
    return value


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_store(env, gva, value, marked, back):
    """helper_le_stq_mmu and its like, of emitted code."""
    context = context_of(env)
    if context == _0 or load64(context + _FULL) == _0:
        library_store(env, gva, value, marked & _PLAIN, back)
        return
    store64(load64(context + _NEAR) + _N_DONE, (marked >> _16) & _DONE_MASK)
    if is_kept(context, gva, marked, _2):
        at = gva + load64(place_of_saved(context, gva >> _12) + _ADDEND)
        prefetch(at)
        settle(context, gva, marked, _WRITE, True)
        store_host(at, value, (marked >> _4) & _3)
    else:
        library_store(env, gva, value, marked & _PLAIN, back)
        settle(context, gva, marked, _WRITE, False)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def settle_own(env, gva, index, size, access):
    """Count an access that one of the library's own instructions has made, and ask the model, if accesses count."""
    context = context_of(env)
    if context and load64(context + _RECORDING):
        enter(context, gva, _3 if size == _8 else size >> _1, access == _WRITE)
    if context == _0 or load64(context + _FULL) == _0:
        return
    near = load64(context + _NEAR)
    cell = near + (_N_WRITES if access == _WRITE else _N_READS)
    store64(cell, load64(cell) + _1)
    state = carray(user_at(load64(context + _USER))[_P_STATE], (_N_STATE,), np.uint64)
    if load64(engine_entry(env, index, gva >> _12) + _24) >> _12 >= state[_MEMORY_WORDS] >> _9:
        return  # memory of the engine's own: a descriptor table
    look_up_access(context, gva, access, load64(near + _N_DONE), (gva & _OFFSET) + size > _PAGE)
    after_library(context, env, index, gva, size)


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_ldub(env, gva, index, back):
    """cpu_ldub_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_ldub(env, gva, index, back)
    settle_own(env, gva, U(index), _1, _READ)
    return value


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_ldsb(env, gva, index, back):
    """cpu_ldsb_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_ldsb(env, gva, index, back)
    settle_own(env, gva, U(index), _1, _READ)
    return value


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_lduw(env, gva, index, back):
    """cpu_lduw_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_lduw(env, gva, index, back)
    settle_own(env, gva, U(index), _2, _READ)
    return value


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_ldsw(env, gva, index, back):
    """cpu_ldsw_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_ldsw(env, gva, index, back)
    settle_own(env, gva, U(index), _2, _READ)
    return value


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_ldl(env, gva, index, back):
    """cpu_ldl_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_ldl(env, gva, index, back)
    settle_own(env, gva, U(index), _4, _READ)
    return value


@callback(_WORD(_WORD, _WORD, _HALF, _WORD))
def on_own_ldq(env, gva, index, back):
    """cpu_ldq_mmuidx_ra: a load of one of the library's own instructions."""
    value = _own_ldq(env, gva, index, back)
    settle_own(env, gva, U(index), _8, _READ)
    return value


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_own_stb(env, gva, value, index, back):
    """cpu_stb_mmuidx_ra: a store."""
    _own_stb(env, gva, value, index, back)
    settle_own(env, gva, U(index), _1, _WRITE)


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_own_stw(env, gva, value, index, back):
    """cpu_stw_mmuidx_ra: a store."""
    _own_stw(env, gva, value, index, back)
    settle_own(env, gva, U(index), _2, _WRITE)


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_own_stl(env, gva, value, index, back):
    """cpu_stl_mmuidx_ra: a store."""
    _own_stl(env, gva, value, index, back)
    settle_own(env, gva, U(index), _4, _WRITE)


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_own_stq(env, gva, value, index, back):
    """cpu_stq_mmuidx_ra: a store."""
    _own_stq(env, gva, value, index, back)
    settle_own(env, gva, U(index), _8, _WRITE)


_flush = _library("tlb_flush_by_mmuidx", types.void, _WORD, _HALF)
_flush_page = _library("tlb_flush_page_by_mmuidx", types.void, _WORD, _WORD, _HALF)


@callback(types.void(_WORD, _HALF))
def on_flush(cpu, indices):
    """tlb_flush_by_mmuidx: what was kept is no longer true. The engine sizes its TLB by how full it says it is."""
    env = load64(cpu + _CPU_ENV)
    context = context_of(env)
    if context and load64(context + _FULL):
        epoch = load64(context + _EPOCH) + _1
        if epoch == _EPOCHS:
            epoch = _0
            for page in range(SIDE_SLOTS):
                store64(place_of_saved(context, U(page)), _NONE)
        store64(context + _EPOCH, epoch)
        for index in range(MMU_INDICES):
            mask = load64(env + _TLB + (U(index) << _4))
            entries = (mask >> _6) + _1
            used = entries >> _1 if mask >= _WANTED else entries - (entries >> _2)
            store64(env + _TLB_REST + U(index) * _REST_SIZE + _USED, used)
    _flush(cpu, indices)


@callback(types.void(_WORD, _WORD, _HALF))
def on_flush_page(cpu, gva, indices):
    """tlb_flush_page_by_mmuidx."""
    context = context_of(load64(cpu + _CPU_ENV))
    if context and load64(context + _FULL):
        store64(place_of_saved(context, gva >> _12), _NONE)
    _flush_page(cpu, gva, indices)
