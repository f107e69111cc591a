"""What stands for the helpers of PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM, written from SDM 2B §4.1.

The first string is the destination, the second the source; `how` is the immediate, with bit 8 for 64-bit lengths.
"""

import numpy as np

from quire.arch import LOW32, RFLAGS
from quire.cpu.soft.tcg._kernels_raw import load8, load16, load64, store64
from quire.cpu.soft.tcg.offsets import Offset
from quire.kernels import callback, kernel, types

U = np.uint64
_WORD = types.uint64

_CC_SRC, _XMM0 = U(Offset.ENV_CC_SRC), U(Offset.ENV_XMM)
_RAX, _RCX, _RDX = U(0), U(8), U(16)
_CF, _ZF, _SF, _OF = (U(RFLAGS.mask(name)) for name in ("CF", "ZF", "SF", "OF"))
_0, _1, _2, _3, _4, _8, _16, _31, _63 = (U(n) for n in (0, 1, 2, 3, 4, 8, 16, 31, 63))
_WORDS, _SIGNED, _LAST_OR_WIDE, _LONG = U(1), U(2), U(1 << 6), U(1 << 8)
_ANY, _RANGES, _EACH = U(0), U(1), U(2)
_NEGATED, _VALID_ONLY = U(1 << 4), U(1 << 5)
_LOW32, _SIGN8, _SIGN16, _BYTE, _PAIR = U(LOW32), U(0x80), U(0x8000), U(0xFF), U(0xFFFF)


@kernel(_WORD(_WORD, _WORD, _WORD))
def element(string, number, how):
    """Return an element; signed ones are moved up by half of their range, so that they compare as they are."""
    if how & _WORDS:
        value = U(load16(string + (number << _1)))
        return value ^ _SIGN16 if how & _SIGNED else value
    value = U(load8(string + number))
    return value ^ _SIGN8 if how & _SIGNED else value


@kernel(_WORD(_WORD, _WORD))
def count_of(how, length):
    """Return how many elements a length in a register, 32 bits unless the immediate says 64, means: its amount."""
    most = _8 if how & _WORDS else _16
    if how & _LONG:
        amount = _0 - length if length >> _63 else length
    else:
        length &= _LOW32
        amount = (_0 - length) & _LOW32 if length >> _31 else length
    return min(amount, most)


@kernel(_WORD(_WORD, _WORD))
def count_to_zero(string, how):
    """Return how many elements there are before the first that is zero."""
    most = _8 if how & _WORDS else _16
    for number in range(most):
        if (
            load16(string + (U(number) << _1)) if how & _WORDS else np.uint16(load8(string + U(number)))
        ) == 0:
            return U(number)
    return most


@kernel(types.boolean(_WORD, _WORD, _WORD, _WORD, _WORD))
def is_among(first, count, value, how, step):
    """Whether `value` is an element of the first string, or, with a `step` of 2, in one of its ranges."""
    for number in range(_0, count + _1 - step, step):
        low = element(first, U(number), how)
        if low == value if step == _1 else low <= value <= element(first, U(number) + _1, how):
            return True
    return False


@kernel(types.boolean(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD))
def begins_at(first, count, second, valid, at, how):
    """Whether the first string is in the second from `at` on, as far as 128 bits reach."""
    most = _8 if how & _WORDS else _16
    for number in range(min(count, most - at)):
        if at + U(number) >= valid or element(first, U(number), how) != element(second, at + U(number), how):
            return False
    return True


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD, _WORD))
def compare(first, count, second, valid, how):
    """Return IntRes2: a bit for each element of the second string, of which so many are valid."""
    most, mode = _8 if how & _WORDS else _16, (how >> _2) & _3
    found = _0
    for number in range(most):
        at = U(number)
        if mode in (_ANY, _RANGES):
            step = _1 if mode == _ANY else _2
            hit = at < valid and is_among(first, count, element(second, at, how), how, step)
        elif mode == _EACH:
            hit = (at >= valid) == (at >= count) and (
                at >= valid or element(first, at, how) == element(second, at, how)
            )
        else:
            hit = begins_at(first, count, second, valid, at, how)
        found |= _1 << at if hit else _0
    if how & _NEGATED:
        found ^= (_1 << (valid if how & _VALID_ONLY else most)) - _1
    return found


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD))
def compare_for_flags(env, first, count, second, valid, how):
    """Compare, and set the flags."""
    most = _8 if how & _WORDS else _16
    found = compare(first, count, second, valid, how)
    flags = (_CF if found else _0) | (_OF if found & _1 else _0)
    store64(env + _CC_SRC, flags | (_ZF if valid < most else _0) | (_SF if count < most else _0))
    return found


@kernel(types.void(_WORD, _WORD, _WORD))
def give_index(env, found, how):
    """Give RCX the number of the first or last bit that is set."""
    most = _8 if how & _WORDS else _16
    index = most
    for number in range(most):
        if (found >> U(number)) & _1 and (index == most or how & _LAST_OR_WIDE):
            index = U(number)
    store64(env + _RCX, index)


@kernel(types.void(_WORD, _WORD, _WORD))
def give_mask(env, found, how):
    """Give XMM0 the bits, or an element of ones for each."""
    low, high = found, _0
    if how & _LAST_OR_WIDE:
        low = _0
        size, ones = (_4, _PAIR) if how & _WORDS else (_3, _BYTE)
        half = _4 if how & _WORDS else _8
        for number in range(half):
            if (found >> U(number)) & _1:
                low |= ones << (U(number) << size)
            if (found >> (U(number) + half)) & _1:
                high |= ones << (U(number) << size)
    store64(env + _XMM0, low)
    store64(env + _XMM0 + _8, high)


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD))
def with_lengths(env, first, second, how):
    """Compare strings whose lengths are in RAX and RDX."""
    count, valid = count_of(how, load64(env + _RAX)), count_of(how, load64(env + _RDX))
    return compare_for_flags(env, first, count, second, valid, how)


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD))
def with_ends(env, first, second, how):
    """Compare strings that end before a zero."""
    count, valid = count_to_zero(first, how), count_to_zero(second, how)
    return compare_for_flags(env, first, count, second, valid, how)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_pcmpestri(env, first, second, how, operation):
    """helper_pcmpestri_xmm."""
    give_index(env, with_lengths(env, first, second, how), how)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_pcmpestrm(env, first, second, how, operation):
    """helper_pcmpestrm_xmm."""
    give_mask(env, with_lengths(env, first, second, how), how)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_pcmpistri(env, first, second, how, operation):
    """helper_pcmpistri_xmm."""
    give_index(env, with_ends(env, first, second, how), how)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_pcmpistrm(env, first, second, how, operation):
    """helper_pcmpistrm_xmm."""
    give_mask(env, with_ends(env, first, second, how), how)
