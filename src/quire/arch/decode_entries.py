"""Paging-structure entries in words: whether one is there at all, and what a walk would refuse of it by itself.

Of an entry that is not present the processor looks at nothing else (SDM 3A §4.5, SDM 3C §28.3.2), so nothing else is
decoded. What a verdict needs besides the entry, a capability or MAXPHYADDR, the words name.
"""

from collections.abc import Sequence
from typing import Any

import quire.arch.entries
import quire.arch.ept
import quire.arch.legacy
from quire.arch.address_parts import likely_c_bit
from quire.arch.decode_record import decode_by_layout, decoded_field, decoded_record
from quire.arch.ept import EPT_PTE, ept_misconfiguration
from quire.arch.layout import Field, Layout

__all__ = ["ENTRY_LAYOUTS", "decode_entry", "is_present"]


def _layouts(module: Any) -> list[Layout]:
    declared = [getattr(module, name) for name in module.__all__]
    return [one for one in declared if isinstance(one, Layout)]


_GUEST = frozenset((*_layouts(quire.arch.entries), *_layouts(quire.arch.legacy)))
_EPT = frozenset(one for one in _layouts(quire.arch.ept) if EPT_PTE.fields[0] in one.fields)
#: The forms that :func:`decode_entry` knows.
ENTRY_LAYOUTS = _GUEST | _EPT

_RIGHTS = EPT_PTE.mask("R", "W", "X")
_LEAST_WIDTH = 36  # no 64-bit processor of Intel's has fewer address bits, so shorter addresses need no word
_SOFTWARES = "software's own: an address or a swap offset may be kept here, inverted against L1TF"
_SOFTWARES_OF_EPT = "software's own, but for bit 63: KVM keeps what it knows of a page of a device here"
_MISCONFIGURED = {
    "EPT write without read": "it allows writes without reads",
    "EPT reserved bit": "a reserved bit is set",
    "EPT memory type": "its memory type does not exist",
}


def is_present(layout: Layout, value: int) -> bool:
    """Return whether an entry is there: its P bit, of EPT R, W or X. A value that does not fit is there."""
    return bool(value & (_RIGHTS if layout in _EPT else 1)) or value >> layout.width > 0


def decode_entry(
    layout: Layout, value: int, maxphyaddr: int | None, taken: Sequence[Field] = ()
) -> dict[str, Any]:
    """Return what an entry says, with `maxphyaddr` (bits) as far as it is known; `taken` bits are no address."""
    layout.decode(value)  # raises when the value is too wide
    ept = layout in _EPT
    if not is_present(layout, value):
        return _absent(layout, value, _RIGHTS if ept else 1)
    record = decode_by_layout(layout, value, maxphyaddr, taken)
    words = [_refused(layout, value, record)] if ept else []
    if maxphyaddr is None:
        words.append(_width(value & layout.mask("addr") & ~sum(one.mask for one in taken)))
    record["words"] = "; ".join(filter(None, words)) or None
    return record


def _absent(layout: Layout, value: int, presence: int) -> dict[str, Any]:
    """Return the record of an entry whose bits of `presence` are 0: they, and the rest as one ignored range."""
    fields = [decoded_field(layout, one, value) for one in layout.fields if one.mask & presence]
    first, rest = len(fields), value & ~presence
    fields.append(
        {
            "bits": f"{layout.width - 1}:{first}",
            "name": f"ignored_{layout.width - 1}_{first}",
            "value": f"{rest >> first:#x}",
            "set": bool(rest),
            "kind": "ignored",
            "meaning": _SOFTWARES_OF_EPT if presence == _RIGHTS else _SOFTWARES,
            "whole": False,
        }
    )
    words = "not present, the rest is ignored"
    if presence == _RIGHTS:
        words += ", but for suppress_VE (bit 63) where EPT violations may cause #VE"
        if value & EPT_PTE.mask("XU"):
            words += "; with mode-based execute control XU (bit 10) alone makes it present"
    return decoded_record(layout.name, layout.section, value, layout.width, fields, words)


def _refused(layout: Layout, value: int, record: dict[str, Any]) -> str:
    """Say by which rule a present EPT entry is misconfigured (SDM 3C §28.3.3.1), or under which condition."""
    forbidden = value if record["reserved_set"] else 0
    rule = ept_misconfiguration(value, layout, forbidden=forbidden, execute_only=False)
    if rule == "EPT execute-only":
        return (
            "it allows fetches without reads: an EPT misconfiguration, exit 49, unless execute_only "
            "(bit 0) of IA32_VMX_EPT_VPID_CAP (0x48c) is 1"
        )
    return f"EPT misconfiguration, exit 49: {_MISCONFIGURED[rule]} (SDM 3C §28.3.3.1)" if rule else ""


def _width(address: int) -> str:
    """Say on which processors an address is too wide, if there are any."""
    top = address.bit_length() - 1
    if top < _LEAST_WIDTH:
        return ""
    words = f"address bit {top} is 1: reserved where MAXPHYADDR is {top} or less (--maxphyaddr N)"
    return words if likely_c_bit(address) is None else f"{words}; or it is AMD's C-bit (--c-bit {top})"
