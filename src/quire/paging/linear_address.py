"""What a processor does to a linear address before it reads a table: LAM takes metadata out, LASS parts the halves.

Written from the Instruction Set Extensions reference (ISE §LAM and ISE §LASS). Both look at bit 63 of the address, not
at tables; LAM is for data accesses alone. An address without metadata passes unchanged.
"""

from quire.arch import CR3, Access, PagingMode
from quire.paging.context import Context

__all__ = ["lass_forbids", "masked_address"]

_SIGN = 1 << 63


def masked_address(state: list[int], gva: int, access: Access) -> int:
    """Return `gva` without the metadata that LAM lets it carry; `state` is a context as integers.

    ISE §LAM: of a user pointer (bit 63 = 0) CR3's LAM_U57 frees bits 62:57, else LAM_U48 bits 62:48; of a supervisor
    pointer CR4.LAM_SUP frees bits 62:57 with 5-level paging, 62:48 with 4-level paging. Bit 63 must equal the highest
    bit that is left, or the address stays as it is and is not canonical.
    """
    if state[Context.MODE] < PagingMode.LEVEL_4 or access is Access.FETCH:
        return gva
    top = _highest(state, gva)
    if top is None or bool(gva & _SIGN) != bool(gva >> top & 1):
        return gva
    metadata = _SIGN - (1 << (top + 1))
    return gva | metadata if gva & _SIGN else gva & ~metadata


def _highest(state: list[int], gva: int) -> int | None:
    """Return the number of the highest address bit that is not metadata, None without LAM."""
    if gva & _SIGN:
        five = state[Context.MODE] == PagingMode.LEVEL_5
        return (56 if five else 47) if state[Context.LAM_SUP] else None
    if CR3.get(state[Context.CR3], "LAM_U57"):
        return 56
    return 47 if CR3.get(state[Context.CR3], "LAM_U48") else None


def lass_forbids(state: list[int], gva: int, access: Access) -> bool:
    """Return whether linear-address-space separation refuses an access before any table is read (ISE §LASS).

    A user access to the upper half; a supervisor fetch from the lower half; a supervisor data access to it where SMAP
    would bind: CR4.SMAP = 1, and RFLAGS.AC = 0 or the access is implicit.
    """
    if not state[Context.LASS] or state[Context.MODE] < PagingMode.LEVEL_4:
        return False
    upper = bool(gva & _SIGN)
    if state[Context.USER] and not state[Context.IMPLICIT]:
        return upper
    if upper:
        return False
    binds = state[Context.SMAP] and (state[Context.IMPLICIT] or not state[Context.AC])
    return access is Access.FETCH or bool(binds)
