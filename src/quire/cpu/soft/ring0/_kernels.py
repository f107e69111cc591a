"""The hooks that ring 0 adds to those of the soft Cpu: the privilege of an access, intercepts that Unicorn lacks.

A fill hook is not told the privilege of the access that misses; but the engine keeps a TLB each for user, supervisor
and SMAP-free supervisor accesses, and its CPU state says which of them the instruction uses. So a first fill hook
copies CPL and AC into the walk's context and refuses, and the second, which is that of process guests, walks.
I/O and SYSCALL hooks leave the instruction undone by the engine's own jump for intercepts: RIP, flags and registers
are exact there (found by experiment, Unicorn 2.1.4).
"""

import numpy as np

from quire.arch import CR4, LOW32, RFLAGS
from quire.cpu.soft._kernels_casts import HANDLE, USER, words
from quire.cpu.soft.ring0.codes import Intercept
from quire.cpu.soft.ring0.environment import CR4_INDEX, EFLAGS_INDEX, HFLAGS_INDEX
from quire.cpu.soft.state import TSC_READ, Pointer, SoftState
from quire.cpu.soft.tcg.cells import Near
from quire.kernels import callback, carray, kernel, types
from quire.paging import Context

_P_STATE, _P_CONTEXT = int(Pointer.STATE), int(Pointer.CONTEXT)
_P_ENVIRONMENT = int(Pointer.ENVIRONMENT)
_N_STATE, _N_CONTEXT = len(SoftState), len(Context)
_C_USER, _C_AC, _C_IMPLICIT = int(Context.USER), int(Context.AC), int(Context.IMPLICIT)
_IMPLICIT_PAGE = int(SoftState.IMPLICIT_PAGE)
_HFLAGS, _EFLAGS = HFLAGS_INDEX, EFLAGS_INDEX
_HALVES = max(HFLAGS_INDEX, EFLAGS_INDEX) + 1
_P_NEAR = int(Pointer.NEAR)
_SHARE, _BASE, _READS, _AUX = (
    int(one) for one in (SoftState.TSC_SHARE, SoftState.TSC_BASE, SoftState.TSC_READS, SoftState.TSC_AUX)
)
_EXECUTED, _NOT_EXECUTED = Near.EXECUTED // 8, Near.NOT_EXECUTED // 8
_RAX, _RCX, _RDX = 0, 1, 2
_TSC_READ, _TSD, _LOW32, _32 = (
    np.uint64(TSC_READ),
    np.uint64(CR4.mask("TSD")),
    np.uint64(LOW32),
    np.uint64(32),
)
_CPL = np.uint32(3)
_AC_SHIFT = np.uint32(RFLAGS.shift("AC"))
_ONE32 = np.uint32(1)
_0, _1, _12 = np.uint64(0), np.uint64(1), np.uint64(12)
_IO, _SYSCALL, _RDTSC = (np.uint32(one) for one in (Intercept.IO, Intercept.SYSCALL, Intercept.RDTSC))

_intercept = types.ExternalFunction(
    "cpu_vmexit_x86_64", types.void(types.voidptr, types.uint32, types.uint64, types.uint64)
)


@kernel(types.void(USER))
def set_privilege(user):
    """Copy CPL and RFLAGS.AC of the running instruction into the walk's context."""
    halves = carray(user[_P_ENVIRONMENT], (_HALVES,), np.uint32)
    context = carray(user[_P_CONTEXT], (_N_CONTEXT,), np.uint64)
    context[_C_USER] = _1 if (halves[_HFLAGS] & _CPL) == _CPL else _0
    context[_C_AC] = np.uint64((halves[_EFLAGS] >> _AC_SHIFT) & _ONE32)


@callback(types.boolean(HANDLE, types.uint64, types.int32, types.CPointer(types.uint64), USER))
def on_fill_privilege(handle, gva, kind, entry, user):
    """UC_HOOK_TLB_FILL, before the one that walks."""
    set_privilege(user)
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    context = carray(user[_P_CONTEXT], (_N_CONTEXT,), np.uint64)
    context[_C_IMPLICIT] = _1 if state[_IMPLICIT_PAGE] == (gva >> _12) + _1 else _0
    return False


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_block_privilege(handle, gva, size, user):
    """UC_HOOK_BLOCK, before the one that counts: CPL and AC change between blocks only."""
    set_privilege(user)


@callback(types.void(USER))
def copy_privilege(user):
    """Do what :func:`set_privilege` does, before a walk of the model."""
    set_privilege(user)


@callback(types.uint32(HANDLE, types.uint32, types.int32, USER))
def on_in(handle, port, size, user):
    """UC_HOOK_INSN for IN and INS: raise the intercept that the engine does not."""
    _intercept(user[_P_ENVIRONMENT], _IO, _0, _0)
    return np.uint32(0)


@callback(types.void(HANDLE, types.uint32, types.int32, types.uint32, USER))
def on_out(handle, port, size, value, user):
    """UC_HOOK_INSN for OUT and OUTS."""
    _intercept(user[_P_ENVIRONMENT], _IO, _0, _0)


@callback(types.void(HANDLE, USER))
def on_system_call(handle, user):
    """UC_HOOK_INSN for SYSCALL, which the engine does not execute."""
    _intercept(user[_P_ENVIRONMENT], _SYSCALL, _0, _0)


@kernel(types.boolean(USER))
def read_tsc(user):
    """Put the time-stamp counter into EDX and EAX; False if that is somebody else's to do, who may make it fault."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    environment = words(user[_P_ENVIRONMENT])
    if state[_SHARE] == _0 or (
        environment[CR4_INDEX] & _TSD
        and carray(user[_P_ENVIRONMENT], (_HALVES,), np.uint32)[_HFLAGS] & _CPL != np.uint32(0)
    ):
        return False
    near = words(user[_P_NEAR])
    state[_READS] += _1
    executed = (near[_EXECUTED] - near[_NOT_EXECUTED]) // state[_SHARE]
    value = state[_BASE] + executed + state[_READS] * _TSC_READ
    environment[_RAX] = value & _LOW32
    environment[_RDX] = value >> _32
    return True


@callback(types.int32(HANDLE, USER))
def on_rdtsc(handle, user):
    """UC_HOOK_INSN for RDTSC: done here, or an intercept that the engine does not raise."""
    if not read_tsc(user):
        _intercept(user[_P_ENVIRONMENT], _RDTSC, _0, _0)
    return np.int32(1)


@callback(types.int32(HANDLE, USER))
def on_rdtscp(handle, user):
    """UC_HOOK_INSN for RDTSCP, likewise."""
    if not read_tsc(user):
        _intercept(user[_P_ENVIRONMENT], _RDTSC, _0, _0)
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    words(user[_P_ENVIRONMENT])[_RCX] = state[_AUX]
    return np.int32(1)
