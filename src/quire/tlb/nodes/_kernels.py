"""The kernels that count references by node: of data, and of a walk behind its caches."""

import numpy as np

from quire.arch import EPTP, LOW32, PDE, PTE, PagingMode
from quire.kernels import kernel, types
from quire.memory.numa import NODE_GRAIN
from quire.paging._kernels import walk_from
from quire.paging._kernels_ept import WORDS
from quire.paging.context import Context, Result, Status
from quire.tlb.layout import TlbState
from quire.tlb.nodes.line_cache import LINE_SHIFT, WAYS, LineCache
from quire.tlb.nodes.references import NodeCount, NodeCounter
from quire.tlb.walker._kernels import WALKER, account, pass_host, trace
from quire.tlb.walker.path import Path

U = np.uint64
COUNTER = types.NamedTuple((types.CPointer(types.uint8), WORDS, WORDS), NodeCounter)

_GRAIN = U(NODE_GRAIN.bit_length() - 1)
_COLUMNS = U(len(NodeCount))
_GUEST, _HOST, _DATA = U(NodeCount.GUEST_TABLE), U(NodeCount.HOST_TABLE), U(NodeCount.DATA)
_P, _PS = U(PTE.mask("P")), U(PDE.mask("PS"))
_LENGTH = U(EPTP.shift("walk_length"))
_LENGTH_MASK = U(EPTP.mask("walk_length") >> EPTP.shift("walk_length"))
_C_EPTP, _C_MODE = int(Context.EPTP), int(Context.MODE)
_R_GREFS, _R_HREFS = int(Result.GUEST_REFERENCES), int(Result.HOST_REFERENCES)
_R_REFS = int(Result.REFERENCES)
_WALK_CACHES = int(TlbState.WALK_CACHES)
_STARTED, _MADE = int(Path.STARTED), U(Path.MADE)
_OK, _PAGE_FAULT = np.int64(Status.OK), np.int64(Status.PAGE_FAULT)
_MODE_4 = U(PagingMode.LEVEL_4)
_SETS, _CLOCK, _TAGS = int(LineCache.SETS), int(LineCache.CLOCK), U(LineCache.TAGS)
_LINE, _WAYS = U(LINE_SHIFT), U(WAYS)
_0, _1, _2, _3, _9, _12, _32 = (U(n) for n in (0, 1, 2, 3, 9, 12, 32))
_LOW_32 = U(LOW32)


@kernel(types.boolean(WORDS, types.uint64))
def reaches_memory(lines, hpa):
    """Look the line of `hpa` up in the cache, which learns it; return whether memory has to serve it."""
    sets = lines[_SETS]
    if sets == _0:
        return True
    line = (hpa >> _LINE) + _1
    lines[_CLOCK] += _1
    start = _TAGS + (line % sets) * _WAYS
    stamps = sets * _WAYS
    oldest = start
    for way in range(start, start + _WAYS):
        if lines[way] == line:
            lines[way + stamps] = lines[_CLOCK]
            return False
        if lines[way + stamps] < lines[oldest + stamps]:
            oldest = way
    lines[oldest] = line
    lines[oldest + stamps] = lines[_CLOCK]
    return True


@kernel(types.void(COUNTER, types.uint64, types.uint64))
def note(counter, hpa, kind):
    """Count one reference of `kind` to `hpa`, which lies within host memory."""
    at = U(counter.nodes[hpa >> _GRAIN]) * _2 * _COLUMNS + kind
    counter.counts[at] += _1
    if reaches_memory(counter.lines, hpa):
        counter.counts[at + _COLUMNS] += _1


@kernel(types.void(COUNTER, types.uint64))
def note_data(counter, hpa):
    """Count one data access."""
    note(counter, hpa, _DATA)


@kernel(types.void(WALKER, types.uint64, types.boolean, COUNTER))
def note_walk(walker, total, cached, counter):
    """Count the references of a walk that listed `total` of them; with `cached`, those that `path` says were made.

    The list is, for each guest entry, the EPT entries that translate its address, and then the entry; at the end those
    of the page. What caches leave of each of these walks is its last part; of a table above the one that the walk
    started at, nothing: there `path` has what an earlier walk left.
    """
    memory, context, result, path = walker.memory, walker.context, walker.result, walker.path
    two = context[_C_EPTP] != _0
    host_levels = ((context[_C_EPTP] >> _LENGTH) & _LENGTH_MASK) + _1
    at, end = U(_R_REFS), U(_R_REFS) + total
    level, ended = context[_C_MODE], False
    while at < end:
        if two:
            count = min(host_levels - (pass_host(memory, result, at, host_levels) - _12) // _9, end - at)
            made = count
            if cached:
                spared = not ended and level > path[_STARTED]
                made = _0 if spared else min(path[_MADE + (_0 if ended else level)], count)
            for n in range(at + count - made, at + count):
                note(counter, result[n], _HOST)
            at += count
        if ended or at >= end:
            return
        if not cached or level <= path[_STARTED]:
            note(counter, result[at], _GUEST)
        entry = memory[result[at] >> _3]
        at += _1
        ended = level == _1 or entry & _P == _0 or (level <= _3 and entry & _PS != _0)
        level -= _1


@kernel(types.int64(WALKER, types.uint64, types.uint64, types.boolean, COUNTER))
def walk_noting_nodes(walker, gva, access, caches, counter):
    """Do what `walk_behind_caches` does, or without `caches` the walk, and count each reference that is made."""
    memory, context, result, path = walker.memory, walker.context, walker.result, walker.path
    status = walk_from(memory, context, gva, access, result)
    total = result[_R_GREFS] + result[_R_HREFS]
    cached = caches and walker.state[_WALK_CACHES] != _0 and context[_C_MODE] >= _MODE_4
    cached = cached and status in (_OK, _PAGE_FAULT)
    references = _0
    if cached:
        trace(memory, context, result, path)
        references = account(walker.entries, walker.state, walker.shapes, path, gva)
    note_walk(walker, total, cached, counter)
    if cached:
        result[_R_GREFS] = references & _LOW_32
        result[_R_HREFS] = references >> _32
    return status
