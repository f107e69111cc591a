"""A decoded value as a plain record: title, section, value, words, and each field with its place and meaning.

What must be 0 and is not is in ``reserved_set``, what is 1 by default and is not in ``default1_clear``. Fails with
MisuseError for a value wider than its layout.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from quire.arch.address_parts import ADDRESS_TOP, holds_address, parted
from quire.arch.apic import DeliveryMode, Shorthand
from quire.arch.entries import physical_reserved
from quire.arch.exits import ExitReason, InterruptionType
from quire.arch.layout import Field, Kind, Layout
from quire.arch.memory_types import MemoryType
from quire.arch.vmcs import VmcsType, VmcsWidth

__all__ = ["beyond_width", "decode_by_layout", "decoded_field", "decoded_record"]

#: Fields whose values have names, by layout or by None for any.
_NAMES: dict[tuple[str | None, str], type[IntEnum]] = {
    (None, "MT"): MemoryType,
    ("VMX_BASIC", "memory_type"): MemoryType,
    ("X2APIC_ICR", "mode"): DeliveryMode,
    ("X2APIC_ICR", "shorthand"): Shorthand,
    ("EXIT_REASON", "basic"): ExitReason,
    ("INTERRUPTION_INFO", "type"): InterruptionType,
    ("VMCS_ENCODING", "type"): VmcsType,
    ("VMCS_ENCODING", "width"): VmcsWidth,
}


def decoded_record(
    title: str, section: str, value: int, width: int, fields: list[dict[str, Any]], words: str | None = None
) -> dict[str, Any]:
    """Return the record of `value`, `width` bits wide, of which `fields` are what :func:`decoded_field` made."""
    return {
        "title": title,
        "section": section,
        "value": f"{value:#0{2 + width // 4}x}",
        "words": words,
        "reserved_set": [one["name"] for one in fields if one["kind"] == "reserved" and one["set"]],
        "default1_clear": [one["name"] for one in fields if one["kind"] == "default1" and not one["whole"]],
        "fields": [{key: one[key] for key in one if key != "whole"} for one in fields],
    }


def decode_by_layout(
    layout: Layout, value: int, maxphyaddr: int | None = None, taken: Sequence[Field] = ()
) -> dict[str, Any]:
    """Return the record of `value`; with `maxphyaddr` (bits) address bits of an entry from there on are reserved.

    The fields of `taken` stand in the address and are no part of it.
    """
    layout.decode(value)  # raises when the value is too wide
    fields = [decoded_field(layout, one, value) for one in parted(layout, taken)]
    address = value & ~sum(one.mask for one in taken)
    if maxphyaddr is not None and holds_address(layout) and (beyond := beyond_width(address, maxphyaddr)):
        fields.append(
            {
                "bits": f"{ADDRESS_TOP}:{maxphyaddr}",
                "name": f"reserved_{ADDRESS_TOP}_{maxphyaddr}",
                "value": f"{beyond:#x}",
                "set": True,
                "kind": "reserved",
                "meaning": f"address bits beyond MAXPHYADDR, {maxphyaddr}",
                "whole": True,
            }
        )
    return decoded_record(layout.name, layout.section, value, layout.width, fields)


def beyond_width(value: int, maxphyaddr: int) -> int:
    """Return the address bits of an entry that a processor with `maxphyaddr` address bits reserves."""
    return value & physical_reserved(maxphyaddr)


def decoded_field(layout: Layout, one: Field, value: int) -> dict[str, Any]:
    """Return what field `one` of `value` says; ``whole`` is whether all of its bits are 1."""
    content = value & one.mask if one.in_place else (value & one.mask) >> one.low
    meaning = one.meaning
    names = _NAMES.get((layout.name, one.name), _NAMES.get((None, one.name)))
    if names is not None:  # UC- is a type of IA32_PAT alone, whose bytes are decoded nowhere
        known = content in {int(member) for member in names if member is not MemoryType.UC_MINUS}
        meaning += f": {names(content).name if known else 'not assigned'}"
    nameless = one.kind is Kind.RESERVED
    if nameless:
        meaning = "no name; 1 by default" if one.default1 else "must be 0"
    return {
        "bits": str(one.low) if one.low == one.high else f"{one.high}:{one.low}",
        "name": one.name,
        "value": f"{content:#x}",
        "set": bool(content),
        "kind": "default1" if nameless and one.default1 else one.kind.value,
        "meaning": meaning,
        "whole": content == one.largest,
    }
