"""``--entries`` of ``quire walk``: the entries of one walk as a dump has them, and where they must lie."""

from typing import TYPE_CHECKING, Any

import click

from quire.cli.processor_options import known_processor

if TYPE_CHECKING:
    from quire.cli.walk_source import Source

__all__ = ["entries_source"]

_WRITE_BACK = 6
_MODES = {None: None, "4": 4, "5": 5}
_MOST = 5


def entries_source(
    text: str, address: int, *, gpa: bool, cr3: int | None, eptp: int | None, mode: str | None, settings: str | None,
    profile: str | None, maxphyaddr: int | None, caps: str | None, c_bit: int | None = None, **others: Any,
) -> "Source":  # fmt: skip
    """Return the source that `text` makes for a walk of `address`, guest-physical with `gpa`.

    `others` are the options of other sources. Raises UsageError, MisuseError.
    """
    from quire.arch import EPTP, SKYLAKE_X, PagingMode, profile_by_name
    from quire.cli.walk_source import Source
    from quire.dumps.entry_memory import EntryMemory, free_page, levels_of
    from quire.paging import Context, new_context
    from quire.paging.settings import parse_settings
    from quire.state.images import Image

    if any(others.values()):
        raise click.UsageError(
            "--entries is a source of its own: leave --image, --tables, --base and --vcpu out"
        )
    if mode not in _MODES:
        raise click.UsageError(
            f"--entries goes with 4 or 5 levels of paging, not with --mode {mode}: give 4 or 5"
        )
    number = _MODES[mode]
    levels, entries = levels_of(_parse(text), None if number is None else PagingMode(number))
    encrypted = 0 if c_bit is None else 1 << c_bit
    root = free_page([entry & ~encrypted for entry in entries]) if cr3 is None else cr3
    memory = EntryMemory()
    memory.put(root & ~encrypted, address, entries, levels, ept=gpa, no_address=encrypted)
    model = profile_by_name(profile or SKYLAKE_X.name)
    if maxphyaddr is not None or caps is not None:
        model = known_processor(model.name, maxphyaddr, caps).profile
    context = new_context(model, 1 << 52)
    context[Context.MODE] = levels
    if gpa:
        context[Context.EPTP] = eptp or EPTP.encode(MT=_WRITE_BACK, walk_length=int(levels) - 1, addr=root)
    else:
        context[Context.CR3] = root
    for field, value in parse_settings(settings or "").items():
        context[field] = value
    count = len(entries)
    return Source(
        Image(memory.image(), f"{count} entr{'y' if count == 1 else 'ies'} given", whole=False),
        context,
        model,
    )


def _parse(text: str) -> list[int]:
    """Return the entries, hexadecimal with or without 0x, as kernels print them."""
    from quire.errors import MisuseError

    found = []
    for word in text.split(","):
        plain = word.strip().lower().replace("_", "")
        try:
            value = int(plain, 16)
        except ValueError:
            raise MisuseError(
                f"{word.strip()!r} of --entries is not hexadecimal: give 3400067,35a7067 from the highest level down"
            ) from None
        if not 0 <= value < 1 << 64:
            raise MisuseError(f"{word.strip()!r} of --entries is no entry: an entry has 64 bits")
        found.append(value)
    if len(found) > _MOST:
        raise MisuseError(
            f"--entries has {len(found)} entries: a walk has at most {_MOST}, highest level first"
        )
    return found
