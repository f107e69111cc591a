"""The batched walk: sixteen walks go down their tables in step, one level of all before the next level of any.

A walk waits for memory; sixteen wait together. The lanes know only the common case: 4-level tables and EPT, every
entry present, legal and with its flags set. A lane that meets anything else is walked again, alone, by the one walk
that knows all the rules. So a lane may read, but writes nothing.
"""

import numpy as np
from numba import njit, types

from quire.arch import EPT_MEMORY_TYPES, EPT_PTE, EPTP, PDE, PTE, Access, PagingMode, entry_layout, ept_layout
from quire.paging._kernels import guest_rights, walk
from quire.paging.context import Context, Result, Status

U = np.uint64
WORDS = types.uint64[::1]
BYTES = types.uint8[::1]

LANES = 16
_N = np.int64(LANES)
# Columns of the scratch array, LANES words each.
_TABLE, _GPA, _HPA, _LEAF, _UPPER, _STATE, _AT, _ENTRY, _PAGE = (np.int64(LANES * n) for n in range(9))
SCRATCH_WORDS = 9 * LANES

_SHAPES = ((4, False), (3, False), (3, True), (2, False), (2, True), (1, True))
_GUEST_RESERVED, _EPT_RESERVED = np.zeros(10, np.uint64), np.zeros(10, np.uint64)
for _level, _leaf in _SHAPES:
    _GUEST_RESERVED[2 * _level + _leaf] = entry_layout(_level, _leaf).reserved_mask
    _EPT_RESERVED[2 * _level + _leaf] = ept_layout(_level, _leaf).reserved_mask
_LEGAL_TYPES = U(sum(1 << kind for kind in EPT_MEMORY_TYPES))
_P, _RW, _US, _A, _D, _XD = (U(PTE.mask(name)) for name in ("P", "RW", "US", "A", "D", "XD"))
_ADDRESS, _PS = U(PTE.mask("addr")), U(PDE.mask("PS"))
_EPT_A, _EPT_D, _TYPE_SHIFT = U(EPT_PTE.mask("A")), U(EPT_PTE.mask("D")), U(EPT_PTE.shift("MT"))
_EPTP_AD, _LENGTH_5, _EPTP_SSS = U(EPTP.mask("AD")), U(EPTP.encode(walk_length=4)), U(EPTP.mask("SSS"))
_MODE_4, _WRITE_ACCESS, _FETCH = U(PagingMode.LEVEL_4), U(Access.WRITE), U(Access.FETCH)
_C_CR3, _C_EPTP, _C_BYTES, _C_RESERVED, _C_NXE, _C_1G, _C_MODE = (
    int(c)
    for c in (
        Context.CR3,
        Context.EPTP,
        Context.MEMORY_BYTES,
        Context.RESERVED,
        Context.NXE,
        Context.PAGE_1G,
        Context.MODE,
    )
)
_C_EPT_2M, _C_EPT_1G, _C_MBEC, _C_VERIFY = (
    int(c) for c in (Context.EPT_2M, Context.EPT_1G, Context.MBEC, Context.VERIFY_PAGING)
)
_R_HPA, _R_ERROR = int(Result.HPA), int(Result.ERROR)
_OK = np.int64(Status.OK)
_LEAF_FOUND, _ALONE = U(1), U(2)
_0, _1, _2, _3, _7, _9, _47 = (U(n) for n in (0, 1, 2, 3, 7, 9, 47))
_511, _NOWHERE = U(511), U((1 << 64) - 1)


@njit(types.void(WORDS, WORDS, WORDS, types.int64, types.uint64, types.uint64), cache=True, nogil=True)
def ept_lanes(memory, context, scratch, lanes, need_rights, need_flags):
    """Translate the GPA of every lane into its HPA; what is not the common case makes the lane ALONE.

    `need_rights` are the rights that every entry must give, `need_flags` what the leaf must have set.
    """
    limit, beyond = context[_C_BYTES], context[_C_RESERVED]
    flags = _EPT_A if context[_C_EPTP] & _EPTP_AD else _0
    root = context[_C_EPTP] & _ADDRESS
    for k in range(lanes):
        scratch[_HPA + k] = root
        scratch[_PAGE + k] = _0
        if scratch[_GPA + k] >> U(48):
            scratch[_STATE + k] |= _ALONE
    for n in range(4):
        shift = U(39 - 9 * n)
        even = 2 * (4 - n)
        open_lanes = _0
        for k in range(lanes):
            if scratch[_PAGE + k]:
                continue
            at = scratch[_HPA + k] + (((scratch[_GPA + k] >> shift) & _511) << _3)
            if at >= limit:
                scratch[_STATE + k] |= _ALONE
                at = _0
            scratch[_ENTRY + k] = memory[at >> _3]
        for k in range(lanes):
            if scratch[_PAGE + k]:
                continue
            entry = scratch[_ENTRY + k]
            leaf = n == 3 or (n > 0 and entry & _PS != _0)
            needed = need_rights | flags
            reserved = _EPT_RESERVED[even + (1 if leaf else 0)] | beyond
            if leaf:
                needed |= need_flags
                legal = (_LEGAL_TYPES >> ((entry >> _TYPE_SHIFT) & _7)) & _1
                large = n == 3 or context[_C_EPT_2M if n == 2 else _C_EPT_1G] != _0
                if legal == _0 or not large:
                    scratch[_STATE + k] |= _ALONE
                offset = (_1 << shift) - _1
                scratch[_HPA + k] = (entry & _ADDRESS & ~offset) | (scratch[_GPA + k] & offset)
                scratch[_PAGE + k] = _1
            else:
                scratch[_HPA + k] = entry & _ADDRESS
                open_lanes = _1
            if entry & needed != needed or entry & reserved or entry & _1 == _0:
                scratch[_STATE + k] |= _ALONE
        if open_lanes == _0:
            break


@njit(types.void(WORDS, WORDS, WORDS, types.int64, types.uint64), cache=True, nogil=True)
def guest_lanes(memory, context, scratch, lanes, leaf_flags):
    """Walk the guest tables of every lane whose address is in PAGE's place of `scratch`'s AT; leave final GPAs."""
    limit = context[_C_BYTES]
    beyond = context[_C_RESERVED] | (_XD if context[_C_NXE] == _0 else _0)
    two = context[_C_EPTP] != _0
    table_flags = _EPT_D if context[_C_EPTP] & _EPTP_AD else _0
    table_rights = _3 if context[_C_EPTP] & _EPTP_AD else _1
    for n in range(4):
        shift = U(39 - 9 * n)
        even = 2 * (4 - n)
        open_lanes = _0
        for k in range(lanes):
            if scratch[_STATE + k] & _LEAF_FOUND == _0:
                gpa = scratch[_TABLE + k] + (((scratch[_AT + k] >> shift) & _511) << _3)
                scratch[_GPA + k] = gpa
                scratch[_HPA + k] = gpa
        if two:
            ept_lanes(memory, context, scratch, lanes, table_rights, table_flags)
        for k in range(lanes):
            at = scratch[_HPA + k]
            if at >= limit:
                scratch[_STATE + k] |= _ALONE
                at = _0
            if scratch[_STATE + k] & _LEAF_FOUND == _0:
                scratch[_ENTRY + k] = memory[at >> _3]
        for k in range(lanes):
            if scratch[_STATE + k] & _LEAF_FOUND:
                continue
            entry = scratch[_ENTRY + k]
            leaf = n == 3 or (n > 0 and entry & _PS != _0)
            needed = _P | _A
            reserved = _GUEST_RESERVED[even + (1 if leaf else 0)] | beyond
            scratch[_UPPER + k] = (scratch[_UPPER + k] & (entry | _XD)) | (entry & _XD)
            if leaf:
                needed |= leaf_flags
                if n == 1 and context[_C_1G] == _0:
                    reserved |= _PS
                offset = (_1 << shift) - _1
                scratch[_LEAF + k] = entry
                scratch[_TABLE + k] = (entry & _ADDRESS & ~offset) | (scratch[_AT + k] & offset)
                scratch[_STATE + k] |= _LEAF_FOUND
            else:
                scratch[_TABLE + k] = entry & _ADDRESS
                open_lanes = _1
            if entry & needed != needed or entry & reserved:
                scratch[_STATE + k] |= _ALONE
        if open_lanes == _0:
            break


@njit(types.void(WORDS, WORDS, WORDS, types.uint64, WORDS, BYTES, WORDS, WORDS), cache=True, nogil=True)
def walk_batch(memory, context, gvas, access, values, statuses, scratch, result):
    """Walk every address of `gvas` for `access`; fill `values` (HPA, or error) and `statuses`.

    `scratch` has SCRATCH_WORDS, `result` RESULT_WORDS words.
    """
    plain = context[_C_MODE] == _MODE_4 and access <= _FETCH
    plain = plain and context[_C_EPTP] & (_LENGTH_5 | _EPTP_SSS) == _0
    plain = plain and context[_C_MBEC] | context[_C_VERIFY] == _0
    wanted = _1 << access
    leaf_flags = _D if access == _WRITE_ACCESS else _0
    ept_flags = _EPT_D if access == _WRITE_ACCESS and context[_C_EPTP] & _EPTP_AD else _0
    for first in range(0, gvas.size, _N):
        lanes = min(_N, gvas.size - first)
        for k in range(lanes):
            sign = np.int64(gvas[first + k]) >> np.int64(_47)
            scratch[_AT + k] = gvas[first + k]
            scratch[_TABLE + k] = context[_C_CR3] & _ADDRESS
            scratch[_UPPER + k] = _RW | _US
            scratch[_STATE + k] = _0 if plain and (sign == 0 or sign == -1) else _ALONE
        if plain:
            guest_lanes(memory, context, scratch, lanes, leaf_flags)
            for k in range(lanes):
                upper = scratch[_UPPER + k]
                allowed = guest_rights(
                    context, upper & _US != _0, upper & _RW != _0, upper & _XD != _0, scratch[_LEAF + k]
                )
                if wanted & ~allowed:
                    scratch[_STATE + k] |= _ALONE
                scratch[_GPA + k] = scratch[_TABLE + k]
                scratch[_HPA + k] = scratch[_TABLE + k]
            if context[_C_EPTP]:
                ept_lanes(memory, context, scratch, lanes, wanted, ept_flags)
        for k in range(lanes):
            alone = scratch[_STATE + k] & _ALONE != _0 or scratch[_HPA + k] >= context[_C_BYTES]
            values[first + k] = scratch[_HPA + k]
            statuses[first + k] = 0
            if alone:
                status = walk(memory, context, gvas[first + k], access, result)
                statuses[first + k] = status
                values[first + k] = result[_R_HPA] if status == _OK else result[_R_ERROR]
