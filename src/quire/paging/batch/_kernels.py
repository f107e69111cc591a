"""The batched walk: a group of walks goes down its tables in step, one level of all before the next level of any.

A walk waits for memory; sixty-four wait together. The lanes know only the common case: 4-level tables and EPT, every
entry present, legal and with its flags set. A lane that meets anything else is walked again, alone, by the one walk
that knows all the rules. So a lane may read, but writes nothing.
"""

import numpy as np

from quire.arch import (
    EPT_MEMORY_TYPES,
    EPT_PTE,
    EPTP,
    PDE,
    PTE,
    WORD,
    Access,
    PagingMode,
    entry_layout,
    ept_layout,
)
from quire.kernels import kernel, types
from quire.paging._kernels import guest_rights, walk_from
from quire.paging._kernels_ept import WORDS, pointer
from quire.paging.context import Context, Result, Status

U = np.uint64
ARRAY = types.uint64[::1]
BYTES = types.uint8[::1]

LANES = 64
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
# A memory type is illegal (2, 3, 7) if its middle bit is set and its high bit is not, or all three are.
_TYPE_MIDDLE = U(1 << EPT_PTE.shift("MT") + 1)
_EPTP_AD, _LENGTH_5, _EPTP_SSS = U(EPTP.mask("AD")), U(EPTP.encode(walk_length=4)), U(EPTP.mask("SSS"))
_MODE_4, _WRITE_ACCESS, _FETCH = U(PagingMode.LEVEL_4), U(Access.WRITE), U(Access.FETCH)
_C_CR3, _C_EPTP, _C_BYTES = int(Context.CR3), int(Context.EPTP), int(Context.MEMORY_BYTES)
_C_RESERVED, _C_NXE, _C_1G = int(Context.RESERVED), int(Context.NXE), int(Context.PAGE_1G)
_C_MODE = int(Context.MODE)
_C_EPT_2M, _C_EPT_1G, _C_MBEC = int(Context.EPT_2M), int(Context.EPT_1G), int(Context.MBEC)
_C_VERIFY, _C_PKE, _C_PKS = int(Context.VERIFY_PAGING), int(Context.PKE), int(Context.PKS)
_R_HPA, _R_ERROR = int(Result.HPA), int(Result.ERROR)
_OK = np.int64(Status.OK)
_LEAF_FOUND, _ALONE = U(1), U(2)
_0, _1, _3, _7 = (U(n) for n in (0, 1, 3, 7))
_47, _63 = np.int64(47), np.int64(63)
_511, _NOWHERE = U(511), U(WORD)


@kernel(types.void(WORDS, WORDS, WORDS, types.int64, types.uint64, types.uint64))
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


@kernel(types.void(WORDS, WORDS, WORDS, types.int64, types.uint64))
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


@kernel(types.boolean(WORDS, WORDS, WORDS, types.uint64, types.uint64))
def ept_group(memory, context, scratch, need_rights, need_flags):
    """Translate the GPAs of a full group whose lanes all go the same way; False when they do not, or one is odd.

    Nothing is decided lane by lane: what all entries of a level have, and what any has, is enough. An address beyond
    memory makes `last` minus it negative: addresses have 52 bits.
    """
    last, beyond = context[_C_BYTES] - _1, context[_C_RESERVED]
    needed = need_rights | _1 | (_EPT_A if context[_C_EPTP] & _EPTP_AD else _0)
    root = context[_C_EPTP] & _ADDRESS
    high = _0
    for k in range(_N):
        high |= scratch[_GPA + k]
        scratch[_HPA + k] = root
    if high >> U(48):
        return False
    for n in range(4):
        shift = U(39 - 9 * n)
        over = _0
        for k in range(_N):
            at = scratch[_HPA + k] + (((scratch[_GPA + k] >> shift) & _511) << _3)
            over |= last - at
            scratch[_PAGE + k] = at >> _3
        if over >> U(63):
            return False
        for k in range(_N):
            scratch[_ENTRY + k] = memory[scratch[_PAGE + k]]
        some, every, kinds = _0, _NOWHERE, _0
        for k in range(_N):
            entry = scratch[_ENTRY + k]
            some |= entry
            every &= entry
            kinds |= entry & (~(entry >> _1) | (entry << _1)) & _TYPE_MIDDLE
            scratch[_HPA + k] = entry & _ADDRESS
        if every & needed != needed:
            return False
        if n == 3 or (n > 0 and some & _PS):
            large = n == 3 or (every & _PS != _0 and context[_C_EPT_2M if n == 2 else _C_EPT_1G] != _0)
            reserved = _EPT_RESERVED[9 - 2 * n] | beyond
            if not large or kinds or some & reserved or every & need_flags != need_flags:
                return False
            offset = (_1 << shift) - _1
            for k in range(_N):
                scratch[_HPA + k] = (scratch[_HPA + k] & ~offset) | (scratch[_GPA + k] & offset)
            return True
        if some & (_EPT_RESERVED[8 - 2 * n] | beyond):
            return False
    return False


@kernel(types.boolean(WORDS, WORDS, WORDS, types.uint64, types.uint64))
def walk_group(memory, context, scratch, access, leaf_flags):
    """Walk a full group to its HPAs if every lane is of the most common kind; else False, and nothing is known."""
    last, two, ad = context[_C_BYTES] - _1, context[_C_EPTP] != _0, context[_C_EPTP] & _EPTP_AD != _0
    beyond = context[_C_RESERVED] | (_XD if context[_C_NXE] == _0 else _0)
    with_all, with_any, users = _NOWHERE, _0, _0
    for n in range(4):
        shift = U(39 - 9 * n)
        for k in range(_N):
            scratch[_GPA + k] = scratch[_TABLE + k] + (((scratch[_AT + k] >> shift) & _511) << _3)
        if two and not ept_group(memory, context, scratch, _3 if ad else _1, _EPT_D if ad else _0):
            return False
        reached = _HPA if two else _GPA
        over = _0
        for k in range(_N):
            over |= last - scratch[reached + k]
            scratch[_PAGE + k] = scratch[reached + k] >> _3
        if over >> U(63):
            return False
        for k in range(_N):
            scratch[_ENTRY + k] = memory[scratch[_PAGE + k]]
        some, every = _0, _NOWHERE
        for k in range(_N):
            some |= scratch[_ENTRY + k]
            every &= scratch[_ENTRY + k]
            scratch[_TABLE + k] = scratch[_ENTRY + k] & _ADDRESS
        with_all &= every
        with_any |= some
        users = some & _US
        if every & (_P | _A) != _P | _A:
            return False
        if n == 3 or (n > 0 and some & _PS):
            large = n == 3 or (every & _PS != _0 and (n == 2 or context[_C_1G] != _0))
            if not large or some & (_GUEST_RESERVED[9 - 2 * n] | beyond) or every & leaf_flags != leaf_flags:
                return False
            offset = (_1 << shift) - _1
            for k in range(_N):
                scratch[_TABLE + k] = (scratch[_TABLE + k] & ~offset) | (scratch[_AT + k] & offset)
            break
        if some & (_GUEST_RESERVED[8 - 2 * n] | beyond):
            return False
    all_users = with_all & _US != _0
    if users and not all_users:
        return False
    wanted = _1 << access
    if wanted & ~guest_rights(context, all_users, with_all & _RW != _0, with_any & _XD != _0, _0):
        return False
    for k in range(_N):
        scratch[_GPA + k] = scratch[_TABLE + k]
        scratch[_HPA + k] = scratch[_TABLE + k]
    if two and not ept_group(
        memory, context, scratch, wanted, _EPT_D if ad and access == _WRITE_ACCESS else _0
    ):
        return False
    over = _0
    for k in range(_N):
        over |= last - scratch[_HPA + k]
    return over >> U(63) == _0


@kernel(types.boolean(WORDS, WORDS, WORDS, types.int64, types.uint64))
def walk_lanes(memory, context, scratch, lanes, access):
    """Walk a group, full or not,, lane by lane where they differ; mark those that must be walked alone."""
    leaf_flags = _D if access == _WRITE_ACCESS else _0
    ept_flags = _EPT_D if access == _WRITE_ACCESS and context[_C_EPTP] & _EPTP_AD else _0
    for k in range(lanes):
        sign = np.int64(scratch[_AT + k]) >> _47
        scratch[_STATE + k] = _0 if sign == 0 or sign == -1 else _ALONE
        scratch[_UPPER + k] = _RW | _US
    guest_lanes(memory, context, scratch, lanes, leaf_flags)
    wanted = _1 << access
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
        if scratch[_HPA + k] >= context[_C_BYTES]:
            scratch[_STATE + k] |= _ALONE
    return True


@kernel(types.boolean(WORDS, WORDS, types.int64, WORDS, types.int64))
def begin(context, gvas, first, scratch, lanes):
    """Set the lanes to the addresses from `first` on; return whether all are canonical in 48 bits."""
    root = context[_C_CR3] & _ADDRESS
    odd = np.int64(0)
    for k in range(lanes):
        gva = gvas[first + k]
        odd |= (np.int64(gva) >> _47) ^ (np.int64(gva) >> _63)
        scratch[_AT + k] = gva
        scratch[_TABLE + k] = root
    return odd == 0


@kernel(
    types.void(
        WORDS,
        WORDS,
        WORDS,
        types.int64,
        types.uint64,
        WORDS,
        types.CPointer(types.uint8),
        WORDS,
        WORDS,
    ),
)
def walk_batch_from(memory, context, gvas, count, access, values, statuses, scratch, result):
    """Walk the `count` addresses of `gvas` for `access`; fill `values` (HPA, or error) and `statuses`.

    `scratch` has SCRATCH_WORDS, `result` RESULT_WORDS words.
    """
    plain = context[_C_MODE] == _MODE_4 and access <= _FETCH
    plain = plain and context[_C_EPTP] & (_LENGTH_5 | _EPTP_SSS) == _0
    plain = plain and context[_C_MBEC] | context[_C_VERIFY] == _0
    uniform = plain and context[_C_PKE] | context[_C_PKS] == _0
    leaf_flags = _D if access == _WRITE_ACCESS else _0
    for first in range(0, count, _N):
        lanes = min(_N, count - first)
        canonical = begin(context, gvas, first, scratch, lanes)
        if uniform and canonical and lanes == _N:
            if walk_group(memory, context, scratch, access, leaf_flags):
                for k in range(_N):
                    values[first + k] = scratch[_HPA + k]
                for k in range(_N):
                    statuses[first + k] = 0
                continue
            begin(context, gvas, first, scratch, lanes)
        if plain:
            walk_lanes(memory, context, scratch, lanes, access)
        for k in range(lanes):
            values[first + k] = scratch[_HPA + k]
            statuses[first + k] = 0
            if not plain or scratch[_STATE + k] & _ALONE:
                status = walk_from(memory, context, gvas[first + k], access, result)
                statuses[first + k] = status
                values[first + k] = result[_R_HPA] if status == _OK else result[_R_ERROR]


@kernel(types.void(ARRAY, ARRAY, ARRAY, types.uint64, ARRAY, BYTES, ARRAY, ARRAY))
def walk_batch(memory, context, gvas, access, values, statuses, scratch, result):
    """Do what :func:`walk_batch_from` does, for a caller that has arrays."""
    walk_batch_from(
        pointer(memory),
        pointer(context),
        pointer(gvas),
        gvas.size,
        access,
        pointer(values),
        pointer(statuses),
        pointer(scratch),
        pointer(result),
    )
