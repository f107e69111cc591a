"""The compiled walk: one linear address through guest tables and EPT, reading nothing but the memory array.

Arrays and scalars in, status out: no objects, no allocation, no exceptions. The slow twin, written from the
manual, is ``reference.py``; a test compares the two over whole small worlds. Every constant is derived from
the layouts of the arch room. Addresses are bytes; a reference outside memory is BUS_ERROR and is never made.
"""

import numpy as np
from numba import njit, types

from quire.arch import (
    EPT_MEMORY_TYPES,
    EPT_PTE,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PDE,
    PF_ERROR,
    PTE,
    entry_layout,
    ept_layout,
)
from quire.paging.context import Context, Dimension, Result, Status

U = np.uint64
WORDS = types.uint64[::1]


def _reserved_masks(layout_of: object, leaves: tuple[tuple[int, bool], ...]) -> np.ndarray:
    """Masks of the reserved bits by ``2 * level + leaf``, from the declared layouts."""
    masks = np.zeros(10, np.uint64)
    for level, leaf in leaves:
        masks[2 * level + leaf] = layout_of(level, leaf).reserved_mask
    return masks


_SHAPES = ((4, False), (3, False), (3, True), (2, False), (2, True), (1, True))
_GUEST_RESERVED = _reserved_masks(entry_layout, _SHAPES)
_EPT_RESERVED = _reserved_masks(ept_layout, _SHAPES)
_EPT_TYPE_LEGAL = np.array([kind in set(EPT_MEMORY_TYPES) for kind in range(8)], np.uint8)

_P, _RW, _US, _A, _D, _PS, _G, _XD = (
    U(PTE.mask("P")),
    U(PTE.mask("RW")),
    U(PTE.mask("US")),
    U(PTE.mask("A")),
    U(PTE.mask("D")),
    U(PDE.mask("PS")),
    U(PTE.mask("G")),
    U(PTE.mask("XD")),
)
_ADDRESS = U(PTE.mask("addr"))
_EPT_A, _EPT_D = U(EPT_PTE.mask("A")), U(EPT_PTE.mask("D"))
_EPT_RIGHTS = U(EPT_PTE.mask("R", "W", "X"))
_EPT_TYPE_SHIFT = U(EPT_PTE.shift("MT"))
_EPTP_AD = U(EPTP.mask("AD"))
_E_P, _E_W, _E_U, _E_RSVD, _E_ID = (U(PF_ERROR.mask(n)) for n in ("P", "W", "U", "RSVD", "ID"))
_Q_RIGHTS = U(EPT_VIOLATION_QUALIFICATION.shift("ept_r"))
_Q_LINEAR = U(EPT_VIOLATION_QUALIFICATION.mask("gla_valid"))
_Q_FINAL = U(EPT_VIOLATION_QUALIFICATION.mask("final"))
_Q_USER = U(EPT_VIOLATION_QUALIFICATION.mask("user"))
_Q_WRITABLE = U(EPT_VIOLATION_QUALIFICATION.mask("writable"))
_Q_XD = U(EPT_VIOLATION_QUALIFICATION.mask("xd"))

_OK, _PAGE_FAULT, _VIOLATION, _MISCONFIGURATION, _NON_CANONICAL, _BUS_ERROR = (np.int64(s) for s in Status)
_GUEST, _HOST = U(Dimension.GUEST), U(Dimension.HOST)
_C_CR3, _C_EPTP, _C_BYTES, _C_RESERVED, _C_NXE, _C_WP, _C_SMEP, _C_SMAP = (int(c) for c in list(Context)[:8])
_C_USER, _C_1G, _C_XONLY, _C_EPT_2M, _C_EPT_1G, _C_UPDATE, _C_ADVANCED = (int(c) for c in list(Context)[8:15])
_R_STATUS, _R_HPA, _R_GPA, _R_GSHIFT, _R_HSHIFT, _R_RIGHTS, _R_DIRTY, _R_GLOBAL = (
    int(r) for r in list(Result)[:8]
)
_R_ERROR, _R_FAULT_GPA, _R_LEVEL, _R_DIMENSION, _R_GREFS, _R_HREFS, _R_REFS = (
    int(r) for r in list(Result)[8:]
)

_0, _1, _2, _3, _4, _7, _8, _9, _12, _21, _511 = (U(n) for n in (0, 1, 2, 3, 4, 7, 8, 9, 12, 21, 511))
_READ, _WRITE, _EXECUTE = _1, _2, _4
_GPA_WIDTH = U(48)
_LINEAR_TOP = U(47)
_ONES = U((1 << 17) - 1)
_NOWHERE = U((1 << 64) - 1)


@njit(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64), cache=True, nogil=True)
def walk_ept(memory, context, result, gpa, want, linear):
    """Translate `gpa` for the rights `want`; return the HPA, or all ones with the fault in `result`.

    `linear` holds the exit-qualification bits that the caller knows (7 to 11). SDM 3C §28.3.2 and §28.3.3.
    """
    table = context[_C_EPTP] & _ADDRESS
    flags = context[_C_EPTP] & _EPTP_AD
    count = result[_R_GREFS] + result[_R_HREFS]
    rights = _EPT_RIGHTS
    used_flags = _EPT_A
    level = _4
    shift = U(39)
    status = _OK
    entry_hpa = _0
    entry = _0
    if gpa >> _GPA_WIDTH:
        status, rights = _VIOLATION, _0
    while status == _OK:
        entry_hpa = table + (((gpa >> shift) & _511) << _3)
        if entry_hpa >= context[_C_BYTES]:
            status = _BUS_ERROR
            break
        if count < U(24):
            result[U(_R_REFS) + count] = entry_hpa
        count += _1
        result[_R_HREFS] += _1
        entry = memory[entry_hpa >> _3]
        low = entry & _EPT_RIGHTS
        if low == _0:
            status, rights = _VIOLATION, _0
            break
        leaf = level == _1 or (entry & _PS) != _0
        if leaf and level == _3 and context[_C_EPT_1G] == _0:
            status = _MISCONFIGURATION
            break
        if leaf and level == _2 and context[_C_EPT_2M] == _0:
            status = _MISCONFIGURATION
            break
        if level == _4:
            leaf = False
        reserved = _EPT_RESERVED[np.int64(level * _2 + (_1 if leaf else _0))] | context[_C_RESERVED]
        if entry & reserved or (low & _3) == _2 or (low == _4 and context[_C_XONLY] == _0):
            status = _MISCONFIGURATION
            break
        if leaf and _EPT_TYPE_LEGAL[np.int64((entry >> _EPT_TYPE_SHIFT) & _7)] == 0:
            status = _MISCONFIGURATION
            break
        rights &= low
        used_flags &= entry
        if leaf:
            break
        table = entry & _ADDRESS
        level -= _1
        shift -= _9
    if status == _OK and want & ~rights:
        status = _VIOLATION
    if status != _OK:
        result[_R_STATUS] = U(status)
        result[_R_FAULT_GPA] = gpa if status != _BUS_ERROR else entry_hpa
        result[_R_LEVEL] = level
        result[_R_DIMENSION] = _HOST
        result[_R_ERROR] = (want | (rights << _Q_RIGHTS) | linear) if status == _VIOLATION else _0
        return _NOWHERE
    clean = flags != _0 and (entry & _EPT_D) == _0
    if flags and context[_C_UPDATE]:
        # Set A in the entries just used (they are the last of the list), D in the leaf of a write.
        if used_flags == _0:
            depth = _4 - level + _1
            for n in range(depth):
                memory[result[U(_R_REFS) + count - depth + U(n)] >> _3] |= _EPT_A
        if want & _WRITE and clean:
            memory[entry_hpa >> _3] |= _EPT_D
            clean = False
    result[_R_HSHIFT] = shift
    result[_R_RIGHTS] = rights
    result[_R_DIRTY] = _0 if clean else _1
    offset = (_1 << shift) - _1
    return (entry & _ADDRESS & ~offset) | (gpa & offset)


@njit(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64), cache=True, nogil=True)
def reach_entry(memory, context, result, gpa, want):
    """Return the HPA of a guest paging-structure entry, or all ones with the fault in `result`.

    With accessed and dirty flags for EPT on, every such access counts as a write (SDM 3C §28.3.3.2).
    """
    if context[_C_EPTP] == _0:
        hpa = gpa
    else:
        if context[_C_EPTP] & _EPTP_AD:
            want = _READ | _WRITE
        hpa = walk_ept(memory, context, result, gpa, want, _Q_LINEAR)
        if hpa == _NOWHERE:
            return hpa
    if hpa >= context[_C_BYTES]:
        result[_R_STATUS] = U(_BUS_ERROR)
        result[_R_FAULT_GPA] = gpa
        result[_R_DIMENSION] = _GUEST
        return _NOWHERE
    return hpa


@njit(types.int64(WORDS, WORDS, types.uint64, types.uint64, types.uint64), cache=True, nogil=True)
def page_fault(context, result, error, level, access):
    """Record a #PF: `error` holds P and RSVD, the rest follows from the access (SDM 3A §4.7)."""
    if access == _1:
        error |= _E_W
    if context[_C_USER]:
        error |= _E_U
    if access == _2 and (context[_C_NXE] or context[_C_SMEP]):
        error |= _E_ID
    result[_R_STATUS] = U(_PAGE_FAULT)
    result[_R_ERROR] = error
    result[_R_LEVEL] = level
    result[_R_DIMENSION] = _GUEST
    return _PAGE_FAULT


@njit(types.int64(WORDS, types.uint64, types.uint64), cache=True, nogil=True)
def update_denied(result, entry_gpa, level):
    """Record the EPT violation of a guest accessed or dirty update whose table page EPT makes read-only.

    SDM 3C §28.3.3.2: the update counts as a read and a write; result holds the rights of that page.
    """
    result[_R_STATUS] = U(_VIOLATION)
    result[_R_FAULT_GPA] = entry_gpa
    result[_R_LEVEL] = level
    result[_R_DIMENSION] = _HOST
    result[_R_ERROR] = _READ | _WRITE | (result[_R_RIGHTS] << _Q_RIGHTS) | _Q_LINEAR
    return _VIOLATION


@njit(types.uint64(WORDS, types.boolean, types.boolean, types.boolean), cache=True, nogil=True)
def guest_rights(context, user_page, writable, no_execute):
    """Return the accesses (R 1, W 2, X 4) that the guest's own tables allow (SDM 3A §4.6.1)."""
    if context[_C_USER]:
        if not user_page:
            return _0
        data = True
        write = writable
        fetch = not no_execute
    else:
        data = not (user_page and context[_C_SMAP] != _0)
        write = data and (writable or context[_C_WP] == _0)
        fetch = not no_execute and not (user_page and context[_C_SMEP] != _0)
    return (_READ if data else _0) | (_WRITE if write else _0) | (_EXECUTE if fetch else _0)


@njit(types.int64(WORDS, WORDS, types.uint64, types.uint64, WORDS), cache=True, nogil=True)
def walk(memory, context, gva, access, result):
    """Translate `gva` for `access` (0 read, 1 write, 2 fetch); fill `result`, return its status.

    One dimension when EPTP is 0, else two. SDM 3A §4.5 to §4.8, SDM 3C §28.3. A and D flags are set as the
    manual orders: those of a table entry when it is used, those of the leaf after the rights check.
    """
    result[:_R_REFS] = _0
    sign = gva >> _LINEAR_TOP
    if sign != _0 and sign != _ONES:
        result[_R_STATUS] = U(_NON_CANONICAL)
        return _NON_CANONICAL
    wanted = _1 << access
    table = context[_C_CR3] & _ADDRESS
    writable, user_page, no_execute = True, True, False
    level = _4
    shift = U(39)
    entry_hpa = _0
    entry = _0
    while True:
        entry_gpa = table + (((gva >> shift) & _511) << _3)
        result[_R_LEVEL] = level
        entry_hpa = reach_entry(memory, context, result, entry_gpa, _READ)
        if entry_hpa == _NOWHERE:
            return np.int64(result[_R_STATUS])
        count = result[_R_GREFS] + result[_R_HREFS]
        if count < U(24):
            result[U(_R_REFS) + count] = entry_hpa
        result[_R_GREFS] += _1
        entry = memory[entry_hpa >> _3]
        if entry & _P == _0:
            return page_fault(context, result, _0, level, access)
        leaf = level == _1 or (level < _4 and (entry & _PS) != _0)
        reserved = _GUEST_RESERVED[np.int64(level * _2 + (_1 if leaf else _0))] | context[_C_RESERVED]
        if context[_C_NXE] == _0:
            reserved |= _XD
        if leaf and level == _3 and context[_C_1G] == _0:
            reserved |= _PS
        if entry & reserved:
            return page_fault(context, result, _E_P | _E_RSVD, level, access)
        writable = writable and (entry & _RW) != _0
        user_page = user_page and (entry & _US) != _0
        no_execute = no_execute or (entry & _XD) != _0
        if leaf:
            break
        if entry & _A == _0 and context[_C_UPDATE]:
            if context[_C_EPTP] and result[_R_RIGHTS] & _WRITE == _0:
                return update_denied(result, entry_gpa, level)
            memory[entry_hpa >> _3] = entry | _A
        table = entry & _ADDRESS
        level -= _1
        shift -= _9
    allowed = guest_rights(context, user_page, writable, no_execute)
    if wanted & ~allowed:
        return page_fault(context, result, _E_P, level, access)
    flags = _A | (_D if access == _1 else _0)
    if flags & ~entry and context[_C_UPDATE]:
        if context[_C_EPTP] and result[_R_RIGHTS] & _WRITE == _0:
            return update_denied(result, entry_gpa, level)
        entry |= flags
        memory[entry_hpa >> _3] = entry
    offset = (_1 << shift) - _1
    gpa = (entry & _ADDRESS & ~offset) | (gva & offset)
    result[_R_GPA] = gpa
    result[_R_GSHIFT] = shift
    result[_R_GLOBAL] = _1 if entry & _G else _0
    dirty = _1 if entry & _D else _0
    hpa = gpa
    if context[_C_EPTP]:
        linear = _Q_LINEAR | _Q_FINAL
        if context[_C_ADVANCED]:
            linear |= (
                (_Q_USER if user_page else _0)
                | (_Q_WRITABLE if writable else _0)
                | (_Q_XD if no_execute else _0)
            )
        hpa = walk_ept(memory, context, result, gpa, wanted, linear)
        if hpa == _NOWHERE:
            return np.int64(result[_R_STATUS])
        allowed &= result[_R_RIGHTS]
        dirty &= result[_R_DIRTY]
    else:
        result[_R_HSHIFT] = shift
    if hpa >= context[_C_BYTES]:
        result[_R_STATUS] = U(_BUS_ERROR)
        result[_R_FAULT_GPA] = gpa
        return _BUS_ERROR
    result[_R_STATUS] = U(_OK)
    result[_R_LEVEL] = _0
    result[_R_HPA] = hpa
    result[_R_RIGHTS] = allowed
    result[_R_DIRTY] = dirty
    return _OK
