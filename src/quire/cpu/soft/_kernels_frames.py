"""Code that the engine compiled follows its bytes: what a fill does so that every store to a frame with code is seen.

The engine looks for compiled code at a store to a page only until a store has met none, unless the page may be executed
too. So a page that may be stored to and not executed is not in its TLB together with code of that frame, wherever else
the frame is mapped: a fill takes away the one or the other. Executing a frame at several pages needs nothing.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import USER, words
from quire.cpu.soft.frame_cells import (
    CODE,
    EPOCH_SHIFT,
    EPOCHS,
    GIVEN_PAGES,
    INBOX_FRAMES,
    LARGE_BITS,
    PAGE,
    SEVERAL,
    SIGN,
    FrameCell,
)
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.cpu.soft.tcg._kernels_raw import call3, load64, store64
from quire.cpu.soft.tcg.cells import Cell, Near, Record
from quire.kernels import carray, kernel, types
from quire.machine import MOST_VCPUS

U = np.uint64
_WORD = types.uint64

_P_STATE, _P_FRAMES, _N_STATE = int(Pointer.STATE), int(Pointer.FRAMES), len(SoftState)
_STOP, _PASS, _COUNT = int(SoftState.STOP), int(SoftState.PASS_ALIASES), int(SoftState.COUNT)
_S_CODE_ALIAS = U(StopCode.CODE_ALIAS)
_RUNS, _STORES, _EPOCH = int(FrameCell.RUNS), int(FrameCell.STORES), int(FrameCell.EPOCH)
_CPU, _ENGINE = int(FrameCell.CPU), int(FrameCell.ENGINE)
_DROP_PAGE, _DROP_CODE = int(FrameCell.DROP_PAGE), int(FrameCell.DROP_CODE)
_FETCHED, _ALIASED = int(FrameCell.FETCHED), int(FrameCell.ALIASED)
_SHARED, _NUMBER, _INBOXES = int(FrameCell.SHARED), int(FrameCell.NUMBER), int(FrameCell.INBOXES)
_RUNNERS, _WRITERS = int(FrameCell.RUNNERS), int(FrameCell.WRITERS)
_GIVEN, _LARGE = int(FrameCell.GIVEN), U(FrameCell.LARGE)
_CODE, _SEVERAL, _PAGE = U(CODE), U(SEVERAL), U(PAGE)
_SHIFT, _EPOCHS, _MOST_GIVEN = U(EPOCH_SHIFT), U(EPOCHS - 1), U(GIVEN_PAGES)
_INBOX_FRAMES, _INBOX_BYTES = U(INBOX_FRAMES), U(8 * (1 + INBOX_FRAMES))
_0, _1, _3, _6, _12, _21, _30, _63 = (U(n) for n in (0, 1, 3, 6, 12, 21, 30, 63))
_CELLS, _NEAR, _RECORDS = int(SoftState.CELLS), U(8 * Cell.NEAR), U(8 * Cell.RECORDS)
_N_BLOCK, _R_WORDS = U(Near.LAST_BLOCK), U(8 * Record.WORDS)
_R_PC, _R_SIZE = U(8 * Record.PC), U(8 * Record.SIZE)
_LAST_BLOCK, _LAST_SIZE = int(SoftState.LAST_BLOCK), int(SoftState.LAST_BLOCK_SIZE)
_EMITTED, _NONE, _LOW = int(SoftState.EMITTED), U(WORD), U((1 << 48) - 1)
_SIGN = U(SIGN)
_LARGE_MASK, _LARGE_WORDS = U(LARGE_BITS - 1), U(LARGE_BITS // 64)


@kernel(types.boolean(_WORD, _WORD), inline="always")
def is_current(word, epoch):
    """Whether the engine's TLB may still have the page of `word`."""
    return word & _PAGE != _0 and (word >> _SHIFT) & _EPOCHS == epoch


@kernel(_WORD(_WORD, _WORD, _WORD), inline="always")
def with_page(word, page, epoch):
    """Return `word` with `page`, a linear page + 1, beside what the engine's TLB may have."""
    several = is_current(word, epoch) and (word & _SEVERAL != _0 or word & _PAGE != page)
    return (word & _CODE) | epoch << _SHIFT | page | (_SEVERAL if several else _0)


@kernel(types.boolean(USER, _WORD))
def refuse(user, frame):
    """Have the run stop, for everything to be dropped: False.

    But an instruction that runs alone goes on, and everything is dropped after it.
    """
    state, cells = carray(user[_P_STATE], (_N_STATE,), np.uint64), words(user[_P_FRAMES])
    store64(cells[_RUNS] + (frame << _3), _0)
    store64(cells[_STORES] + (frame << _3), _0)
    if state[_PASS]:
        cells[_ALIASED] = _1
        return True
    state[_STOP] = _S_CODE_ALIAS
    return False


@kernel(types.boolean(USER, _WORD))
def drop_pages(user, word):
    """Take the page of a frame's `word` out of the engine's TLB; False: it may have several, or cannot lose one."""
    cells = words(user[_P_FRAMES])
    if not is_current(word, cells[_EPOCH]):
        return True
    if cells[_CPU] == _0 or word & _SEVERAL:
        return False
    address = ((word & _PAGE) - _1) << _12
    call3(cells[_DROP_PAGE], (cells[_CPU], (address ^ _SIGN) - _SIGN, _0))
    return True


@kernel(types.boolean(USER, _WORD))
def is_running(user, page):
    """Whether the block that runs has code of linear page + 1 `page`. Needs CPU."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    start, size = state[_LAST_BLOCK], state[_LAST_SIZE]
    if state[_EMITTED]:
        context = state[_CELLS]
        number = load64(load64(context + _NEAR) + _N_BLOCK)
        if number == _NONE:
            return False
        record = load64(context + _RECORDS) + number * _R_WORDS
        start, size = load64(record + _R_PC), load64(record + _R_SIZE)
    first, last = (start & _LOW) >> _12, ((start + size - _1) & _LOW) >> _12
    return size != _0 and (page == first + _1 or page == last + _1)


@kernel(types.void(USER, _WORD))
def drop_code(user, frame):
    """Drop the code that was compiled from `frame`, without which its bytes may change. Needs CPU."""
    cells = words(user[_P_FRAMES])
    call3(cells[_DROP_CODE], (cells[_ENGINE], frame << _12, (frame + _1) << _12))


@kernel(types.void(USER, _WORD, types.int64, types.int64))
def tell_others(user, frame, told, own):
    """Have the other engines in array `told` drop what they have of `frame` before they run; join array `own`."""
    cells = words(user[_P_FRAMES])
    if cells[_SHARED] == _0:
        return
    me = _1 << cells[_NUMBER]
    at = cells[told] + (frame << _3)
    others = load64(at) & ~me
    if others:
        for number in range(MOST_VCPUS):
            if (others >> U(number)) & _1:
                inbox = cells[_INBOXES] + U(number) * _INBOX_BYTES
                count = load64(inbox) + _1
                if count <= _INBOX_FRAMES:
                    store64(inbox + (count << _3), frame)
                    store64(inbox, count)
                else:
                    store64(inbox, _INBOX_FRAMES + _1)
        store64(at, load64(at) & me)
    at = cells[own] + (frame << _3)
    store64(at, load64(at) | me)


@kernel(types.boolean(USER, _WORD, _WORD))
def may_execute(user, frame, page):
    """Note that code of `frame` may be executed at linear page + 1 `page`; False: the run stops instead."""
    state, cells = carray(user[_P_STATE], (_N_STATE,), np.uint64), words(user[_P_FRAMES])
    runs, stores = cells[_RUNS] + (frame << _3), cells[_STORES] + (frame << _3)
    if not drop_pages(user, load64(stores)) and not refuse(user, frame):
        return False
    store64(stores, _0)
    tell_others(user, frame, _WRITERS, _RUNNERS)
    store64(runs, with_page(load64(runs), page, cells[_EPOCH]) | _CODE)
    if state[_COUNT] and cells[_FETCHED] == _0 and cells[_CPU]:
        cells[_FETCHED] = frame + _1
        drop_code(user, frame)  # it would run whole: the engine counts when it compiles
    return True


@kernel(types.boolean(USER, _WORD, _WORD))
def may_do_both(user, frame, page):
    """Note that linear page + 1 `page` may store to `frame` and execute it; False: the run stops instead."""
    kept = may_execute(user, frame, page)
    if kept:
        tell_others(user, frame, _RUNNERS, _WRITERS)
    return kept


@kernel(types.boolean(USER, _WORD, _WORD))
def may_store(user, frame, page):
    """Note that linear page + 1 `page` may store to `frame` and not execute it; False: the run stops instead.

    A block that changes its own code stops before: what it goes on with would be the old.
    """
    state, cells = carray(user[_P_STATE], (_N_STATE,), np.uint64), words(user[_P_FRAMES])
    runs, stores = cells[_RUNS] + (frame << _3), cells[_STORES] + (frame << _3)
    word = load64(runs)
    if word & _CODE:
        own = state[_PASS] == _0 and is_running(user, word & _PAGE)
        if (own or cells[_CPU] == _0 or not drop_pages(user, word)) and not refuse(user, frame):
            return False
        if cells[_CPU]:
            drop_code(user, frame)
        store64(runs, _0)
    tell_others(user, frame, _RUNNERS, _WRITERS)
    store64(stores, with_page(load64(stores), page, cells[_EPOCH]))
    return True


@kernel(types.boolean(USER, _WORD), inline="always")
def has_code(user, frame):
    """Whether the engine may have code of `frame`."""
    return load64(words(user[_P_FRAMES])[_RUNS] + (frame << _3)) & _CODE != _0


@kernel(types.void(USER, _WORD, _WORD))
def note_given(user, gva, shift):
    """Note what the TLB is given: of a page of 2**`shift` bytes, for which it has an entry each 4 KiB.

    Pages that an instruction is given that runs alone are noted one by one.
    """
    state, cells = carray(user[_P_STATE], (_N_STATE,), np.uint64), words(user[_P_FRAMES])
    if shift > _12:
        huge = shift >= _30
        number = (gva >> (_30 if huge else _21)) & _LARGE_MASK
        at = _LARGE + (number >> _6) + (_LARGE_WORDS if huge else _0)
        cells[at] |= _1 << (number & _63)
    if state[_COUNT]:
        count = cells[_GIVEN]
        cells[_GIVEN] = count + _1
        if count < _MOST_GIVEN:
            cells[U(_GIVEN) + _1 + count] = gva
