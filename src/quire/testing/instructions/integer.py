"""Integer instructions: arithmetic, shifts, multiplication, bits, strings, and what moves and converts (SDM 2)."""

from collections.abc import Iterator

from quire.testing.instructions.variant import STATUS, Needs, Variant, undefined

__all__ = ["INTEGER"]

_SIZES = (1, 2, 4, 8)
_WIDE = (2, 4, 8)
_RAX_RDX, _RDI_RDX = 0xD0, 0x17  # ModRM: r/m is RAX, or memory at RDI; the register is RDX
_CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_NO_OVERFLOW = undefined("AF", "OF")


def _form(size: int, opcode: bytes, rest: bytes, *, prefix: bytes = b"") -> bytes:
    """Return an instruction with the prefixes of an operand of `size` bytes."""
    sized = {1: b"", 2: b"\x66", 4: b"", 8: b""}[size] + prefix + (b"\x48" if size == 8 else b"")
    return sized + opcode + rest


def _opcode(size: int, opcode: int, map_: bytes = b"") -> bytes:
    return map_ + bytes((opcode + (size > 1),))


def _places(kind: str) -> Iterator[tuple[str, int]]:
    """Yield the name of each place of an operand and its ModRM, with a register field of 0."""
    yield f"{kind}", 0xC0
    yield f"{kind} [mem]", 0x07


def _binary() -> Iterator[Variant]:
    for n, name in enumerate(("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")):
        gone = undefined("AF") if name in ("or", "and", "xor") else 0
        for size in _SIZES:
            for place, modrm in _places(f"{name}{8 * size}"):
                yield Variant(place, _form(size, _opcode(size, 8 * n), bytes((modrm | 0x10,))), size, gone)
    for size in _SIZES:
        two = (
            ("test", 0x84, b"", undefined("AF")),
            ("xchg", 0x86, b"", 0),
            ("xadd", 0xC0, b"\x0f", 0),
            ("cmpxchg", 0xB0, b"\x0f", 0),
        )
        for name, opcode, map_, gone in two:
            equal = name == "cmpxchg"  # with RCX or memory, for it compares with RAX
            for place, modrm in _places(f"{name}{8 * size}"):
                rest = bytes((modrm | 0x10 | (equal and modrm == 0xC0),))
                needs = Needs.EQUAL if equal else Needs.NOTHING
                yield Variant(place, _form(size, _opcode(size, opcode, map_), rest), size, gone, needs)


def _unary() -> Iterator[Variant]:
    for name, opcode, digit in (("inc", 0xFE, 0), ("dec", 0xFE, 1), ("not", 0xF6, 2), ("neg", 0xF6, 3)):
        for size in _SIZES:
            for place, modrm in _places(f"{name}{8 * size}"):
                yield Variant(place, _form(size, _opcode(size, opcode), bytes((modrm | digit << 3,))), size)


def _products() -> Iterator[Variant]:
    rest = undefined("SF", "ZF", "AF", "PF")
    for size in _SIZES:
        for name, digit, gone, needs in (
            ("mul", 4, rest, Needs.NOTHING),
            ("imul", 5, rest, Needs.NOTHING),
            ("div", 6, STATUS, Needs.DIVISOR),
            ("idiv", 7, STATUS, Needs.DIVISOR),
        ):
            code = _form(size, _opcode(size, 0xF6), bytes((0xC3 | digit << 3,)))  # by RBX
            yield Variant(f"{name}{8 * size}", code, size, gone, needs)
    for size in _WIDE:
        yield Variant(f"imul{8 * size} r,r", _form(size, b"\x0f\xaf", b"\xc2"), size, rest)
        yield Variant(f"imul{8 * size} r,r,imm8", _form(size, b"\x6b", b"\xc2\x9d"), size, rest)
        wide = b"\xc2\x39\x85" + (b"" if size == 2 else b"\x01\xf0")
        yield Variant(f"imul{8 * size} r,r,imm", _form(size, b"\x69", wide), size, rest)


def _shifts() -> Iterator[Variant]:
    for digit, name in enumerate(("rol", "ror", "rcl", "rcr", "shl", "shr", None, "sar")):
        if name is None:
            continue
        rotates = digit < 4
        for size in _SIZES:
            kept = 0 if rotates else undefined("AF")
            modrm = bytes((0xC0 | digit << 3,))
            word = f"{name}{8 * size}"
            yield Variant(f"{word} 1", _form(size, _opcode(size, 0xD0), modrm), size, kept)
            gone = undefined("OF") | kept
            yield Variant(f"{word} imm", _form(size, _opcode(size, 0xC0), modrm + b"\x05"), size, gone)
            yield Variant(f"{word} cl", _form(size, _opcode(size, 0xD2), modrm), size, gone, Needs.COUNT)
    for name, opcode in (("shld", 0xA4), ("shrd", 0xAC)):
        for size in _WIDE:
            word = f"{name}{8 * size}"
            yield Variant(f"{word} imm", _form(size, bytes((0x0F, opcode)), b"\xd0\x07"), size, _NO_OVERFLOW)
            code = _form(size, bytes((0x0F, opcode + 1)), b"\xd0")
            yield Variant(f"{word} cl", code, size, _NO_OVERFLOW, Needs.COUNT)


def _bits() -> Iterator[Variant]:
    rest = undefined("OF", "SF", "AF", "PF")
    for n, name in enumerate(("bt", "bts", "btr", "btc")):
        for size in _WIDE:
            yield Variant(f"{name}{8 * size}", _form(size, bytes((0x0F, 0xA3 + 8 * n)), b"\xd0"), size, rest)
            code = _form(size, b"\x0f\xba", bytes((0xE0 | n << 3, 0x0B)))
            yield Variant(f"{name}{8 * size} imm", code, size, rest)
    for name, opcode in (("bsf", 0xBC), ("bsr", 0xBD)):
        for size in _WIDE:
            gone = rest | undefined("CF")
            yield Variant(
                f"{name}{8 * size}", _form(size, bytes((0x0F, opcode)), b"\xc2"), size, gone, Needs.NONZERO
            )
    for size in _WIDE:
        yield Variant(f"popcnt{8 * size}", _form(size, b"\x0f\xb8", b"\xc2", prefix=b"\xf3"), size)
    for size in _SIZES:
        code = _form(size, _opcode(size, 0xF0, b"\x0f\x38"), b"\xc2", prefix=b"\xf2")
        yield Variant(f"crc32 {8 * size}", code, size)
    yield Variant("bswap32", b"\x0f\xc8", 4)
    yield Variant("bswap64", b"\x48\x0f\xc8")


def _moves() -> Iterator[Variant]:
    for name, opcode in (("movzx8", 0xB6), ("movzx16", 0xB7), ("movsx8", 0xBE), ("movsx16", 0xBF)):
        for size in _WIDE:
            yield Variant(f"{name} to {8 * size}", _form(size, bytes((0x0F, opcode)), b"\xc2"), size)
    yield Variant("movsxd", b"\x48\x63\xc2")
    for n, condition in enumerate(_CONDITIONS):
        yield Variant(f"set{condition}", bytes((0x0F, 0x90 + n, 0xC0)), 1)
        for size in _WIDE:
            yield Variant(f"cmov{condition}{8 * size}", _form(size, bytes((0x0F, 0x40 + n)), b"\xc2"), size)
    for name, code in (
        ("cbw", "6698"), ("cwde", "98"), ("cdqe", "4898"), ("cwd", "6699"), ("cdq", "99"), ("cqo", "4899"),
        ("lahf", "9f"), ("sahf", "9e"), ("clc", "f8"), ("stc", "f9"), ("cmc", "f5"), ("cmpxchg8b", "0fc70f"),
        ("cmpxchg16b", "480fc70f"), ("lea", "488d44d107"), ("push and pop", "5258"),
    ):  # fmt: skip
        needs = Needs.EQUAL if name.startswith("cmpxchg") else Needs.NOTHING
        yield Variant(name, bytes.fromhex(code), 8, 0, needs)


def _strings() -> Iterator[Variant]:
    for name, opcode in (("movs", 0xA4), ("cmps", 0xA6), ("stos", 0xAA), ("lods", 0xAC), ("scas", 0xAE)):
        for size in _SIZES:
            for word, prefix in (("", b""), ("rep ", b"\xf3"), ("repne ", b"\xf2")):
                if word != "repne " or name in ("cmps", "scas"):
                    code = _form(size, _opcode(size, opcode), b"", prefix=prefix)
                    yield Variant(f"{word}{name}{8 * size}", code, size, 0, Needs.STRING)


INTEGER: tuple[Variant, ...] = (
    *_binary(), *_unary(), *_products(), *_shifts(), *_bits(), *_moves(), *_strings(),
)  # fmt: skip
