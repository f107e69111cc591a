"""What Quire's engine is known to compute otherwise than a processor: declared once, for the suite, tests and the page.

docs/reference/engine.md is this list; ``tests/cpu/test_engine_deviations.py`` fails when one of them is gone. Those
that are repaired show only where the engine's library is not a known one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from signal import Signals

from quire.cpu.soft.tcg.offsets import knows_library
from quire.testing.instructions.variant import Variant

__all__ = ["DEVIATIONS", "EngineDeviation", "explain"]

Aspect = int | tuple[int, ...] | bytes


@dataclass(frozen=True, slots=True)
class EngineDeviation:
    """A known fault of the engine, seen in these `aspects` of what instructions like `patterns` leave.

    `wrong` is what the engine does, `right` what a processor does, `since` the first version of Unicorn known for it.
    `only` says of two results whether the fault explains their difference. `refused` is code that ends a program by
    `signal` on a processor, and goes on here. `repaired`: what is right in the known libraries.
    """

    name: str
    wrong: str
    right: str
    patterns: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    only: Callable[[Aspect, Aspect], bool] | None = None
    refused: tuple[bytes, ...] = ()
    signal: Signals = Signals.SIGSEGV
    repaired: bool = False
    since: str = "2.1.4"

    @property
    def shows(self) -> bool:
        """Whether it shows in this engine."""
        return not (self.repaired and knows_library())

    def concerns(self, variant: Variant, aspect: str) -> bool:
        """Whether `variant` may show the fault in `aspect`."""
        return aspect in self.aspects and any(fnmatchcase(variant.name, pattern) for pattern in self.patterns)


def explain(variant: Variant, aspect: str, guest: Aspect, processor: Aspect) -> str:
    """Return the name of the deviation that explains a difference in `aspect` of what `variant` leaves, or nothing."""
    for one in DEVIATIONS:
        if one.shows and one.concerns(variant, aspect) and (one.only is None or one.only(guest, processor)):
            return one.name
    return ""


def _lanes_apart(guest: Aspect, processor: Aspect, alike: Callable[[int, int, int], bool]) -> bool:
    """Whether all lanes that differ, of four bytes or of eight, are `alike`: which is told their size in bits."""
    assert isinstance(guest, bytes)
    assert isinstance(processor, bytes)
    for size in (4, 8):
        pairs = [
            (
                int.from_bytes(guest[at : at + size], "little"),
                int.from_bytes(processor[at : at + size], "little"),
            )
            for at in range(0, len(guest), size)
        ]
        if all(a == b or alike(a, b, 8 * size) for a, b in pairs):
            return True
    return False


def _nan(number: int, bits: int) -> bool:
    infinity = 0x7F80_0000 if bits == 32 else 0x7FF0 << 48
    return number & (1 << bits - 1) - 1 > infinity


def _nans(guest: Aspect, processor: Aspect) -> bool:
    return _lanes_apart(guest, processor, lambda a, b, bits: _nan(a, bits) and _nan(b, bits))


def _nans_or_zeros(guest: Aspect, processor: Aspect) -> bool:
    def alike(a: int, b: int, bits: int) -> bool:
        return (_nan(a, bits) and _nan(b, bits)) or not (a | b) & (1 << bits - 1) - 1

    return _lanes_apart(guest, processor, alike)


_TRANSCENDENTAL = ("f2xm1", "fpatan", "fyl2x", "fyl2xp1", "fsin", "fcos")

DEVIATIONS = (
    EngineDeviation(
        "N1: SSE sets no exception flag of MXCSR",
        "the flags stay as they are, so that an exception that is not masked does not happen either",
        "IE, DE, ZE, OE, UE and PE are set as the result asks for; one that is not masked is #XM",
        ("*",),
        ("mxcsr",),
        repaired=True,
    ),
    EngineDeviation(
        "N2: SSE ignores FTZ and DAZ of MXCSR",
        "results and operands below the normal numbers keep their value",
        "with FTZ such a result is zero, with DAZ such an operand is",
        ("* flushed",),
        ("xmm",),
        repaired=True,
    ),
    EngineDeviation(
        "N3: of two NaNs the one with the larger significand is the result",
        "the operands' order does not matter, nor that a signalling one is the first",
        "the first operand, made quiet, if it is a NaN, else the second",
        ("*ps", "*pd", "*ss", "*sd"),
        ("xmm",),
        _nans,
        repaired=True,
    ),
    EngineDeviation(
        "N4: DPPS and DPPD add from a zero",
        "a sum of negative zeros is positive, and NaNs are chosen as in N3",
        "products are added in pairs: the sum of two negative zeros is negative",
        ("dpps *", "dppd *"),
        ("xmm",),
        _nans_or_zeros,
        repaired=True,
    ),
    EngineDeviation(
        "N5: comparisons of strings overlook a match that is cut off",
        "PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM in the mode equal ordered want the whole of the second string "
        "before the end of the first",
        "a beginning of the second string at the end of the first is a match",
        ("pcmp?str? 0x*[cdef]",),
        ("registers", "xmm", "flags"),
        repaired=True,
    ),
    EngineDeviation(
        "N6: x87 sets few exception flags",
        "PE is never set, the others by some instructions only",
        "IE, DE, ZE, OE, UE and PE are set as the result asks for",
        ("f*",),
        ("x87 exceptions",),
        repaired=True,
    ),
    EngineDeviation(
        "N7: x87's transcendental functions have double precision",
        "F2XM1, FPATAN, FYL2X, FYL2XP1, FSIN and FCOS give 53 bits; FYL2X of a negative number does not pop",
        "64 bits, with an error below one unit in the last place; the invalid operation pops, too",
        _TRANSCENDENTAL,
        ("st", "x87"),
        repaired=True,
    ),
    EngineDeviation(
        "N8: FPREM and FPREM1 have double precision",
        "remainder and quotient are computed with 53 bits: fmodl(1e30L, 3.7L) is 0",
        "the remainder is exact",
        ("fprem", "fprem1"),
        ("st", "conditions"),
        repaired=True,
    ),
    EngineDeviation(
        "N9: FCOMI and FUCOMI leave OF, SF and AF",
        "the three flags are as before",
        "the three flags are 0",
        ("fcomi", "fucomi"),
        ("flags",),
        repaired=True,
    ),
    EngineDeviation(
        "N10: FISTTP of 32 bits saturates",
        "a number that does not fit becomes the nearest that does",
        "a number that does not fit becomes 0x80000000",
        ("fisttp32",),
        ("memory",),
        repaired=True,
    ),
    EngineDeviation(
        "N11: CMPXCHG of 32 bits writes both registers",
        "the upper half of RAX is cleared on success, that of the destination on failure",
        "the register that gets no new value keeps all of its bits",
        ("cmpxchg32*",),
        ("registers",),
    ),
    EngineDeviation(
        "N12: SSE accesses need no alignment",
        "MOVAPS, MOVNTDQ, PADDB and their like access any address",
        "an operand of 16 bytes at an address that is no multiple of 16 is #GP",
        refused=(
            bytes.fromhex("0f284601"),  # movaps xmm0, [rsi + 1]
            bytes.fromhex("660fe74601"),  # movntdq [rsi + 1], xmm0
            bytes.fromhex("660ffc4601"),  # paddb xmm0, [rsi + 1]
        ),
    ),
    EngineDeviation(
        "N13: an x87 exception that is not masked happens late",
        "the instruction has its masked result, and the exception happens at FWAIT alone",
        "the operands keep their values, and the exception happens at the next instruction that waits, FLD1 for one",
        refused=(bytes.fromhex("66c7067b03 d92e d9e8 d9ee def9 d9e8"),),  # mask all but ZE; 1 / 0; fld1
        signal=Signals.SIGFPE,
    ),
)
