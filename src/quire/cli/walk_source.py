"""Where a walk or a check finds its tables: an image or a description, and the settings that options add to it."""

from dataclasses import dataclass

import click

from quire.arch import CpuProfile, PagingMode
from quire.cli.processor_options import known_processor
from quire.paging.context import Context, Words
from quire.state.images import Image

__all__ = ["Source", "open_source", "source_options"]

_MODE_NAMES = ("none", "32", "pae", "4", "5")
_EVERYWHERE = 1 << 52  # no table lies beyond; where an image ends its memory says


@dataclass(frozen=True, slots=True)
class Source:
    """Memory with the context that its registers and the options make, on a CPU profile."""

    image: Image
    context: Words
    profile: CpuProfile


def source_options(command: click.Command) -> click.Command:
    """Add the options that :func:`open_source` takes to `command`."""
    from quire.cli.numbers import NumberType

    options = [
        click.Option(["--image"], metavar="FILE", help="Memory image: raw, LiME, or an ELF core with QEMU's CPU note."),
        click.Option(["--tables"], metavar="FILE", help="Tables described in TOML instead of an image."),
        click.Option(["--base"], type=NumberType(52), metavar="ADDRESS",
                     help="Physical address of a raw image's first byte.  [default: 0]"),
        click.Option(["--vcpu"], type=click.IntRange(0), default=0, metavar="N",
                     help="Whose registers in the image count.  [default: 0]"),
        click.Option(["--cr3"], type=NumberType(), metavar="VALUE", help="CR3, if the source has none or another."),
        click.Option(["--eptp"], type=NumberType(), metavar="VALUE",
                     help="EPT pointer: addresses of the source are then host-physical."),
        click.Option(["--mode"], type=click.Choice(_MODE_NAMES), help="Paging mode.  [default: the source's, or 4]"),
        click.Option(["--set", "settings"], metavar="NAME=VALUE,...",
                     help="Mode bits: wp=0,smep=1,nxe=1,smap=1,ac=1,pke=1,pkru=0xc and others."),
        click.Option(["--profile"], metavar="NAME|FILE", help="CPU profile.  [default: the source's, or skylake-x]"),
    ]  # fmt: skip
    command.params[:0] = options
    return command


def open_source(
    *,
    image: str | None,
    tables: str | None,
    base: int | None,
    vcpu: int,
    cr3: int | None,
    eptp: int | None,
    mode: str | None,
    settings: str | None,
    profile: str | None,
    maxphyaddr: int | None = None,
    caps: str | None = None,
    ept_suffices: bool = False,
) -> Source:
    """Return the source that the options name; with `ept_suffices` an EPT pointer alone will do.

    Raises UsageError, MisuseError, FormatError, OSError.
    """
    from quire.arch import SKYLAKE_X, profile_by_name
    from quire.paging import new_context
    from quire.paging.settings import parse_settings
    from quire.state.images import open_image, read_tables
    from quire.state.images.tables import MODES

    if (image is None) == (tables is None):
        raise click.UsageError("give --image FILE or --tables FILE, one of them")
    if tables is not None and (base is not None or vcpu):
        raise click.UsageError("--base and --vcpu go with --image: leave them out")
    if image is not None:
        found = open_image(image, base=base, vcpu=vcpu)
    else:
        assert tables is not None
        found = read_tables(tables)
    model = profile_by_name(profile or found.profile or SKYLAKE_X.name)
    if maxphyaddr is not None or caps is not None:
        model = known_processor(model.name, maxphyaddr, caps).profile
    context = new_context(model, _EVERYWHERE)
    changes = dict(found.settings)
    number = None if mode is None else int(MODES[mode])
    given = ((Context.CR3, cr3), (Context.EPTP, eptp), (Context.MODE, number))
    changes |= {field: value for field, value in given if value is not None}
    changes |= parse_settings(settings or "")
    for field, value in changes.items():
        context[field] = value
    if not (ept_suffices and context[Context.EPTP]) and Context.CR3 not in changes:
        _check_root(found, context)
    return Source(found, context, model)


def _check_root(image: Image, context: Words) -> None:
    """Refuse paging whose root nobody gave."""
    pdptes = context[Context.PDPTE0 : Context.PDPTE3 + 1]
    if context[Context.MODE] != PagingMode.NONE and not pdptes.any():
        raise click.UsageError(f"{image.title} has no CR3: give --cr3 VALUE, or --mode none")
