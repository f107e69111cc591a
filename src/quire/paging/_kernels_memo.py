"""The memo's kernels: recall a walk, remember a walk. Only 4 KiB pages of both dimensions at full depth are kept.

A walk by the memo is the whole walk, in result, flags and counts (but for the list of references), as long as what lies
above the leaf entries of a version does not change; who changes it makes a new version. The walk itself is in
``_kernels.py``, and there is no other.

A slot holds, for 2 MiB of addresses, a key with the version, the HPA of their page table, and what the entries above
it allow. Guest slots come first, then those of guest-physical addresses.
"""

import numpy as np

from quire.arch import EPT_MEMORY_TYPES, EPT_PTE, EPTP, PTE, WORD
from quire.kernels import kernel, types
from quire.paging._kernels import guest_rights, walk_from
from quire.paging._kernels_ept import WORDS, pointer
from quire.paging.context import MEMO_SLOTS, Context, Dimension, Memo, Result, Status

U = np.uint64
ARRAY = types.uint64[::1]

_EPT_TYPE_LEGAL = np.array([kind in set(EPT_MEMORY_TYPES) for kind in range(8)], np.uint8)
_P, _RW, _US, _A, _D, _G, _XD = (U(PTE.mask(name)) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
_ADDRESS = U(PTE.mask("addr"))
_EPT_A, _EPT_D = U(EPT_PTE.mask("A")), U(EPT_PTE.mask("D"))
_EPT_RIGHTS = U(EPT_PTE.mask("R", "W", "X"))
_EPT_TYPE_SHIFT = U(EPT_PTE.shift("MT"))
_EPTP_AD, _LENGTH_5 = U(EPTP.mask("AD")), U(EPTP.encode(walk_length=4))
_OK = np.int64(Status.OK)
_GUEST = U(Dimension.GUEST)
_C_EPTP, _C_BYTES, _C_RESERVED = int(Context.EPTP), int(Context.MEMORY_BYTES), int(Context.RESERVED)
_C_NXE = int(Context.NXE)
_C_UPDATE, _C_VERSION = int(Context.UPDATE), int(Context.VERSION)
_C_MODE, _C_MBEC, _C_VERIFY = int(Context.MODE), int(Context.MBEC), int(Context.VERIFY_PAGING)
_C_PGE = int(Context.PGE)
_R_STATUS, _R_HPA, _R_GPA = int(Result.STATUS), int(Result.HPA), int(Result.GPA)
_R_GSHIFT, _R_HSHIFT = int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT)
_R_RIGHTS, _R_DIRTY, _R_GLOBAL = int(Result.RIGHTS), int(Result.DIRTY), int(Result.GLOBAL)
_R_ERROR, _R_FAULT_GPA, _R_LEVEL = int(Result.ERROR), int(Result.FAULT_GPA), int(Result.FAULT_LEVEL)
_R_DIMENSION, _R_GREFS = int(Result.FAULT_DIMENSION), int(Result.GUEST_REFERENCES)
_R_HREFS, _R_REFS = int(Result.HOST_REFERENCES), int(Result.REFERENCES)
_R_VECTOR, _R_GVA, _R_GUEST = int(Result.VECTOR), int(Result.GVA), int(Result.GUEST_ENTRY)
_R_HOST, _R_COMBINED, _R_EPT = int(Result.HOST_ENTRY), int(Result.COMBINED), int(Result.EPT_RIGHTS)
_0, _1, _2, _3, _4, _7, _9, _12, _21 = (U(n) for n in (0, 1, 2, 3, 4, 7, 9, 12, 21))
_READ, _ALL = _1, U(15)
_LINEAR_TOP = U(47)
_ONES = U((1 << 17) - 1)
_NOWHERE = U(WORD)
_M_KEY, _M_TABLE = U(Memo.KEY), U(Memo.TABLE)
_M_RIGHTS, _M_TABLE_GPA = U(Memo.RIGHTS), U(Memo.TABLE_GPA)
_MEMO_MASK = U(MEMO_SLOTS - 1)
_HOST_HALF = U(MEMO_SLOTS * 4)
_FULL_DEPTH = U(20)  # EPT references of a 4x4 walk; the guest's are 4
_32 = U(32)
_WHOLE = np.int64(-1)
_PTE_RESERVED, _EPT_PTE_RESERVED = U(PTE.reserved_mask), U(EPT_PTE.reserved_mask)
_LINEAR = U((1 << 48) - 1)
_PAGE_OFFSET, _TABLE_OFFSET = U(0xFFF), U(0xFF8)


@kernel(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64, WORDS))
def recall_host(memory, context, memo, gpa, access, result):
    """Translate `gpa` by the memo, or return all ones when the whole walk must be made.

    Rights and dirty state go into `result`, as :func:`walk_ept` leaves them.
    """
    region = gpa >> _21
    slot = _HOST_HALF + ((region & _MEMO_MASK) << _2)
    if memo[slot + _M_KEY] != (region | context[_C_VERSION] << _32):
        return _NOWHERE
    leaf = memory[(memo[slot + _M_TABLE] + ((gpa >> _9) & _TABLE_OFFSET)) >> _3]
    if leaf & (_EPT_PTE_RESERVED | context[_C_RESERVED]) or leaf & _READ == _0:
        return _NOWHERE
    if _EPT_TYPE_LEGAL[np.int64((leaf >> _EPT_TYPE_SHIFT) & _7)] == 0:
        return _NOWHERE
    rights = memo[slot + _M_RIGHTS] & leaf & _EPT_RIGHTS
    if (_1 << access) & ~rights:
        return _NOWHERE
    dirty = _1
    if context[_C_EPTP] & _EPTP_AD:
        flags = _EPT_A | (_EPT_D if access == _1 else _0)
        if leaf & flags != flags:
            return _NOWHERE
        dirty = _1 if leaf & _EPT_D else _0
    result[_R_RIGHTS] = rights
    result[_R_DIRTY] = dirty
    result[_R_HREFS] = _FULL_DEPTH
    result[_R_HOST] = leaf
    return (leaf & _ADDRESS) | (gpa & _PAGE_OFFSET)


@kernel(types.int64(WORDS, WORDS, WORDS, types.uint64, types.uint64, WORDS))
def recall(memory, context, memo, gva, access, result):
    """Answer a walk from the memo of where page tables lie: two entries are read, all references accounted.

    Returns OK with `result` as :func:`walk` would fill it (but for the list of references), or -1 when the whole
    walk must be made: nothing remembered, a flag to set, a fault. Memos are of 4 KiB pages and full depth only.
    """
    region = (gva & _LINEAR) >> _21
    slot = (region & _MEMO_MASK) << _2
    sign = gva >> _LINEAR_TOP
    if (
        memo[slot + _M_KEY] != (region | context[_C_VERSION] << _32)
        or (sign != _0 and sign != _ONES)
        or access > _2
    ):
        return _WHOLE
    entry = memory[(memo[slot + _M_TABLE] + ((gva >> _9) & _TABLE_OFFSET)) >> _3]
    flags = _P | _A | (_D if access == _1 else _0)
    reserved = _PTE_RESERVED | context[_C_RESERVED] | (_XD if context[_C_NXE] == _0 else _0)
    if entry & flags != flags or entry & reserved:
        return _WHOLE
    upper = memo[slot + _M_RIGHTS]
    combined = (entry & upper & (_RW | _US)) | ((entry | upper) & _XD)
    allowed = guest_rights(context, combined & _US != _0, combined & _RW != _0, combined & _XD != _0, entry)
    if (_1 << access) & ~allowed:
        return _WHOLE
    hpa = gpa = (entry & _ADDRESS) | (gva & _PAGE_OFFSET)
    result[_R_RIGHTS] = _ALL
    result[_R_DIRTY] = _1
    result[_R_HREFS] = _0
    result[_R_HOST] = _0
    if context[_C_EPTP]:
        hpa = recall_host(memory, context, memo, gpa, access, result)
    if hpa >= context[_C_BYTES]:
        return _WHOLE
    result[_R_STATUS] = U(_OK)
    result[_R_HPA] = hpa
    result[_R_GPA] = gpa
    result[_R_GSHIFT] = _12
    result[_R_HSHIFT] = _12
    result[_R_EPT] = result[_R_RIGHTS]
    result[_R_RIGHTS] &= allowed
    result[_R_COMBINED] = combined
    if entry & _D == _0:
        result[_R_DIRTY] = _0
    result[_R_GLOBAL] = _1 if entry & _G and context[_C_PGE] else _0
    result[_R_ERROR] = _0
    result[_R_FAULT_GPA] = _0
    result[_R_LEVEL] = _0
    result[_R_DIMENSION] = _GUEST
    result[_R_GREFS] = _4
    result[_R_VECTOR] = _0
    result[_R_GVA] = gva
    result[_R_GUEST] = entry
    return _OK


@kernel(types.void(WORDS, WORDS, WORDS, types.uint64, WORDS))
def remember(memory, context, memo, gva, result):
    """Enter a successful walk of full depth into the memo: its page tables, and what the entries above allow."""
    two = context[_C_EPTP] != _0
    if result[_R_GREFS] != _4 or result[_R_HREFS] != (_FULL_DEPTH if two else _0) or context[_C_UPDATE] == _0:
        return
    plain = context[_C_MODE] == _4 and context[_C_EPTP] & _LENGTH_5 == _0
    if not plain or context[_C_MBEC] | context[_C_VERIFY] or result[_R_GSHIFT] != _12:
        return
    first, stride = (_R_REFS + 4, 5) if two else (_R_REFS, 1)
    both, either = _RW | _US, _0
    for n in range(3):
        entry = memory[result[first + stride * n] >> _3]
        both &= entry
        either |= entry & _XD
    region = (gva & _LINEAR) >> _21
    slot = (region & _MEMO_MASK) << _2
    memo[slot + _M_KEY] = region | context[_C_VERSION] << _32
    memo[slot + _M_TABLE] = result[first + stride * 3] & ~_PAGE_OFFSET
    memo[slot + _M_RIGHTS] = (both & (_RW | _US)) | either
    memo[slot + _M_TABLE_GPA] = entry & _ADDRESS
    if two:
        rights = _EPT_RIGHTS
        for n in range(20, 23):
            rights &= memory[result[_R_REFS + n] >> _3]
        region = result[_R_GPA] >> _21
        slot = _HOST_HALF + ((region & _MEMO_MASK) << _2)
        memo[slot + _M_KEY] = region | context[_C_VERSION] << _32
        memo[slot + _M_TABLE] = result[_R_REFS + 23] & ~_PAGE_OFFSET
        memo[slot + _M_RIGHTS] = rights


@kernel(types.int64(WORDS, WORDS, WORDS, types.uint64, types.uint64, WORDS))
def walk_with_memo_from(memory, context, memo, gva, access, result):
    """Do what the walk does, by the memo where it can: same result, same flags in memory, same counts."""
    if recall(memory, context, memo, gva, access, result) == _OK:
        return _OK
    status = walk_from(memory, context, gva, access, result)
    if status == _OK:
        remember(memory, context, memo, gva, result)
    return status


@kernel(types.int64(ARRAY, ARRAY, ARRAY, types.uint64, types.uint64, ARRAY))
def walk_with_memo(memory, context, memo, gva, access, result):
    """Do what :func:`walk_with_memo_from` does, for a caller that has arrays."""
    return walk_with_memo_from(pointer(memory), pointer(context), pointer(memo), gva, access, pointer(result))
