"""Operands of instances, drawn from a seeded generator: edges of numbers, and numbers between them."""

import random
import struct

from quire.arch import LOW32, RFLAGS, WORD
from quire.testing.instructions.image import MEMORY_AT, RDI_AT, RECORD_BYTES, State
from quire.testing.instructions.variant import STATUS, Needs, Variant

__all__ = ["operands"]

_EDGES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0x7FFF_FFFF,
    0x8000_0000,
    LOW32,
    1 << 63,
    WORD,
    WORD >> 1,
)
_SINGLES = (
    0,
    1 << 31,
    0x3F800000,
    0xBF800000,
    0x7F800000,
    0xFF800000,
    0x00000001,
    0x007FFFFF,
    0x00800000,
    0x7F7FFFFF,
)
_DOUBLES = (
    0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 1, (1 << 52) - 1, 1 << 52, (0x7FF0 << 48) - 1,
)  # fmt: skip
_NANS = (0x7FC00001, 0xFFC00002, 0x7F800003), (0x7FF80000_00000001, 0xFFF80000_00000002, 0x7FF00000_00000003)
_MXCSR, _FCW, _IF = 0x1F80, 0x37F, RFLAGS.encode(always_1=1, IF=1)
_DF = RFLAGS.mask("DF")
_FLUSH = 0x8040  # FTZ and DAZ
_LOADED = 0x0F  # ST(0) to ST(3), so that a load finds a place
_MEMORY_BYTES = RECORD_BYTES - MEMORY_AT


def operands(variant: Variant, seeded: random.Random) -> State:
    """Return a state for `variant` to begin with, such that the manual defines what it leaves."""
    needs, bits = variant.needs, 8 * variant.size
    rax, rcx, rdx, rbx, rbp, r8 = (_integer(seeded) for _ in range(6))
    flags = seeded.getrandbits(12) & STATUS
    if Needs.COUNT in needs:
        rcx = rcx & ~0xFF | seeded.randrange(1, min(bits, 64))
    if Needs.STRING in needs:
        rcx = seeded.randrange(4)
        flags |= seeded.choice((0, _DF))
    if Needs.NONZERO in needs:
        rdx |= 1 << seeded.randrange(bits)
    if Needs.LENGTHS in needs:
        rax, rdx = seeded.randrange(18), seeded.randrange(18)
    if Needs.DIVISOR in needs:
        rax, rdx, rbx = _division(seeded, bits)
    if Needs.EQUAL in needs and seeded.random() < 0.5:
        rcx = rax ^ seeded.getrandbits(64) & ~((1 << bits) - 1)
    memory = b"".join(_integer(seeded).to_bytes(8, "little") for _ in range(_MEMORY_BYTES // 8))
    if Needs.EQUAL in needs and seeded.random() < 0.5:
        memory = (
            memory[:RDI_AT] + rax.to_bytes(8, "little") + rdx.to_bytes(8, "little") + memory[RDI_AT + 16 :]
        )
    return State(_fxsave(variant, seeded), (rax, rcx, rdx, rbx, rbp, 0, 0, r8), flags | _IF, memory)


def _integer(seeded: random.Random) -> int:
    if seeded.random() < 0.3:
        return seeded.choice(_EDGES)
    return seeded.getrandbits(seeded.choice((8, 16, 32, 64, 64)))


def _division(seeded: random.Random, bits: int) -> tuple[int, int, int]:
    """Return RAX, RDX and RBX of a division whose quotient fits, signed or not."""
    dividend = seeded.getrandbits(seeded.randrange(1, bits - 1))
    divisor = seeded.getrandbits(seeded.randrange(1, bits - 1)) | 1
    above = seeded.getrandbits(64) & ~((1 << bits) - 1)
    if bits == 8:
        return above & ~0xFFFF | dividend, seeded.getrandbits(64), above | divisor
    return above | dividend, above, above | divisor


def _fxsave(variant: Variant, seeded: random.Random) -> bytes:
    image = bytearray(512)
    x87 = Needs.X87 in variant.needs
    mxcsr = _FLUSH if Needs.FLUSHED in variant.needs else 0
    struct.pack_into("<HHBxHQQII", image, 0, _FCW, 0, _LOADED if x87 else 0, 0, 0, 0, _MXCSR | mxcsr, 0xFFFF)
    for n in range(4 if x87 else 0):
        image[32 + 16 * n : 42 + 16 * n] = _extended(seeded, small=n == 0 and Needs.SMALL in variant.needs)
    for n in range(16):
        image[160 + 16 * n : 176 + 16 * n] = _vector(variant.needs, seeded)
    return bytes(image)


def _vector(needs: Needs, seeded: random.Random) -> bytes:
    if needs & (Needs.FLOAT32 | Needs.FLOAT64):
        single = Needs.FLOAT32 in needs
        edges, nans = (_SINGLES, _NANS[0]) if single else (_DOUBLES, _NANS[1])
        count = 4 if single else 2
        return struct.pack(
            "<4I" if single else "<2Q", *(_float(seeded, edges, nans, single) for _ in range(count))
        )
    if seeded.random() < 0.5:  # bytes alike, so that comparisons of text find something
        return bytes(seeded.choice(b"ab\0c") for _ in range(16))
    return seeded.randbytes(16)


def _float(seeded: random.Random, edges: tuple[int, ...], nans: tuple[int, ...], single: bool) -> int:
    how = seeded.random()
    if how < 0.25:
        return seeded.choice(edges)
    if how < 0.3:
        return seeded.choice(nans)
    number = seeded.uniform(-1, 1) * 10.0 ** seeded.randrange(-8, 12)
    packed = struct.pack("<f" if single else "<d", round(number) if how > 0.8 else number)
    return int.from_bytes(packed, "little")


def _extended(seeded: random.Random, *, small: bool) -> bytes:
    """Return a normal number of 80 bits, or zero: exponents near that of 1."""
    exponent = 16383 + (seeded.randrange(-40, 0) if small else seeded.randrange(-20, 40))
    significand = 1 << 63 | seeded.getrandbits(63) & seeded.choice((WORD, WORD << 40, WORD << 60))
    return struct.pack("<QH", significand & WORD, exponent | seeded.getrandbits(1) << 15)
