"""Settings of a walk as people write them: ``wp=0,smep=1``, by the lower-case names of :class:`Context`.

What a walk is told but software does not set (the size of memory, reserved bits, versions) has no name here. Fails
with MisuseError for a name that does not exist and for a value that its field does not hold.
"""

from quire.errors import MisuseError, did_you_mean
from quire.paging.context import Context

__all__ = ["SETTINGS", "parse_number", "parse_settings"]

_FLAGS = (
    Context.NXE,
    Context.WP,
    Context.SMEP,
    Context.SMAP,
    Context.USER,
    Context.AC,
    Context.IMPLICIT,
    Context.STACK,
    Context.PSE,
    Context.PKE,
    Context.PKS,
    Context.CD,
    Context.PAGE_1G,
    Context.MBEC,
    Context.PAGING_WRITE,
    Context.VERIFY_PAGING,
    Context.SPP,
    Context.PML,
    Context.VE,
    Context.EPT_EXECUTE_ONLY,
    Context.EPT_2M,
    Context.EPT_1G,
    Context.ADVANCED,
    Context.LAM_SUP,
    Context.LASS,
    Context.HLAT,
)
_WIDTHS = {
    **dict.fromkeys(_FLAGS, 1),
    **dict.fromkeys((Context.PKRU, Context.PKRS), 32),
    Context.HLAT_PREFIX: 6,
    **dict.fromkeys((Context.PML_INDEX, Context.EPTP_INDEX), 16),
    **dict.fromkeys((Context.CR3, Context.EPTP, Context.PAT, Context.HLATP), 64),
    **dict.fromkeys((Context.PDPTE0, Context.PDPTE1, Context.PDPTE2, Context.PDPTE3), 64),
    **dict.fromkeys((Context.SPPTP, Context.PML_ADDRESS, Context.VE_INFO), 52),
}

#: Characters of a number: 64 bits in binary, with all the underscores that may help.
_LONGEST = 140

#: Each field that may be set, by name, with its width in bits.
SETTINGS: dict[str, tuple[Context, int]] = {
    field.name.lower(): (field, _WIDTHS[field]) for field in sorted(_WIDTHS)
}


def parse_settings(text: str) -> dict[Context, int]:
    """Return the fields that `text` sets, ``wp=0,pkru=0xc`` for instance, in its order. Raises MisuseError."""
    found: dict[Context, int] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = word.partition("=")
        known = SETTINGS.get(name.lower())
        if known is None:
            raise MisuseError(
                f"No setting is called {name!r}{did_you_mean(name, SETTINGS)}: there is {', '.join(SETTINGS)}"
            )
        if not equals:
            raise MisuseError(f"Setting {name!r} has no value: write {name}=1 or {name}=0")
        field, width = known
        value = parse_number(number, f"setting {name}")
        if value >> width:
            raise MisuseError(
                f"Setting {name} = {value:#x} does not fit in {width} bit{'s' * (width > 1)}: "
                f"give 0x0 to {(1 << width) - 1:#x}"
            )
        found[field] = value
    return found


def parse_number(text: str, what: str = "") -> int:
    """Return the number `text`: ``0x1f``, ``0b11``, ``31``, with underscores where they help.

    `what` names it in messages. Raises MisuseError for anything else, and for a negative number.
    """
    of = f" of {what}" if what else ""
    if len(text) > _LONGEST:
        raise MisuseError(
            f"A number{of} has {len(text)} characters: give at most {_LONGEST}, 0x1f for instance"
        )
    try:
        value = int(text.strip(), 0)
    except ValueError:
        hint = f", or 0x{text.strip()} if it is hexadecimal" if _is_hexadecimal(text) else ""
        raise MisuseError(f"{text!r}{of} is not a number: give 0x1f, 0b11111 or 31{hint}") from None
    if value < 0:
        raise MisuseError(f"{text!r}{of} is negative: give the unsigned bits, 0xffff_ffff_ffff_f000")
    return value


def _is_hexadecimal(text: str) -> bool:
    try:
        int(text.strip(), 16)
    except ValueError:
        return False
    return True
