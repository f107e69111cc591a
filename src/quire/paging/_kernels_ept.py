"""The compiled EPT walk: misconfigurations, violations and #VE, accessed and dirty flags, the log, sub-pages.

Arrays and scalars in, a host-physical address out, or all ones with the fault in the result array. The slow twin is
``reference_ept.py``. The hot path is :func:`walk_ept`; what happens seldom is out of its line.
"""

import numpy as np

from quire.arch import (
    EPT_MEMORY_TYPES,
    EPT_PTE,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    LOW32,
    PDE,
    PTE,
    SPPT_ENTRY,
    WORD,
    ExitReason,
    Vector,
    ept_layout,
)
from quire.kernels import kernel, types
from quire.memory._kernels_buddy import pointer as pointer
from quire.paging.context import Context, Dimension, Result, Status

U = np.uint64
WORDS = types.CPointer(types.uint64)


_LEAF_RESERVED = np.array([0, *(ept_layout(level, True).reserved_mask for level in (1, 2, 3))], np.uint64)
# One mask for every level: at level 3 and 2 an entry with PS set is a leaf, and does not get here.
_TABLE_RESERVED = U(ept_layout(4, False).reserved_mask)
_LEGAL_TYPES = U(sum(1 << kind for kind in EPT_MEMORY_TYPES))

_ADDRESS, _PS = U(PTE.mask("addr")), U(PDE.mask("PS"))
_A, _D = U(EPT_PTE.mask("A")), U(EPT_PTE.mask("D"))
_TYPE_SHIFT, _XU_DOWN = U(EPT_PTE.shift("MT")), U(EPT_PTE.shift("XU") - 3)
_SSS, _SPP, _SUPPRESS, _XU = (U(EPT_PTE.mask(name)) for name in ("SSS", "SPP", "suppress_VE", "XU"))
_PAGING_WRITE = U(EPT_PTE.mask("paging_write"))
_EPTP_AD, _EPTP_SSS = U(EPTP.mask("AD")), U(EPTP.mask("SSS"))
_LENGTH, _LENGTH_5 = U(EPTP.mask("walk_length")), U(EPTP.encode(walk_length=4))
_SPPT_VALID, _SPPT_RESERVED = U(SPPT_ENTRY.mask("V")), U(SPPT_ENTRY.reserved_mask)
_ODD_BITS = U(0xAAAA_AAAA_AAAA_AAAA)

_Q_RIGHTS = U(EPT_VIOLATION_QUALIFICATION.shift("ept_r"))
_Q_FINAL, _Q_SHADOW, _Q_SSS = (
    U(EPT_VIOLATION_QUALIFICATION.mask(name)) for name in ("final", "shadow_stack", "sss_leaf")
)
_SPP_MISS = U(1 << 11)
_VE_BUSY = U(LOW32 << 32 | ExitReason.EPT_VIOLATION)

_HOST, _VE = U(Dimension.HOST), U(Vector.VE)
_VIOLATION, _MISCONFIGURATION = U(Status.EPT_VIOLATION), U(Status.EPT_MISCONFIGURATION)
_BUS_ERROR, _CONVERTED = U(Status.BUS_ERROR), U(Status.VIRTUALIZATION_EXCEPTION)
_LOG_FULL, _SPP_EVENT = U(Status.LOG_FULL), U(Status.SPP_EVENT)
_C_EPTP, _C_BYTES, _C_RESERVED = int(Context.EPTP), int(Context.MEMORY_BYTES), int(Context.RESERVED)
_C_USER, _C_IMPLICIT = int(Context.USER), int(Context.IMPLICIT)
_C_XONLY, _C_EPT_2M, _C_UPDATE = int(Context.EPT_EXECUTE_ONLY), U(Context.EPT_2M), int(Context.UPDATE)
_C_MBEC, _C_PAGING_WRITE, _C_SPP = int(Context.MBEC), int(Context.PAGING_WRITE), int(Context.SPP)
_C_SPPTP = int(Context.SPPTP)
_C_PML, _C_PML_ADDRESS, _C_PML_INDEX = int(Context.PML), int(Context.PML_ADDRESS), int(Context.PML_INDEX)
_C_VE, _C_VE_INFO, _C_EPTP_INDEX = int(Context.VE), int(Context.VE_INFO), int(Context.EPTP_INDEX)
_R_STATUS, _R_HSHIFT, _R_RIGHTS = int(Result.STATUS), int(Result.HOST_SHIFT), int(Result.RIGHTS)
_R_DIRTY, _R_ERROR, _R_FAULT_GPA = int(Result.DIRTY), int(Result.ERROR), int(Result.FAULT_GPA)
_R_LEVEL, _R_DIMENSION = int(Result.FAULT_LEVEL), int(Result.FAULT_DIMENSION)
_R_GREFS, _R_HREFS = int(Result.GUEST_REFERENCES), int(Result.HOST_REFERENCES)
_R_REFS, _R_VECTOR, _R_GVA = int(Result.REFERENCES), int(Result.VECTOR), int(Result.GVA)
_R_ENTRY = int(Result.HOST_ENTRY)
_0, _1, _2, _3, _4, _5, _7, _8, _9, _12 = (U(n) for n in (0, 1, 2, 3, 4, 5, 7, 8, 9, 12))
_31, _39, _48, _511 = (U(n) for n in (31, 39, 48, 511))
_READ, _WRITE = _1, _2
_PAGE_OFFSET, _LOW_16, _TOP_32, _INFO_BYTES = U(0xFFF), U(0xFFFF), U(32), U(40)
_NOWHERE = U(WORD)


@kernel(types.uint64(WORDS, types.uint64, types.uint64, types.uint64, types.uint64))
def stop(result, status, gpa, level, error):
    """Record how the EPT walk ended, and return all ones."""
    result[_R_STATUS] = status
    result[_R_FAULT_GPA] = gpa
    result[_R_LEVEL] = level
    result[_R_DIMENSION] = _HOST
    result[_R_ERROR] = error
    return _NOWHERE


@kernel(
    types.uint64(
        WORDS,
        WORDS,
        WORDS,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
    )
)
def violation(memory, context, result, gpa, want, rights, linear, level, entry):
    """Record an EPT violation, or the #VE that it becomes when `entry` and the information area let it.

    `entry` decides by bit 63: the leaf, or the entry that is not present; all ones when there is none. SDM 3C
    §25.5.7 and §28.3.3.2.
    """
    error = (want & _7) | ((want >> _1) & _4) | (rights << _Q_RIGHTS) | linear
    if context[_C_VE] and entry & _SUPPRESS == _0:
        area = context[_C_VE_INFO]
        if area + _INFO_BYTES <= context[_C_BYTES] and memory[area >> _3] >> _TOP_32 == _0:
            if context[_C_UPDATE]:
                at = area >> _3
                memory[at] = _VE_BUSY
                memory[at + _1] = error
                memory[at + _2] = result[_R_GVA]
                memory[at + _3] = gpa
                memory[at + _4] = (memory[at + _4] & ~_LOW_16) | context[_C_EPTP_INDEX]
            result[_R_VECTOR] = _VE
            return stop(result, _CONVERTED, gpa, level, error)
    return stop(result, _VIOLATION, gpa, level, error)


@kernel(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64, types.uint64))
def deny(memory, context, result, gpa, want, linear, level):
    """Record the violation of an access that the leaf in `result` was reached for, and return all ones."""
    entry = result[_R_ENTRY]
    if context[_C_EPTP] & _EPTP_SSS and entry & _SSS:
        linear |= _Q_SSS
    return violation(memory, context, result, gpa, want, result[_R_RIGHTS], linear, level, entry)


@kernel(types.int64(WORDS, WORDS, WORDS, types.uint64))
def sub_page(memory, context, result, gpa):
    """Return the write right (1 or 0) of the 128 bytes at `gpa`, or -1 with the event in `result`.

    SDM 3C §28.3.4: three levels of table entries, then a vector of 32 rights in its even bits.
    """
    table = context[_C_SPPTP]
    shift = _39
    for n in range(3):
        where = table + (((gpa >> shift) & _511) << _3)
        if where >= context[_C_BYTES]:
            stop(result, _BUS_ERROR, where, _4 - U(n), _0)
            return -1
        entry = memory[where >> _3]
        if entry & _SPPT_VALID == _0:
            stop(result, _SPP_EVENT, gpa, _4 - U(n), _SPP_MISS)
            return -1
        if entry & (_SPPT_RESERVED | context[_C_RESERVED]):
            stop(result, _SPP_EVENT, gpa, _4 - U(n), _0)
            return -1
        table = entry & _ADDRESS
        shift -= _9
    where = table + (((gpa >> _12) & _511) << _3)
    if where >= context[_C_BYTES]:
        stop(result, _BUS_ERROR, where, _1, _0)
        return -1
    vector = memory[where >> _3]
    if vector & _ODD_BITS:
        stop(result, _SPP_EVENT, gpa, _1, _0)
        return -1
    return np.int64((vector >> (_2 * ((gpa >> _7) & _31))) & _1)


@kernel(types.boolean(WORDS, WORDS))
def may_update_table(context, result):
    """Return whether the processor may write the guest table page last translated (SDM 3C §28.3.3.2)."""
    if result[_R_RIGHTS] & _WRITE:
        return True
    return context[_C_PAGING_WRITE] != _0 and result[_R_ENTRY] & _PAGING_WRITE != _0


@kernel(
    types.boolean(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64, types.uint64, types.uint64)
)
def permitted(memory, context, result, gpa, want, linear, above, level):
    """Decide an access that the rights in `result` forbid, or one to a shadow stack; False with the fault recorded.

    `above` are the rights of the entries over the leaf.
    """
    rights, entry = result[_R_RIGHTS], result[_R_ENTRY]
    user = context[_C_USER] != _0 and context[_C_IMPLICIT] == _0
    sss = context[_C_EPTP] & _EPTP_SSS != _0
    if linear & _Q_SHADOW and sss and not user:
        if above & _3 == _3 and entry & _READ and entry & _SSS:
            return True
    else:
        if want & ~rights == _0:
            return True
        if want & ~rights == _WRITE:
            if linear & _Q_FINAL == _0:
                if linear and may_update_table(context, result):
                    return True
            elif context[_C_SPP] and level == _1 and entry & _SPP and rights & _READ:
                right = sub_page(memory, context, result, gpa)
                if right != 0:
                    return right > 0
    deny(memory, context, result, gpa, want, linear, level)
    return False


@kernel(types.boolean(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64, types.boolean))
def set_flags(memory, context, result, gpa, level, depth, soiled):
    """Set A in the `depth` entries that `result` lists last, D in the leaf if `soiled`; log it, or report it full.

    SDM 3C §28.3.5 and §28.3.6: the log's index is examined before any flag is set.
    """
    if context[_C_PML]:
        index = context[_C_PML_INDEX]
        if index > _511:
            stop(result, _LOG_FULL, gpa, level, _0)
            return False
        if soiled:
            where = context[_C_PML_ADDRESS] + (index << _3)
            if where >= context[_C_BYTES]:
                stop(result, _BUS_ERROR, where, level, _0)
                return False
            memory[where >> _3] = gpa & ~_PAGE_OFFSET
            context[_C_PML_INDEX] = (index - _1) & _LOW_16
    count = result[_R_GREFS] + result[_R_HREFS]
    first = U(_R_REFS) + count - depth
    for n in range(depth):
        memory[result[first + U(n)] >> _3] |= _A
    if soiled:
        memory[result[first + depth - _1] >> _3] |= _D
    return True


@kernel(
    types.boolean(
        WORDS,
        WORDS,
        WORDS,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
        types.uint64,
    )
)
def refused(memory, context, result, gpa, want, linear, level, entry, illegal):
    """Judge an entry that gives no read right or has `illegal` bits set; True with the fault recorded.

    SDM 3C §28.3.3.1. Only an entry that may be executed alone passes.
    """
    present = entry & _7 or (context[_C_MBEC] and entry & _XU)
    if not present:
        violation(memory, context, result, gpa, want, _0, linear, level, entry)
        return True
    unreadable = entry & _READ == _0 and (entry & _WRITE != _0 or context[_C_XONLY] == _0)
    if illegal or unreadable:
        stop(result, _MISCONFIGURATION, gpa, level, _0)
        return True
    return False


@kernel(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64))
def walk_ept(memory, context, result, gpa, want, linear):
    """Translate `gpa` for the rights `want`; return the HPA, or all ones with the fault in `result`.

    `linear` holds the exit-qualification bits that the caller knows (7 to 11 and 13), 0 for a PDPTE that is being
    loaded. SDM 3C §28.3.2 and §28.3.3.
    """
    eptp, limit, beyond = context[_C_EPTP], context[_C_BYTES], context[_C_RESERVED]
    at = U(_R_REFS) + result[_R_GREFS] + result[_R_HREFS]
    table = eptp & _ADDRESS
    level, shift = _4, _39
    if eptp & _LENGTH == _LENGTH_5:
        level, shift = _5, _48
    top, every = level, _NOWHERE
    entry_hpa, entry = _0, _0
    if gpa >> (shift + _9):
        return violation(memory, context, result, gpa, want, _0, linear, level, _NOWHERE)
    while True:
        entry_hpa = table + (((gpa >> shift) & _511) << _3)
        if entry_hpa >= limit:
            result[_R_HREFS] += top - level
            return stop(result, _BUS_ERROR, entry_hpa, level, _0)
        # Never beyond the array: at most five references for each of five guest entries and for the final page.
        result[at] = entry_hpa
        at += _1
        entry = memory[entry_hpa >> _3]
        if level == _1 or (entry & _PS and level <= _3):
            break
        bad = (entry ^ _READ) & (_TABLE_RESERVED | beyond | _READ)
        if bad:
            result[_R_HREFS] += top - level + _1
            if refused(memory, context, result, gpa, want, linear, level, entry, bad & ~_READ):
                return _NOWHERE
            result[_R_HREFS] -= top - level + _1
        every &= entry
        table = entry & _ADDRESS
        level -= _1
        shift -= _9
    result[_R_HREFS] += top - level + _1
    reserved = _LEAF_RESERVED[level] | beyond
    if level != _1 and context[_C_EPT_2M + level - _2] == _0:
        reserved |= _PS
    legal = (_LEGAL_TYPES >> ((entry >> _TYPE_SHIFT) & _7)) & _1
    bad = (entry & reserved) | (legal ^ _1)
    suspect = bad or entry & _READ == _0
    if suspect and refused(memory, context, result, gpa, want, linear, level, entry, bad):
        return _NOWHERE
    mask = _7 | (context[_C_MBEC] << _3)
    above = (every & _7 | ((every >> _XU_DOWN) & _8)) & mask
    every &= entry
    rights = (every & _7 | ((every >> _XU_DOWN) & _8)) & mask
    result[_R_RIGHTS] = rights
    result[_R_ENTRY] = entry
    unusual = want & ~rights or linear & _Q_SHADOW
    if unusual and not permitted(memory, context, result, gpa, want, linear, above, level):
        return _NOWHERE
    dirty = _1
    if eptp & _EPTP_AD:
        soiled = entry & _D == _0 and want & _WRITE != _0
        if (soiled or every & _A == _0) and context[_C_UPDATE]:
            if not set_flags(memory, context, result, gpa, level, top - level + _1, soiled):
                return _NOWHERE
            entry = memory[entry_hpa >> _3]
            result[_R_ENTRY] = entry
        dirty = _1 if entry & _D else _0
    result[_R_HSHIFT] = shift
    result[_R_DIRTY] = dirty
    offset = (_1 << shift) - _1
    return (entry & _ADDRESS & ~offset) | (gpa & offset)
