"""What of a state the manual defines after an instruction, in aspects that are compared each by itself."""

import struct

from quire.testing.instructions.image import State
from quire.testing.instructions.variant import STATUS, Needs, Variant

__all__ = ["aspects"]

_MXCSR_FLAGS = 0x3F
_FSW_KEPT = 0xB87F  # B, TOP, ES, SF and the exception flags; the condition codes are apart
_CONDITIONS = 0x4500  # C3, C2, C0: C1 says which way a result was rounded, or is undefined
_COMPARISONS = ("fcom", "fucom", "ftst", "fxam", "fprem")


def aspects(variant: Variant, state: State) -> dict[str, int | tuple[int, ...] | bytes]:
    """Return each aspect of `state` by its name."""
    fcw, fsw, tags = struct.unpack_from("<HHB", state.fxsave)
    (mxcsr,) = struct.unpack_from("<I", state.fxsave, 24)
    found: dict[str, int | tuple[int, ...] | bytes] = {
        "registers": state.registers,
        "memory": state.memory,
        "flags": state.rflags & STATUS & ~variant.undefined,
        "xmm": state.fxsave[160:416],
        "mxcsr": mxcsr & _MXCSR_FLAGS,
    }
    if Needs.X87 in variant.needs:
        places = [32 + 16 * n for n in range(8) if tags >> ((fsw >> 11) + n & 7) & 1]
        found["st"] = b"".join(state.fxsave[at : at + 10] for at in places)
        found["x87"] = (fcw, fsw & (_FSW_KEPT & ~0x3F), tags)
        found["x87 exceptions"] = fsw & 0x3F
        if variant.name.startswith(_COMPARISONS):
            found["conditions"] = fsw & _CONDITIONS
    if variant.name == "fstsw":  # what it stores is compared as itself
        found["registers"] = ()
    return found
