"""The compiled walk: one linear address through guest tables and EPT, reading nothing but the memory array.

Arrays and scalars in, status out: no objects, no allocation, no exceptions. The slow twin, written from the
manual, is ``reference.py``; a test compares the two over whole small worlds. Every constant is derived from
the layouts of the arch room. Addresses are bytes; a reference outside memory is BUS_ERROR and is never made.
"""

import numpy as np

from quire.arch import (
    EPT_PTE,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    LOW32,
    PAE_PDE,
    PAE_PDPTE,
    PDE,
    PDE_4M,
    PF_ERROR,
    PTE,
    PTE_32,
    WORD,
    Access,
    PagingMode,
    Vector,
    entry_layout,
    linear_width,
)
from quire.kernels import kernel, types
from quire.paging._kernels_ept import WORDS, deny, may_update_table, pointer, walk_ept
from quire.paging.context import Context, Dimension, Result, Status

U = np.uint64
ARRAY = types.uint64[::1]

# Reserved bits of leaves by 4 * mode + level.
_LEAVES = {
    PagingMode.BITS_32: (1, 2),
    PagingMode.PAE: (1, 2),
    PagingMode.LEVEL_4: (1, 2, 3),
    PagingMode.LEVEL_5: (1, 2, 3),
}
_LEAF_RESERVED = np.zeros(4 * 6, np.uint64)
for _mode, _levels in _LEAVES.items():
    for _level in _levels:
        _LEAF_RESERVED[4 * _mode + _level] = entry_layout(_level, True, _mode).reserved_mask

_P, _RW, _US, _A, _D, _G, _XD = (U(PTE.mask(name)) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
_PS, _ADDRESS, _ADDRESS_32 = U(PDE.mask("PS")), U(PTE.mask("addr")), U(PTE_32.mask("addr"))
_HIGH_4M, _HIGH_4M_UP = U(PDE_4M.mask("addr_high")), U(32 - PDE_4M.shift("addr_high"))
_KEY = U(PTE.shift("pkey"))
_PAE_RESERVED = U(PAE_PDE.reserved_mask)
_PDPTE_P, _PDPTE_ADDRESS = U(PAE_PDPTE.mask("P")), U(PAE_PDPTE.mask("addr"))
_VERIFY, _PAGING_WRITE = U(EPT_PTE.mask("verify_guest_paging")), U(EPT_PTE.mask("paging_write"))
_Q_RIGHTS = U(EPT_VIOLATION_QUALIFICATION.mask("user", "writable", "xd"))
_EPTP_AD = U(EPTP.mask("AD"))
_E_P, _E_W, _E_U, _E_RSVD, _E_ID, _E_PK, _E_SS = (
    U(PF_ERROR.mask(n)) for n in ("P", "W", "U", "RSVD", "ID", "PK", "SS")
)
_Q_LINEAR, _Q_FINAL, _Q_USER, _Q_WRITABLE, _Q_XD, _Q_SHADOW, _Q_VERIFY = (
    U(EPT_VIOLATION_QUALIFICATION.mask(name))
    for name in ("gla_valid", "final", "user", "writable", "xd", "shadow_stack", "verify_paging")
)

_OK, _PAGE_FAULT = np.int64(Status.OK), np.int64(Status.PAGE_FAULT)
_NON_CANONICAL, _BUS_ERROR = np.int64(Status.NON_CANONICAL), np.int64(Status.BUS_ERROR)
_GUEST = U(Dimension.GUEST)
_MODE_32, _MODE_PAE, _MODE_4 = U(PagingMode.BITS_32), U(PagingMode.PAE), U(PagingMode.LEVEL_4)
_LEVEL_5 = U(PagingMode.LEVEL_5)
_TOP_4, _TOP_5 = U(linear_width(PagingMode.LEVEL_4) - 1), U(linear_width(PagingMode.LEVEL_5) - 1)
_WRITE_ACCESS, _FETCH, _SHADOW = U(Access.WRITE), U(Access.FETCH), U(Access.SHADOW_READ)
_SHADOW_WRITE = U(Access.SHADOW_WRITE)
_V_PF, _V_GP, _V_SS = U(Vector.PF), U(Vector.GP), U(Vector.SS)
_C_CR3, _C_EPTP, _C_BYTES = int(Context.CR3), int(Context.EPTP), int(Context.MEMORY_BYTES)
_C_RESERVED, _C_NXE, _C_WP = int(Context.RESERVED), int(Context.NXE), int(Context.WP)
_C_SMEP, _C_SMAP = int(Context.SMEP), int(Context.SMAP)
_C_USER, _C_1G, _C_UPDATE = int(Context.USER), int(Context.PAGE_1G), int(Context.UPDATE)
_C_ADVANCED = int(Context.ADVANCED)
_C_MODE, _C_AC, _C_IMPLICIT = int(Context.MODE), int(Context.AC), int(Context.IMPLICIT)
_C_STACK, _C_PSE, _C_PSE_RESERVED = int(Context.STACK), int(Context.PSE), int(Context.PSE_RESERVED)
_C_PKE, _C_PKRU, _C_PKS = int(Context.PKE), int(Context.PKRU), int(Context.PKS)
_C_PKRS, _C_PDPTE0 = int(Context.PKRS), int(Context.PDPTE0)
_C_MBEC, _C_VERIFY, _C_PGE = int(Context.MBEC), int(Context.VERIFY_PAGING), int(Context.PGE)
_R_STATUS, _R_HPA, _R_GPA = int(Result.STATUS), int(Result.HPA), int(Result.GPA)
_R_GSHIFT, _R_HSHIFT = int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT)
_R_RIGHTS, _R_DIRTY, _R_GLOBAL = int(Result.RIGHTS), int(Result.DIRTY), int(Result.GLOBAL)
_R_ERROR, _R_FAULT_GPA, _R_LEVEL = int(Result.ERROR), int(Result.FAULT_GPA), int(Result.FAULT_LEVEL)
_R_DIMENSION, _R_GREFS = int(Result.FAULT_DIMENSION), int(Result.GUEST_REFERENCES)
_R_HREFS, _R_VECTOR, _R_GVA = int(Result.HOST_REFERENCES), int(Result.VECTOR), int(Result.GVA)
_R_REFS = int(Result.REFERENCES)
_R_GUEST, _R_HOST = int(Result.GUEST_ENTRY), int(Result.HOST_ENTRY)
_R_COMBINED, _R_EPT = int(Result.COMBINED), int(Result.EPT_RIGHTS)

_0, _1, _2, _3, _4, _5, _7, _8, _9, _12 = (U(n) for n in (0, 1, 2, 3, 4, 5, 7, 8, 9, 12))
_10, _21, _22, _30, _39, _48, _511, _1023 = (U(n) for n in (10, 21, 22, 30, 39, 48, 511, 1023))
_READ, _WRITE, _EXECUTE, _USER_EXECUTE = _1, _2, _4, _8
_ALL = U(15)
_LOW_32 = U(LOW32)
_FINE = U(1 << 32)  # no page-fault error code
_NOWHERE = U(WORD)


@kernel(types.int64(WORDS, types.uint64, types.uint64))
def outside(result, gpa, level):
    """Record that no memory lies where an entry or a page should be."""
    result[_R_STATUS] = U(_BUS_ERROR)
    result[_R_FAULT_GPA] = gpa
    result[_R_LEVEL] = level
    return _BUS_ERROR


@kernel(types.int64(WORDS, WORDS, types.uint64, types.uint64, types.uint64))
def page_fault(context, result, error, level, access):
    """Record a #PF: `error` holds P, RSVD and PK, the rest follows from the access (SDM 3A §4.7)."""
    if access == _WRITE_ACCESS or access == _SHADOW_WRITE:  # noqa: SIM109 - a tuple would be built
        error |= _E_W
    if access >= _SHADOW:
        error |= _E_SS
    if context[_C_USER] and context[_C_IMPLICIT] == _0:
        error |= _E_U
    if access == _FETCH and (context[_C_SMEP] or (context[_C_NXE] and context[_C_MODE] != _MODE_32)):
        error |= _E_ID
    result[_R_STATUS] = U(_PAGE_FAULT)
    result[_R_ERROR] = error
    result[_R_LEVEL] = level
    result[_R_DIMENSION] = _GUEST
    result[_R_VECTOR] = _V_PF
    return _PAGE_FAULT


@kernel(types.int64(WORDS, WORDS, WORDS, types.uint64))
def update_denied(memory, context, result, entry_gpa):
    """Record the EPT violation of a guest accessed or dirty update whose table page EPT makes read-only.

    SDM 3C §28.3.3.2: the update counts as a read and a write; result holds the leaf of that page.
    """
    level = (result[_R_HSHIFT] - _12) // _9 + _1
    deny(memory, context, result, entry_gpa, _READ | _WRITE, _Q_LINEAR, level)
    return np.int64(result[_R_STATUS])


@kernel(types.uint64(WORDS, types.boolean, types.uint64))
def key_rights(context, user_page, leaf):
    """Return the accesses (R 1, W 2, X 4) that protection keys leave to a page of this leaf (SDM 3A §4.6.2)."""
    if context[_C_MODE] < _MODE_4 or context[_C_PKE if user_page else _C_PKS] == _0:
        return _7
    register = context[_C_PKRU if user_page else _C_PKRS]
    denied = register >> (_2 * ((leaf >> _KEY) & U(15)))
    if denied & _1:
        return _EXECUTE
    binds = context[_C_WP] != _0 or (context[_C_USER] != _0 and context[_C_IMPLICIT] == _0)
    return _5 if denied & _2 and binds else _7


@kernel(types.uint64(WORDS, types.boolean, types.boolean, types.boolean, types.uint64), inline="always")
def guest_rights(context, user_page, writable, no_execute, leaf):
    """Return the accesses (R 1, W 2, X 4) that the guest's own tables allow (SDM 3A §4.6)."""
    if context[_C_USER] and context[_C_IMPLICIT] == _0:
        if not user_page:
            return _0
        data = True
        write = writable
        fetch = not no_execute
    else:
        guarded = context[_C_SMAP] != _0 and (context[_C_IMPLICIT] != _0 or context[_C_AC] == _0)
        data = not (user_page and guarded)
        write = data and (writable or context[_C_WP] == _0)
        fetch = not no_execute and not (user_page and context[_C_SMEP] != _0)
    rights = (_READ if data else _0) | (_WRITE if write else _0) | (_EXECUTE if fetch else _0)
    if context[_C_PKE] | context[_C_PKS]:
        rights &= key_rights(context, user_page, leaf)
    return rights


@kernel(types.uint64(WORDS, types.boolean, types.boolean, types.uint64, types.uint64))
def shadow_rights(context, user_page, above_writable, leaf, wanted):
    """Return `wanted` if a shadow-stack access of it is allowed, else 0 (SDM 3A §4.6.1)."""
    user = context[_C_USER] != _0 and context[_C_IMPLICIT] == _0
    is_stack = above_writable and leaf & _RW == _0 and leaf & _D != _0
    if not is_stack or user_page != user:
        return _0
    return wanted & key_rights(context, user_page, leaf)


@kernel(
    types.int64(WORDS, WORDS, WORDS, types.uint64, types.uint64, types.uint64, types.uint64), inline="always"
)
def finish(memory, context, result, gpa, access, allowed, linear):
    """Translate the page that the guest's tables gave, and fill the rest of `result`; return the status.

    `allowed` are the guest's rights. `linear` has qualification bits 11:9 of the address, and bit 58 (paging-write)
    if every EPT leaf that the tables were reached through has it, or none was.
    """
    hpa = gpa
    result[_R_GPA] = gpa
    if context[_C_EPTP]:
        want = _1 << (access if access < _SHADOW else access - _SHADOW)
        by_user_bit = context[_C_MBEC] != _0 and linear & _Q_USER != _0
        if by_user_bit and want == _EXECUTE:
            want = _USER_EXECUTE
        said = _Q_LINEAR | _Q_FINAL
        if context[_C_ADVANCED]:
            said |= linear & _Q_RIGHTS
        if access >= _SHADOW:
            said |= _Q_SHADOW
        hpa = walk_ept(memory, context, result, gpa, want, said)
        if hpa == _NOWHERE:
            return np.int64(result[_R_STATUS])
        if context[_C_VERIFY] and result[_R_HOST] & _VERIFY and linear & _PAGING_WRITE == _0:
            level = (result[_R_HSHIFT] - _12) // _9 + _1
            deny(memory, context, result, gpa, want, said | _Q_VERIFY, level)
            return np.int64(result[_R_STATUS])
        rights = result[_R_EPT] = result[_R_RIGHTS]
        if access < _SHADOW:
            allowed &= ((rights & _3) | ((rights >> _1) & _EXECUTE)) if by_user_bit else rights
    else:
        result[_R_HSHIFT] = result[_R_GSHIFT]
        result[_R_DIRTY] = _1
        result[_R_EPT] = _ALL
    if hpa >= context[_C_BYTES]:
        return outside(result, gpa, result[_R_LEVEL])
    result[_R_STATUS] = U(_OK)
    result[_R_LEVEL] = _0
    result[_R_HPA] = hpa
    result[_R_RIGHTS] = allowed
    return _OK


@kernel(types.int64(WORDS, WORDS, types.uint64, types.uint64, WORDS))
def walk_from(memory, context, gva, access, result):
    """Translate `gva` for `access` (:class:`quire.arch.Access`); fill `result`, return its status.

    One dimension when EPTP is 0, else two. SDM 3A §4.3 to §4.8, SDM 3C §28.3. A and D flags are set as the
    manual orders: those of a table entry when it is used, those of the leaf after the rights check.
    """
    for n in range(_R_REFS):
        result[n] = _0
    result[_R_GUEST], result[_R_HOST] = _0, _0
    result[_R_GVA] = gva
    mode = context[_C_MODE]
    error, allowed = _FINE, _7
    table, level, shift, leaf_top = context[_C_CR3] & _ADDRESS, mode, _39, _3
    beyond = context[_C_RESERVED] | (_XD if context[_C_NXE] == _0 else _0)
    in_table = beyond | _PS
    step, index_mask, scale = _9, _511, _3
    if mode >= _MODE_4:
        top = _TOP_4
        if mode == _LEVEL_5:
            top, shift = _TOP_5, _48
        sign = np.int64(gva) >> np.int64(top)
        if sign != 0 and sign != -1:
            result[_R_STATUS] = U(_NON_CANONICAL)
            result[_R_VECTOR] = _V_SS if context[_C_STACK] else _V_GP
            return _NON_CANONICAL
    else:
        gva &= _LOW_32
        level, shift, leaf_top = _2, _21, _2
        if mode == _0:
            return finish(memory, context, result, gva, access, _7, _Q_USER | _Q_WRITABLE | _PAGING_WRITE)
        if mode == _MODE_PAE:
            pdpte = context[U(_C_PDPTE0) + (gva >> _30)]
            if pdpte & _PDPTE_P == _0:
                level, error = _3, _0
            table = pdpte & _PDPTE_ADDRESS
            in_table |= _PAE_RESERVED
        else:
            table &= _ADDRESS_32
            beyond, in_table, step, index_mask, scale, shift = _0, _0, _10, _1023, _2, _22
            leaf_top = _2 if context[_C_PSE] else _1
    both, either, above, marked, place = _NOWHERE, _0, _0, _NOWHERE, _0
    entry_hpa, entry_gpa, entry = _0, _0, _0
    # With accessed and dirty flags for EPT on, every access to a guest table counts as a write (SDM 3C §28.3.3.2).
    table_rights = _0
    if context[_C_EPTP]:
        table_rights = _READ | _WRITE if context[_C_EPTP] & _EPTP_AD else _READ
    limit, at, host_references = context[_C_BYTES], U(_R_REFS), _0
    while error == _FINE:
        entry_gpa = table + (((gva >> shift) & index_mask) << scale)
        entry_hpa = entry_gpa
        if table_rights:
            entry_hpa = walk_ept(memory, context, result, entry_gpa, table_rights, _Q_LINEAR)
            if entry_hpa == _NOWHERE:
                return np.int64(result[_R_STATUS])
            at += result[_R_HREFS] - host_references
            host_references = result[_R_HREFS]
            marked &= result[_R_HOST]
        if entry_hpa >= limit:
            return outside(result, entry_gpa, level)
        result[at] = entry_hpa
        at += _1
        result[_R_GREFS] = at - U(_R_REFS) - host_references
        entry = memory[entry_hpa >> _3]
        if scale == _2:
            place = (entry_hpa & _4) << _3
            entry = (entry >> place) & _LOW_32
        above = both
        both &= entry
        either |= entry
        if level == _1 or (entry & _PS and level <= leaf_top):
            break
        # PS is reserved in a table entry where pages are not mapped, and 0 in one where they are.
        if (entry ^ _P) & (in_table | _P):
            error = _E_P | _E_RSVD if entry & _P else _0
            break
        if entry & _A == _0 and context[_C_UPDATE]:
            if table_rights and not may_update_table(context, result):
                return update_denied(memory, context, result, entry_gpa)
            memory[entry_hpa >> _3] |= _A << place
        table = entry & _ADDRESS
        level -= _1
        shift -= step
    user_page = both & _US != _0
    wanted = _1 << (access if access < _SHADOW else access - _SHADOW)
    if error == _FINE:
        reserved = _LEAF_RESERVED[mode * _4 + level] | beyond
        if level != _1:
            if level == _3 and context[_C_1G] == _0:
                reserved |= _PS
            if scale == _2:
                reserved |= context[_C_PSE_RESERVED]
        if access < _SHADOW:
            allowed = guest_rights(context, user_page, both & _RW != _0, either & _XD != _0, entry)
        else:
            allowed = shadow_rights(context, user_page, above & _RW != _0, entry, wanted)
        if entry & _P == _0:
            error = _0
        elif entry & reserved:
            error = _E_P | _E_RSVD
        elif wanted & ~allowed:
            error = _E_P | (_E_PK if wanted & ~key_rights(context, user_page, entry) else _0)
    if error != _FINE:
        return page_fault(context, result, error, level, access)
    flags = _A | (_D if wanted == _WRITE else _0)
    if flags & ~entry and context[_C_UPDATE]:
        if context[_C_EPTP] and not may_update_table(context, result):
            return update_denied(memory, context, result, entry_gpa)
        entry |= flags
        memory[entry_hpa >> _3] |= flags << place
    offset = (_1 << shift) - _1
    gpa = (entry & _ADDRESS & ~offset) | (gva & offset)
    if scale == _2 and level == _2:
        gpa |= (entry & _HIGH_4M) << _HIGH_4M_UP
    result[_R_GSHIFT] = shift
    result[_R_GUEST] = entry
    result[_R_GLOBAL] = _1 if entry & _G and context[_C_PGE] else _0
    result[_R_COMBINED] = (both & (_RW | _US)) | (either & _XD)
    result[_R_LEVEL] = level
    linear = (
        (_Q_USER if user_page else _0)
        | (_Q_WRITABLE if both & _RW else _0)
        | (_Q_XD if either & _XD else _0)
        | (marked & _PAGING_WRITE)
    )
    status = finish(memory, context, result, gpa, access, allowed, linear)
    if entry & _D == _0:
        result[_R_DIRTY] = _0
    return status


@kernel(types.int64(ARRAY, ARRAY, types.uint64, types.uint64, ARRAY))
def walk(memory, context, gva, access, result):
    """Do what :func:`walk_from` does, for a caller that has arrays."""
    return walk_from(pointer(memory), pointer(context), gva, access, pointer(result))
