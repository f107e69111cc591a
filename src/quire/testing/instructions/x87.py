"""x87 instructions on ST(0) and ST(1), and loads and stores of memory at RSI and RDI (SDM 2)."""

from quire.testing.instructions.variant import Needs, Variant

__all__ = ["X87"]

_CODES = {
    "fadd": "d8c1", "fmul": "d8c9", "fcom": "d8d1", "fcomp": "d8d9", "fsub": "d8e1", "fsubr": "d8e9", "fdiv": "d8f1",
    "fdivr": "d8f9", "fadd st1": "dcc1", "fmul st1": "dcc9", "fsubr st1": "dce1", "fsub st1": "dce9",
    "fdivr st1": "dcf1", "fdiv st1": "dcf9", "faddp": "dec1", "fmulp": "dec9", "fcompp": "ded9", "fsubrp": "dee1",
    "fsubp": "dee9", "fdivrp": "def1", "fdivp": "def9", "fchs": "d9e0", "fabs": "d9e1", "ftst": "d9e4", "fxam": "d9e5",
    "fld1": "d9e8", "fldl2t": "d9e9", "fldl2e": "d9ea", "fldpi": "d9eb", "fldlg2": "d9ec", "fldln2": "d9ed",
    "fldz": "d9ee", "fxtract": "d9f4", "fprem": "d9f8", "fprem1": "d9f5", "fsqrt": "d9fa", "frndint": "d9fc",
    "fscale": "d9fd", "fyl2x": "d9f1", "fpatan": "d9f3", "fsin": "d9fe", "fcos": "d9ff", "fucom": "dde1",
    "fucomi": "dbe9", "fcomi": "dbf1", "fucompp": "dae9", "fxch": "d9c9", "fld st1": "d9c1", "fstp st1": "ddd9",
    "fcmovb": "dac1", "fcmove": "dac9", "fcmovbe": "dad1", "fcmovu": "dad9", "fild16": "df06", "fild32": "db06",
    "fild64": "df2e", "fld32": "d906", "fld64": "dd06", "fld80": "db2e", "fbld": "df26", "fistp16": "df1f",
    "fistp32": "db1f", "fistp64": "df3f", "fisttp16": "df0f", "fisttp32": "db0f", "fisttp64": "dd0f", "fstp32": "d91f",
    "fstp64": "dd1f", "fstp80": "db3f", "fdecstp": "d9f6", "fincstp": "d9f7", "fstsw": "9bdfe0",
}  # fmt: skip
_SMALL = {"f2xm1": "d9f0", "fyl2xp1": "d9f9"}

X87: tuple[Variant, ...] = (
    *(Variant(name, bytes.fromhex(code), needs=Needs.X87) for name, code in _CODES.items()),
    *(Variant(name, bytes.fromhex(code), needs=Needs.X87 | Needs.SMALL) for name, code in _SMALL.items()),
)
