"""Compiled walk caches: the path of a walk, the references that its caches leave, the TLB entry that it makes.

The slow twin of :func:`account` is ``reference.py``.
"""

import numpy as np

from quire.arch import EPT_PTE, EPTP, LOW32, PDE, PDE_2M, PTE, MemoryType, PagingMode
from quire.kernels import kernel, types
from quire.paging._kernels import walk_from
from quire.paging._kernels_ept import WORDS
from quire.paging._kernels_memo import recall, remember
from quire.paging.context import MEMO_SLOTS, Context, Memo, Result, Status
from quire.tlb._kernels import SHAPES, insert_absent, make_tag, probe
from quire.tlb.layout import KINDS, SIZES, TRANSLATION, Kind, Shape, Shapes, TlbState
from quire.tlb.walker.path import Path
from quire.tlb.walker.walker import Walker

U = np.uint64
WALKER = types.NamedTuple((WORDS, WORDS, WORDS, WORDS, WORDS, WORDS, SHAPES, WORDS), Walker)

_C_CR3, _C_EPTP, _C_MODE = int(Context.CR3), int(Context.EPTP), int(Context.MODE)
_R_STATUS, _R_HPA, _R_GPA = int(Result.STATUS), int(Result.HPA), int(Result.GPA)
_R_GSHIFT, _R_HSHIFT, _R_DIRTY = int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT), int(Result.DIRTY)
_R_GLOBAL = int(Result.GLOBAL)
_R_GREFS, _R_HREFS = int(Result.GUEST_REFERENCES), int(Result.HOST_REFERENCES)
_R_REFS = int(Result.REFERENCES)
_R_GUEST, _R_HOST = int(Result.GUEST_ENTRY), int(Result.HOST_ENTRY)
_R_COMBINED, _R_EPT = int(Result.COMBINED), int(Result.EPT_RIGHTS)
_CLOCK, _SPACE, _EPT_SPACE = int(TlbState.CLOCK), int(TlbState.SPACE), int(TlbState.EPT_SPACE)
_WALK_CACHES, _WALK_HITS = int(TlbState.WALK_CACHES), int(TlbState.WALK_HITS)
_NESTED, _BY_GPA = int(TlbState.KINDS_NESTED), int(TlbState.TABLES_BY_GPA)
_LEVELS, _LEAF, _HOST_LEVELS = int(Path.LEVELS), int(Path.LEAF), int(Path.HOST_LEVELS)
_GPA, _HSHIFT = int(Path.GPA), int(Path.HOST_SHIFT)
_TABLE_GPA, _TABLE_SHIFT = int(Path.TABLE_GPA), int(Path.TABLE_SHIFT)
_TABLE_HPA = int(Path.TABLE_HPA)
_STARTED, _MADE = int(Path.STARTED), int(Path.MADE)
_ROW, _ROWS, _HOLDERS = np.int64(len(Shape)), np.int64(Shapes.ROWS), np.int64(Shapes.WALK_HOLDERS)
_OK, _PAGE_FAULT = np.int64(Status.OK), np.int64(Status.PAGE_FAULT)
_MODE_4 = U(PagingMode.LEVEL_4)
_PDE, _PAGE_KINDS, _KINDS = np.int64(Kind.PDE), np.int64(SIZES), np.int64(KINDS)
_ADDRESS, _PS = U(PTE.mask("addr")), U(PDE.mask("PS"))
_LENGTH, _LENGTH_MASK = U(EPTP.shift("walk_length")), U(7)
_P = U(PTE.mask("P"))
_RW_AT, _US_AT, _XD_AT, _KEY_AT = (U(PTE.shift(name)) for name in ("RW", "US", "XD", "pkey"))
_PWT_AT, _PAT_4K_AT, _PAT_LARGE_AT = U(PTE.shift("PWT")), U(PTE.shift("PAT")), U(PDE_2M.shift("PAT"))
_EPT_TYPE_AT, _IPAT_AT = U(EPT_PTE.shift("MT")), U(EPT_PTE.shift("IPAT"))
_T_US, _T_XD, _T_DIRTY, _T_G, _T_EPT, _T_SIZE, _T_IPAT, _T_PAT, _T_TYPE, _T_KEY = (
    U(TRANSLATION.shift(name))
    for name in ("US", "XD", "dirty", "G", "ept_rights", "walk_size", "IPAT", "pat", "ept_type", "pkey")
)
_WB = U(MemoryType.WB)
_M_TABLE, _M_TABLE_GPA = U(Memo.TABLE), U(Memo.TABLE_GPA)
_LINEAR, _MEMO_MASK = U((1 << 48) - 1), U(MEMO_SLOTS - 1)
_0, _1, _2, _3, _4, _7, _9, _12, _15, _21, _30, _32 = (
    U(n) for n in (0, 1, 2, 3, 4, 7, 9, 12, 15, 21, 30, 32)
)
_OFFSET = U(0xFFF)
_LOW_32 = U(LOW32)
_I0, _I1, _I2, _I4 = (np.int64(n) for n in (0, 1, 2, 4))


@kernel(types.uint64(types.uint64), forceinline=True)
def size_of_shift(shift):
    """Return 0, 1 or 2 for the page of ``1 << shift`` bytes; a 4 MiB page is two of 2 MiB."""
    return _0 if shift < _21 else (_1 if shift < _30 else _2)


@kernel(types.uint64(WORDS))
def translation(result):
    """Return the TRANSLATION that a successful walk makes; its page is the smaller of both dimensions'."""
    shift = min(result[_R_GSHIFT], result[_R_HSHIFT])
    guest, host, combined = result[_R_GUEST], result[_R_HOST], result[_R_COMBINED]
    size = size_of_shift(result[_R_GSHIFT])
    pat = ((guest >> _PWT_AT) & _3) | (((guest >> (_PAT_LARGE_AT if size else _PAT_4K_AT)) & _1) << _2)
    kind = (host >> _EPT_TYPE_AT) & _7 if host else _WB
    return (
        ((result[_R_HPA] >> shift) << shift)
        | ((combined >> _RW_AT) & _1)
        | (((combined >> _US_AT) & _1) << _T_US)
        | ((combined >> _XD_AT) << _T_XD)
        | (result[_R_DIRTY] << _T_DIRTY)
        | (result[_R_GLOBAL] << _T_G)
        | ((result[_R_EPT] & _15) << _T_EPT)
        | (size << _T_SIZE)
        | (((host >> _IPAT_AT) & _1) << _T_IPAT)
        | (pat << _T_PAT)
        | (kind << _T_TYPE)
        | (((guest >> _KEY_AT) & _15) << _T_KEY)
    )


@kernel(types.int64(SHAPES, types.int64, types.int64), forceinline=True)
def walk_holder(shapes, dimension, kind):
    """Return the row of the walk cache for entries of `kind`, linear (0) or guest-physical (1), or -1."""
    number = shapes[_HOLDERS + dimension * _KINDS + kind]
    return number * _ROW + _ROWS if number >= 0 else number


@kernel(types.boolean(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64, types.uint64))
def used(entries, state, shapes, dimension, kind, address, space):
    """Whether the walk cache for entries of `kind` holds that of `address`, which is then used last."""
    row = walk_holder(shapes, dimension, kind)
    state[_CLOCK] += _1
    if row < 0 or probe(entries, state, shapes, row, make_tag(address, U(kind), space)) < 0:
        return False
    state[_WALK_HITS + dimension * _KINDS + kind] += _1
    return True


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64, types.uint64, types.uint64))
def learn(entries, state, shapes, dimension, kind, address, space, value):
    """Put the entry of `kind` for `address`, which the walk cache for such does not hold, into it."""
    row = walk_holder(shapes, dimension, kind)
    state[_CLOCK] += _1
    if row >= 0:
        insert_absent(entries, state, shapes, row, make_tag(address, U(kind), space), value)


@kernel(types.uint64(WORDS, WORDS, SHAPES, types.uint64, types.uint64, types.uint64))
def account_host(entries, state, shapes, gpa, shift, levels):
    """Return the references to EPT that translating `gpa` takes, behind its caches; they learn what it uses."""
    space = state[_EPT_SPACE]
    size = np.int64(size_of_shift(shift))
    for kind in range(_PAGE_KINDS):
        if (state[_NESTED] >> U(kind)) & _1 == _0:
            state[_CLOCK] += _1
        elif used(entries, state, shapes, _I1, np.int64(kind), gpa, space):
            return _0
    leaf, level = size + _I1, np.int64(levels)
    for cached in range(leaf + _I1, np.int64(levels) + _I1):
        if used(entries, state, shapes, _I1, _PDE + np.int64(cached) - _I2, gpa, space):
            level = np.int64(cached) - _I1
            break
    references = U(level - leaf + _I1)
    while level > leaf:
        learn(entries, state, shapes, _I1, _PDE + level - _I2, gpa, space, _0)
        level -= _I1
    state[_NESTED] |= (_1 << U(size)) if walk_holder(shapes, _I1, size) >= 0 else _0
    learn(entries, state, shapes, _I1, size, gpa, space, _0)
    return references


@kernel(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.int64, types.int64))
def reach(entries, state, shapes, gva, levels, leaf):
    """Return the level of the first guest entry that a walk down to `leaf` reads behind the linear caches."""
    for cached in range(leaf + _I1, levels + _I1):
        if used(entries, state, shapes, _I0, _PDE + np.int64(cached) - _I2, gva, state[_SPACE]):
            return np.int64(cached) - _I1
    return levels


@kernel(types.uint64(WORDS, WORDS, SHAPES, WORDS, types.uint64, types.int64))
def account_from(entries, state, shapes, path, gva, level):
    """Do what :func:`account` does, for a walk that begins at `level`, as :func:`reach` said."""
    space, two = state[_SPACE], state[_EPT_SPACE] != _0
    leaf = np.int64(path[_LEAF])
    reached = level < np.int64(path[_LEVELS]) and state[_BY_GPA] == _0
    of_guest, of_host = U(level - leaf + _I1), _0
    path[_STARTED] = U(level)
    while True:
        made = _0
        if two and not reached:
            made = account_host(
                entries,
                state,
                shapes,
                path[_TABLE_GPA + level],
                path[_TABLE_SHIFT + level],
                path[_HOST_LEVELS],
            )
        path[_MADE + level] = made
        of_host += made
        reached = False
        if level == leaf:
            break
        kind = _PDE + level - _I2
        level -= _I1
        learn(entries, state, shapes, _I0, kind, gva, space, path[_TABLE_HPA + level])
    made = _0
    if two and path[_HSHIFT]:
        made = account_host(entries, state, shapes, path[_GPA], path[_HSHIFT], path[_HOST_LEVELS])
    path[_MADE] = made
    of_host += made
    return of_guest | of_host << _32


@kernel(types.uint64(WORDS, WORDS, SHAPES, WORDS, types.uint64))
def account(entries, state, shapes, path, gva):
    """Return the references that the walk of `path` takes behind its caches: guest's, EPT's << 32; they learn it."""
    level = reach(entries, state, shapes, gva, np.int64(path[_LEVELS]), np.int64(path[_LEAF]))
    return account_from(entries, state, shapes, path, gva, level)


@kernel(types.uint64(WORDS, WORDS, types.uint64, types.uint64))
def pass_host(memory, result, at, levels):
    """Return log2 of the EPT page whose entries are listed in `result` from `at` on; it took one entry a level."""
    level = levels
    while level > _1 and not (level <= _3 and memory[result[at] >> _3] & _PS):
        level -= _1
        at += _1
    return _12 + (level - _1) * _9


@kernel(types.void(WORDS, WORDS, WORDS, WORDS))
def trace(memory, context, result, path):
    """Write the path of a whole walk, in 4- or 5-level paging, that ended well or in a guest's table."""
    levels = context[_C_MODE]
    host_levels = ((context[_C_EPTP] >> _LENGTH) & _LENGTH_MASK) + _1
    at, end = U(_R_REFS), U(_R_REFS) + result[_R_GREFS] + result[_R_HREFS]
    table, level = context[_C_CR3] & _ADDRESS, levels
    while True:
        path[U(_TABLE_GPA) + level] = table
        if context[_C_EPTP]:
            shift = pass_host(memory, result, at, host_levels)
            path[U(_TABLE_SHIFT) + level] = shift
            at += host_levels - (shift - _12) // _9
        path[U(_TABLE_HPA) + level] = result[at] & ~_OFFSET
        entry = memory[result[at] >> _3]
        at += _1
        if level == _1 or at == end or entry & _P == _0 or (level <= _3 and entry & _PS):
            break
        table = entry & _ADDRESS
        level -= _1
    path[_LEVELS], path[_LEAF], path[_HOST_LEVELS] = levels, level, host_levels
    path[_GPA] = result[_R_GPA]
    path[_HSHIFT] = result[_R_HSHIFT] if result[_R_STATUS] == U(_OK) else _0


@kernel(types.void(WORDS, WORDS, types.uint64, WORDS))
def trace_memo(memo, path, gva, result):
    """Write the path of a walk that the memo answered, as far as a PDE or PDPTE cache leaves any."""
    slot = (((gva & _LINEAR) >> _21) & _MEMO_MASK) << _2
    path[_LEVELS], path[_LEAF], path[_HOST_LEVELS] = _4, _1, _4
    path[_GPA], path[_HSHIFT] = result[_R_GPA], _12
    path[_TABLE_GPA + 1], path[_TABLE_SHIFT + 1] = memo[slot + _M_TABLE_GPA], _12
    path[_TABLE_HPA + 1] = memo[slot + _M_TABLE]
    path[_TABLE_HPA + 2] = _0


@kernel(types.int64(WALKER, types.uint64, types.uint64))
def walk_behind_caches(walker, gva, access):
    """Walk, and put the references that the walk caches left into `result`; return the status.

    By the memo where it can be: then no list of references is in `result`.
    """
    memory, context, memo, result, path = (
        walker.memory,
        walker.context,
        walker.memo,
        walker.result,
        walker.path,
    )
    entries, state, shapes = walker.entries, walker.state, walker.shapes
    caches = state[_WALK_CACHES] != _0
    status = recall(memory, context, memo, gva, access, result)
    if status == _OK:
        if not caches:
            return status
        level = reach(entries, state, shapes, gva, _I4, _I1)  # the memo has whole walks of four levels alone
        if level <= _I2:
            trace_memo(memo, path, gva, result)
        else:
            walk_from(memory, context, gva, access, result)
            trace(memory, context, result, path)
    else:
        status = walk_from(memory, context, gva, access, result)
        if status == _OK:
            remember(memory, context, memo, gva, result)
        if not caches or (status != _OK and status != _PAGE_FAULT) or context[_C_MODE] < _MODE_4:
            return status
        trace(memory, context, result, path)
        level = reach(entries, state, shapes, gva, np.int64(path[_LEVELS]), np.int64(path[_LEAF]))
    references = account_from(entries, state, shapes, path, gva, level)
    result[_R_GREFS] = references & _LOW_32
    result[_R_HREFS] = references >> _32
    return status
