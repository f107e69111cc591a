"""Bits that stand where an entry has its address and are none: a KeyID of memory encryption, AMD's C-bit.

Which bits they are belongs to a machine: IA32_TME_ACTIVATE says how many of the highest address bits below MAXPHYADDR
are a KeyID (ISE §TME), CPUID 8000001FH EBX[5:0] which one is the C-bit (APM 2 §7.10.1). Fails with MisuseError for bits
that a layout has no address at.
"""

from collections.abc import Sequence

from quire.arch.layout import Field, Kind, Layout
from quire.errors import MisuseError

__all__ = ["ADDRESS_TOP", "c_bit", "holds_address", "keyid", "likely_c_bit", "parted"]

ADDRESS_TOP = 51  # the highest address bit of an entry
_C_BITS = (47, 51)  # of the processors that there are
_USUAL_BITS = 43  # of an address: machines with more than 8 TiB are rare


def keyid(maxphyaddr: int | None, count: int) -> Field:
    """Return the field of a KeyID of `count` bits on a processor with `maxphyaddr` address bits."""
    if maxphyaddr is None:
        raise MisuseError("A KeyID is the highest bits below MAXPHYADDR: give --maxphyaddr N as well")
    return Field("KeyID", maxphyaddr - count, maxphyaddr - 1, "key of memory encryption; no address bits")


def c_bit(number: int) -> Field:
    """Return the field of the C-bit at bit `number`."""
    return Field("C", number, number, "C-bit: the page is encrypted; no address bit")


def holds_address(layout: Layout) -> bool:
    """Return whether a layout holds a physical address that MAXPHYADDR bounds."""
    return _address(layout) is not None


def _address(layout: Layout) -> Field | None:
    found = [one for one in layout.fields if one.in_place and one.high == ADDRESS_TOP]
    return found[0] if found and layout.width == 64 else None


def parted(layout: Layout, taken: Sequence[Field]) -> tuple[Field, ...]:
    """Return the fields of `layout`, with those of `taken` instead of the address bits where they stand."""
    if not taken:
        return layout.fields
    whole = _address(layout)
    if whole is None:
        raise MisuseError(
            f"{layout.name} holds no physical address, so it has neither KeyID nor C-bit: leave them out"
        )
    pieces, low = [], whole.low
    for one in sorted(taken, key=lambda field: field.low):
        if one.low <= low or one.high > whole.high:
            raise MisuseError(
                f"{one.name} at {one.where} is not above the lowest address bit of {layout.name}, {whole.low}: "
                "give fewer bits"
            )
        pieces += [Field(whole.name, low, one.low - 1, whole.meaning, in_place=True), one]
        low = one.high + 1
    if low <= whole.high:
        above = f"{whole.name}_{whole.high}_{low}"
        pieces.append(Field(above, low, whole.high, "address bits above", Kind.FIELD, in_place=True))
    return tuple(
        sorted((*(one for one in layout.fields if one is not whole), *pieces), key=lambda one: one.low)
    )


def likely_c_bit(address: int) -> int | None:
    """Return the number of the highest bit of `address` if it is likely a C-bit: far above all others."""
    top = address.bit_length() - 1
    return top if top in _C_BITS and not (address ^ 1 << top) >> _USUAL_BITS else None
