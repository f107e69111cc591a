"""What is executed for a helper of the engine's library, as assembly (AT&T's syntax), by the helper's name.

Vector operations have their destination at ``{d}`` and their source at ``{s}``. x87's have two operands of 80 bits at
``{a}`` and ``{b}``, and leave results at ``{r}`` and ``{q}``; ``{w}`` is a word of memory, for numbers of other sizes.
"""

from enum import IntFlag
from typing import NamedTuple

__all__ = [
    "DOT_PRODUCTS",
    "ROUNDING",
    "VECTOR",
    "X87",
    "Status",
    "X87Operation",
    "vector_number",
    "x87_number",
]

_KINDS = ("ps", "pd", "ss", "sd")
_PREDICATES = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord")
_BINARY = (
    *(f"{name}{kind}" for name in ("add", "sub", "mul", "div", "min", "max", "sqrt") for kind in _KINDS),
    *(f"cmp{predicate}{kind}" for predicate in _PREDICATES for kind in _KINDS),
    *(f"{name}{kind}" for name in ("hadd", "hsub", "addsub") for kind in ("ps", "pd")),
    "cvtps2pd", "cvtpd2ps", "cvtss2sd", "cvtsd2ss", "cvtdq2ps", "cvtdq2pd", "cvtps2dq", "cvtpd2dq", "cvttps2dq",
    "cvttpd2dq",
)  # fmt: skip
_BOTH = "movups {d}, %xmm0; movups {s}, %xmm1; "
_FROM_MMX = "movups {d}, %xmm0; movq {s}, %xmm1; "
_STORED = "; movups %xmm0, {d}"
_COMPARED = "; lahf; movzbl %ah, %eax; andl $$0x45, %eax; movq %rax, {d}"
_INTEGERS = {
    f"cvt{how}{kind}2s{size}": f"movups {{s}}, %xmm1; cvt{how}{kind}2si %xmm1, %{register}; movq %rax, {{d}}"
    for how in ("", "t")
    for kind in ("ss", "sd")
    for size, register in (("i", "eax"), ("q", "rax"))
}

#: Rounding to integers: with bits 3:0 of the immediate behind the name.
ROUNDING = ("roundps", "roundpd", "roundss", "roundsd")
#: Dot products of what the immediate has chosen, which is zero elsewhere.
DOT_PRODUCTS = ("dpps", "dppd")

VECTOR: dict[str, str] = {
    **{name: f"{_BOTH}{name} %xmm1, %xmm0{_STORED}" for name in _BINARY},
    **{name: f"movups {{d}}, %xmm0; {name} {{s}}, %xmm0{_COMPARED}"
       for name in ("comiss", "ucomiss", "comisd", "ucomisd")},
    **{f"cvts{size}2s{kind}": f"movups {{d}}, %xmm0; cvtsi2s{kind}{suffix} {{s}}, %xmm0{_STORED}"
       for kind in "sd" for size, suffix in (("i", "l"), ("q", "q"))},
    **_INTEGERS,
    "cvtpi2ps": f"{_FROM_MMX}cvtdq2ps %xmm1, %xmm1; movsd %xmm1, %xmm0{_STORED}",
    "cvtps2pi": "movq {s}, %xmm1; cvtps2dq %xmm1, %xmm0; movq %xmm0, {d}",
    "cvttps2pi": "movq {s}, %xmm1; cvttps2dq %xmm1, %xmm0; movq %xmm0, {d}",
    "cvtpd2pi": "movups {s}, %xmm1; cvtpd2dq %xmm1, %xmm0; movq %xmm0, {d}",
    "cvttpd2pi": "movups {s}, %xmm1; cvttpd2dq %xmm1, %xmm0; movq %xmm0, {d}",
    **{f"{name} {how}": f"{_BOTH}{name} $${how}, %xmm1, %xmm0{_STORED}" for name in ROUNDING for how in range(16)},
    "dpps": f"{_BOTH}mulps %xmm1, %xmm0; haddps %xmm0, %xmm0; haddps %xmm0, %xmm0{_STORED}",
    "dppd": f"{_BOTH}mulpd %xmm1, %xmm0; haddpd %xmm0, %xmm0{_STORED}",
}  # fmt: skip


class Status(IntFlag):
    """Conditions of x87's status word that an operation sets (SDM 1 §8.1.3)."""

    C1 = 1 << 9
    C2 = 1 << 10
    ALL = 1 << 8 | 1 << 9 | 1 << 10 | 1 << 14


class X87Operation(NamedTuple):
    """Code that leaves x87's stack as empty as it was, and conditions that it sets."""

    code: str
    status: Status = Status.C1


_TWO = "fldt {b}; fldt {a}; "
_ONE = "fldt {a}; "
_KEPT = "; fstpt {r}; fstp %st(0)"
_RESULT = "; fstpt {r}"
_RESULTS = "; fstpt {r}; fstpt {q}"
_NONE = "; fstp %st(0); fstp %st(0)"

X87: dict[str, X87Operation] = {
    **{name: X87Operation(f"{_TWO}{name} %st(1), %st{_KEPT}")
       for name in ("fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr")},
    **{name: X87Operation(f"{_TWO}{name} %st(1){_NONE}", Status.ALL) for name in ("fcom", "fucom")},
    **{name: X87Operation(f"{_ONE}{name}{_RESULT}") for name in ("fsqrt", "frndint", "f2xm1")},
    **{name: X87Operation(f"{_ONE}{name}{_RESULT}", Status.C1 | Status.C2) for name in ("fsin", "fcos")},
    **{name: X87Operation(f"{_TWO}{name}{_KEPT}", Status.ALL) for name in ("fprem", "fprem1")},
    "fscale": X87Operation(f"{_TWO}fscale{_KEPT}"),
    **{name: X87Operation(f"{_TWO}{name}{_RESULT}") for name in ("fyl2x", "fyl2xp1", "fpatan")},
    **{name: X87Operation(f"{_ONE}{name}{_RESULTS}", Status.C1 | Status.C2) for name in ("fptan", "fsincos")},
    "fxtract": X87Operation(f"{_ONE}fxtract{_RESULTS}"),
    **{name: X87Operation(f"{name} {{w}}{_RESULT}") for name in ("flds", "fldl")},
    **{name: X87Operation(f"{_ONE}{code} {{w}}")
       for name, code in (("fsts", "fstps"), ("fstl", "fstpl"), ("fist", "fistps"), ("fistl", "fistpl"),
                          ("fistll", "fistpll"), ("fistt", "fisttps"), ("fisttl", "fisttpl"), ("fisttll", "fisttpll"))},
}  # fmt: skip
_VECTOR_NUMBERS = {name: number for number, name in enumerate(VECTOR)}
_X87_NUMBERS = {name: number for number, name in enumerate(X87)}


def vector_number(name: str) -> int:
    """Return the number of a vector operation."""
    return _VECTOR_NUMBERS[name]


def x87_number(name: str, status: Status | None = None) -> int:
    """Return the number of an x87 operation; from bit 16 on the conditions that it sets, `status` if that is given."""
    return _X87_NUMBERS[name] | (X87[name].status if status is None else status) << 16
