"""One instruction in one form: its bytes, what of its results the manual leaves undefined, what operands it needs.

Operands are where every variant has them: the first general one in RAX or at RDI, the second in RDX or at RSI, counts
in RCX; XMM0 and XMM1; ST(0) and ST(1).
"""

from dataclasses import dataclass
from enum import Flag, auto

from quire.arch import RFLAGS

__all__ = ["STATUS", "Needs", "Variant", "undefined"]

#: The status flags.
STATUS = RFLAGS.mask("CF", "PF", "AF", "ZF", "SF", "OF")


class Needs(Flag):
    """What operands must be like for the manual to define the result."""

    NOTHING = 0
    COUNT = auto()  #: CL below the operand's size, and not 0
    ONE = auto()  #: a count of 1, or none in CL
    DIVISOR = auto()  #: a quotient that fits
    NONZERO = auto()  #: RDX other than 0
    STRING = auto()  #: a small RCX, any DF
    FLOAT32 = auto()  #: XMM0 and XMM1 hold singles
    FLOAT64 = auto()  #: they hold doubles
    FLUSHED = auto()  #: MXCSR has FTZ and DAZ
    X87 = auto()  #: ST(0) and ST(1) are loaded
    SMALL = auto()  #: ST(0) between -1 and 1
    EQUAL = auto()  #: RAX equals RCX, or RDX and RAX what is at RDI, half of the time
    LENGTHS = auto()  #: RAX and RDX are lengths of strings


def undefined(*flags: str) -> int:
    """Return the mask of status flags that an instruction leaves undefined."""
    return RFLAGS.mask(*flags)


@dataclass(frozen=True, slots=True)
class Variant:
    """`name` is unique; `size` is that of integer operands in bytes; `undefined` is a mask of RFLAGS."""

    name: str
    code: bytes
    size: int = 8
    undefined: int = 0
    needs: Needs = Needs.NOTHING
