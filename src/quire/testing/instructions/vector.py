"""SSE to SSE4.2: XMM0 and XMM1, by opcode (SDM 2). Estimates (RCP, RSQRT) are each processor's own, and left out."""

from collections.abc import Iterator

from quire.testing.instructions.variant import Needs, Variant

__all__ = ["VECTOR"]

_REGISTERS = b"\xc1"  # ModRM: XMM0, XMM1
_KINDS = (
    ("ps", b"", Needs.FLOAT32), ("pd", b"\x66", Needs.FLOAT64), ("ss", b"\xf3", Needs.FLOAT32),
    ("sd", b"\xf2", Needs.FLOAT64),
)  # fmt: skip
_ARITHMETIC = {"sqrt": 0x51, "add": 0x58, "mul": 0x59, "sub": 0x5C, "min": 0x5D, "div": 0x5E, "max": 0x5F}
_LOGIC = {"and": 0x54, "andn": 0x55, "or": 0x56, "xor": 0x57, "unpckl": 0x14, "unpckh": 0x15}
_PREDICATES = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord")
#: Conversions: name, bytes before ModRM, what XMM1 holds.
_CONVERSIONS = {
    "cvtps2pd": ("0f5a", 4), "cvtpd2ps": ("660f5a", 8), "cvtss2sd": ("f30f5a", 4), "cvtsd2ss": ("f20f5a", 8),
    "cvtdq2ps": ("0f5b", 0), "cvtps2dq": ("660f5b", 4), "cvttps2dq": ("f30f5b", 4), "cvtpd2dq": ("f20fe6", 8),
    "cvttpd2dq": ("660fe6", 8), "cvtdq2pd": ("f30fe6", 0), "cvtsi2ss32": ("f30f2a", 4), "cvtsi2ss64": ("f3480f2a", 4),
    "cvtsi2sd32": ("f20f2a", 8), "cvtsi2sd64": ("f2480f2a", 8), "cvttss2si32": ("f30f2c", 4),
    "cvttss2si64": ("f3480f2c", 4), "cvttsd2si32": ("f20f2c", 8), "cvttsd2si64": ("f2480f2c", 8),
    "cvtss2si32": ("f30f2d", 4), "cvtss2si64": ("f3480f2d", 4), "cvtsd2si32": ("f20f2d", 8),
    "cvtsd2si64": ("f2480f2d", 8), "ucomiss": ("0f2e", 4), "ucomisd": ("660f2e", 8), "comiss": ("0f2f", 4),
    "comisd": ("660f2f", 8), "movmskps": ("0f50", 4), "movmskpd": ("660f50", 8), "haddps": ("f20f7c", 4),
    "haddpd": ("660f7c", 8), "hsubps": ("f20f7d", 4), "hsubpd": ("660f7d", 8), "addsubps": ("f20fd0", 4),
    "addsubpd": ("660fd0", 8), "movsldup": ("f30f12", 4), "movshdup": ("f30f16", 4), "movddup": ("f20f12", 8),
    "movhlps": ("0f12", 4), "movlhps": ("0f16", 4), "movq": ("f30f7e", 0),
}  # fmt: skip
#: 66 0F xx on integers in XMM0 and XMM1.
_PACKED = {
    0x60: "punpcklbw", 0x61: "punpcklwd", 0x62: "punpckldq", 0x63: "packsswb", 0x64: "pcmpgtb", 0x65: "pcmpgtw",
    0x66: "pcmpgtd", 0x67: "packuswb", 0x68: "punpckhbw", 0x69: "punpckhwd", 0x6A: "punpckhdq", 0x6B: "packssdw",
    0x6C: "punpcklqdq", 0x6D: "punpckhqdq", 0x74: "pcmpeqb", 0x75: "pcmpeqw", 0x76: "pcmpeqd", 0xD1: "psrlw",
    0xD2: "psrld", 0xD3: "psrlq", 0xD4: "paddq", 0xD5: "pmullw", 0xD7: "pmovmskb", 0xD8: "psubusb", 0xD9: "psubusw",
    0xDA: "pminub", 0xDB: "pand", 0xDC: "paddusb", 0xDD: "paddusw", 0xDE: "pmaxub", 0xDF: "pandn", 0xE0: "pavgb",
    0xE1: "psraw", 0xE2: "psrad", 0xE3: "pavgw", 0xE4: "pmulhuw", 0xE5: "pmulhw", 0xE8: "psubsb", 0xE9: "psubsw",
    0xEA: "pminsw", 0xEB: "por", 0xEC: "paddsb", 0xED: "paddsw", 0xEE: "pmaxsw", 0xEF: "pxor", 0xF1: "psllw",
    0xF2: "pslld", 0xF3: "psllq", 0xF4: "pmuludq", 0xF5: "pmaddwd", 0xF6: "psadbw", 0xF8: "psubb", 0xF9: "psubw",
    0xFA: "psubd", 0xFB: "psubq", 0xFC: "paddb", 0xFD: "paddw", 0xFE: "paddd",
}  # fmt: skip
#: 66 0F 38 xx.
_MORE = {
    0x00: "pshufb", 0x01: "phaddw", 0x02: "phaddd", 0x03: "phaddsw", 0x04: "pmaddubsw", 0x05: "phsubw", 0x06: "phsubd",
    0x07: "phsubsw", 0x08: "psignb", 0x09: "psignw", 0x0A: "psignd", 0x0B: "pmulhrsw", 0x10: "pblendvb",
    0x14: "blendvps", 0x15: "blendvpd", 0x17: "ptest", 0x1C: "pabsb", 0x1D: "pabsw", 0x1E: "pabsd", 0x20: "pmovsxbw",
    0x21: "pmovsxbd",
    0x22: "pmovsxbq", 0x23: "pmovsxwd", 0x24: "pmovsxwq", 0x25: "pmovsxdq", 0x28: "pmuldq", 0x29: "pcmpeqq",
    0x2B: "packusdw", 0x30: "pmovzxbw", 0x31: "pmovzxbd", 0x32: "pmovzxbq", 0x33: "pmovzxwd", 0x34: "pmovzxwq",
    0x35: "pmovzxdq", 0x37: "pcmpgtq", 0x38: "pminsb", 0x39: "pminsd", 0x3A: "pminuw", 0x3B: "pminud", 0x3C: "pmaxsb",
    0x3D: "pmaxsd", 0x3E: "pmaxuw", 0x3F: "pmaxud", 0x40: "pmulld", 0x41: "phminposuw",
}  # fmt: skip
#: 66 0F 3A xx, each with an immediate; what XMM1 holds.
_IMMEDIATE = {
    0x08: ("roundps", 4), 0x09: ("roundpd", 8), 0x0A: ("roundss", 4), 0x0B: ("roundsd", 8), 0x0C: ("blendps", 0),
    0x0D: ("blendpd", 0), 0x0E: ("pblendw", 0), 0x0F: ("palignr", 0), 0x14: ("pextrb", 0), 0x15: ("pextrw", 0),
    0x16: ("pextrd", 0), 0x17: ("extractps", 0), 0x20: ("pinsrb", 0), 0x21: ("insertps", 0), 0x22: ("pinsrd", 0),
    0x40: ("dpps", 4), 0x41: ("dppd", 8), 0x42: ("mpsadbw", 0),
}  # fmt: skip
_FLOATS = {0: Needs.NOTHING, 4: Needs.FLOAT32, 8: Needs.FLOAT64}


def _floats() -> Iterator[Variant]:
    for kind, prefix, needs in _KINDS:
        for name, opcode in _ARITHMETIC.items():
            yield Variant(f"{name}{kind}", prefix + bytes((0x0F, opcode)) + _REGISTERS, needs=needs)
        for n, predicate in enumerate(_PREDICATES):
            code = prefix + b"\x0f\xc2" + _REGISTERS + bytes((n,))
            yield Variant(f"cmp{predicate}{kind}", code, needs=needs)
    for name, opcode in _ARITHMETIC.items():
        for kind, prefix, needs in _KINDS[::3]:
            code = prefix + bytes((0x0F, opcode)) + _REGISTERS
            yield Variant(f"{name}{kind} flushed", code, needs=needs | Needs.FLUSHED)
    for kind, prefix, needs in _KINDS[:2]:
        for name, opcode in _LOGIC.items():
            yield Variant(f"{name}{kind}", prefix + bytes((0x0F, opcode)) + _REGISTERS, needs=needs)
        yield Variant(f"shuf{kind}", prefix + b"\x0f\xc6" + _REGISTERS + b"\x1b", needs=needs)
    for name, (text, size) in _CONVERSIONS.items():
        yield Variant(name, bytes.fromhex(text) + _REGISTERS, needs=_FLOATS[size])


def _integers() -> Iterator[Variant]:
    for opcode, name in _PACKED.items():
        yield Variant(name, bytes((0x66, 0x0F, opcode)) + _REGISTERS)
    for opcode, name in _MORE.items():
        yield Variant(name, bytes((0x66, 0x0F, 0x38, opcode)) + _REGISTERS)
    for opcode, (name, size) in _IMMEDIATE.items():
        for immediate in (0x00, 0x03, 0x35):
            code = bytes((0x66, 0x0F, 0x3A, opcode)) + _REGISTERS + bytes((immediate,))
            yield Variant(f"{name} {immediate:#x}", code, needs=_FLOATS[size])
    for name, prefix in (("pshufd", b"\x66"), ("pshuflw", b"\xf2"), ("pshufhw", b"\xf3")):
        yield Variant(name, prefix + b"\x0f\x70" + _REGISTERS + b"\x6c")
    for opcode, digits in ((0x71, (2, 4, 6)), (0x72, (2, 4, 6)), (0x73, (2, 3, 6, 7))):
        for digit in digits:
            code = bytes((0x66, 0x0F, opcode, 0xC0 | digit << 3, 5))
            yield Variant(f"shift {opcode:x} /{digit}", code)
    yield Variant("pinsrw", b"\x66\x0f\xc4" + _REGISTERS + b"\x05")
    yield Variant("pextrw legacy", b"\x66\x0f\xc5" + _REGISTERS + b"\x05")


def _text() -> Iterator[Variant]:
    names = {0x60: "pcmpestrm", 0x61: "pcmpestri", 0x62: "pcmpistrm", 0x63: "pcmpistri"}
    for opcode, name in names.items():
        for immediate in range(1 << 7):
            needs = Needs.LENGTHS if opcode < 0x62 else Needs.NOTHING
            code = bytes((0x66, 0x0F, 0x3A, opcode)) + _REGISTERS + bytes((immediate,))
            yield Variant(f"{name} {immediate:#x}", code, needs=needs)


VECTOR: tuple[Variant, ...] = (*_floats(), *_integers(), *_text())
