"""Registers as gdb has them: their order, names and sizes, as a description that it reads, and their values.

The standard features of i386:x86-64, and one more for system registers (GDB manual, appendix G).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quire.arch import WORD

__all__ = ["REGISTERS", "Register", "description"]

_GENERAL = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
]
_SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"]
_X87 = ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"]
_SYSTEM = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer"]
_CORE, _SSE, _BASES, _OWN = (
    "org.gnu.gdb.i386.core",
    "org.gnu.gdb.i386.sse",
    "org.gnu.gdb.i386.segments",
    "org.quire.system",
)


@dataclass(frozen=True, slots=True)
class Register:
    """One: its name, its size in bits, gdb's type and the feature that it is of."""

    name: str
    bits: int
    type: str
    feature: str

    def encode(self, value: int) -> bytes:
        """Return `value` in hexadecimal digits, low byte first."""
        return (value & (1 << self.bits) - 1).to_bytes(self.bits // 8, "little").hex().encode()


REGISTERS = (
    *(Register(name, 64, "data_ptr" if name in ("rbp", "rsp") else "int64", _CORE) for name in _GENERAL),
    Register("rip", 64, "code_ptr", _CORE),
    Register("eflags", 32, "int32", _CORE),
    *(Register(name, 32, "int32", _CORE) for name in _SEGMENTS),
    *(Register(f"st{n}", 80, "i387_ext", _CORE) for n in range(8)),
    *(Register(name, 32, "int", _CORE) for name in _X87),
    *(Register(f"xmm{n}", 128, "vec128", _SSE) for n in range(16)),
    Register("mxcsr", 32, "int", _SSE),
    Register("fs_base", 64, "int64", _BASES),
    Register("gs_base", 64, "int64", _BASES),
    *(Register(name, 64, "int64", _OWN) for name in _SYSTEM),
)
_VECTORS = """<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>\
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>\
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>\
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>\
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>\
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>"""


def description() -> bytes:
    """Return the target description."""
    parts = ['<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>']
    parts.append("<architecture>i386:x86-64</architecture>")
    for feature in (_CORE, _SSE, _BASES, _OWN):
        parts.append(f'<feature name="{feature}">')
        parts.append(_VECTORS if feature == _SSE else "")
        for number, one in enumerate(REGISTERS):
            if one.feature == feature:
                parts.append(
                    f'<reg name="{one.name}" bitsize="{one.bits}" type="{one.type}" regnum="{number}"/>'
                )
        parts.append("</feature>")
    parts.append("</target>")
    return "".join(parts).encode()


def fpu_values(image: bytes) -> dict[str, int]:
    """Return x87 and SSE registers from an FXSAVE image (SDM 1 §10.5.1)."""
    found = {f"st{n}": int.from_bytes(image[32 + 16 * n : 42 + 16 * n], "little") for n in range(8)}
    found |= {f"xmm{n}": int.from_bytes(image[160 + 16 * n : 176 + 16 * n], "little") for n in range(16)}
    control, status, tags = image[0] | image[1] << 8, image[2] | image[3] << 8, image[4]
    full = sum(3 << 2 * n for n in range(8) if not tags >> n & 1)
    mxcsr = int.from_bytes(image[24:28], "little")
    return found | {"fctrl": control, "fstat": status, "ftag": full, "mxcsr": mxcsr}


def with_fpu(image: bytes, name: str, value: int) -> bytes | None:
    """Return the FXSAVE image with one register changed, None if it is none of these."""
    places = {f"xmm{n}": (160 + 16 * n, 16) for n in range(16)} | {
        f"st{n}": (32 + 16 * n, 10) for n in range(8)
    }
    places |= {"fctrl": (0, 2), "fstat": (2, 2), "mxcsr": (24, 4)}
    place = places.get(name)
    if place is None:
        return None
    at, size = place
    return image[:at] + (value & (1 << 8 * size) - 1).to_bytes(size, "little") + image[at + size :]


def values_of(read: Callable[[str], int], image: bytes, others: Mapping[str, int]) -> list[int]:
    """Return the value of every register: what `read` knows by name, x87 and SSE of `image`, `others`; 0 else."""
    known = fpu_values(image) | dict(others)
    general = {one.name for one in REGISTERS[:17]} | {"fs_base", "gs_base"}
    return [(read(one.name) if one.name in general else known.get(one.name, 0)) & WORD if one.bits <= 64
            else known.get(one.name, 0) for one in REGISTERS]  # fmt: skip
