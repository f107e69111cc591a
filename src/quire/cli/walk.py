"""``quire walk``: one access explained, reference by reference."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.notices import say
from quire.cli.numbers import NumberType
from quire.cli.outputs import Outputs, picture_form
from quire.cli.processor_options import c_bit_option, processor_options
from quire.cli.walk_entries import entries_source
from quire.cli.walk_live import live_options, live_record, tables_alone
from quire.cli.walk_source import Source, open_source, source_options

if TYPE_CHECKING:
    from quire.machine import Vcpu

__all__ = ["command"]

_ACCESSES = ("read", "write", "fetch", "shadow-read", "shadow-write")


@live_options
@source_options
@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS]",
    no_args_is_help=False,
)
@click.option("--access", type=click.Choice(_ACCESSES), default="read", show_default=True,
              help="What the instruction does.")  # fmt: skip
@click.option("--user/--supervisor", "user", default=None,
              help="Privilege of the access.  [default: that of the image's registers, or user]")  # fmt: skip
@click.option(
    "--faulted",
    type=NumberType(32),
    metavar="CODE",
    help="The access is known to have faulted, with this error code: say what remains if it is allowed here.",
)
@click.option("--what-if", metavar="NAME=VALUE,...",
              help="Walk again with these settings: what changes, with all and with each alone.")  # fmt: skip
@click.option("--entries", metavar="ENTRY,...",
              help="Entries of the walk as a dump has them, hexadecimal, highest level first.")  # fmt: skip
@click.option("--gpa", is_flag=True, help="ADDRESS is guest-physical: walk EPT alone.")
@click.option("--plot", "--svg", "plot", metavar="FILE",
              help="Draw the walk there, .svg, .png or .pdf: the grid of its references.")  # fmt: skip
@click.option(
    "--html", metavar="FILE", help="Write a page there, with the picture and the references as a table."
)
@c_bit_option
@processor_options
@answer_options("stdout")
@click.argument("words", nargs=-1, metavar="ADDRESS | -- PROGRAM [ARGS]...", type=click.UNPROCESSED)
def command(
    words: tuple[str, ...],
    at: str | None,
    place: str | None,
    access: str,
    user: bool | None,
    faulted: int | None,
    what_if: str | None,
    entries: str | None,
    gpa: bool,
    c_bit: int | None,
    maxphyaddr: int | None,
    caps: str | None,
    as_json: bool,
    output: str | None,
    plot: str | None,
    html: str | None,
    **options: Any,
) -> int:
    """Explain one access to linear ADDRESS: every entry that its page walk reads, and the rule that decides.

    Nothing is executed and the source stays as it is. Or, with --at and --address, PROGRAM runs as a guest up to a
    point, and the walk is that of its own tables, in both dimensions; the options of quire run that describe a guest
    (--mmu, --guest-page, --host-page, --memory, --seed, --sandbox and others) go with it. Exit status: 0 when the
    access is allowed, 1 when it faults or exits, 125 when it cannot be walked.

    \b
    Examples:
      quire walk --tables tables.toml 0x7fff_f000
      quire walk --tables tables.toml --access write --what-if wp=0,user=0 0x7fff_f000
      quire walk --tables tables.toml --maxphyaddr 39 --access write --faulted 0x3 0x7fff_f000
      quire walk --image dead.core 0x1234
      quire walk --entries 3400067,35a7067,35a8067,800000fffffee163 --supervisor 0xffffc9000002d000
      quire walk --at 20sys --address 0x400000 --access fetch --svg walk.svg -- true
      quire walk --tables tables.toml --html walk.html 0x7fff_f000
      quire walk --image ram.lime --cr3 0x1000 --mode 4 --set smap=1 --supervisor --json 0x1000
    """
    from quire.errors import FormatError, MisuseError

    outputs = Outputs("walk", {"--output": output, "--plot": plot, "--html": html})
    try:
        if at is not None or place is not None:
            _check_live(what_if, entries, gpa, caps, c_bit)
            live = _live(words, place, at, _walker(access, user, maxphyaddr), options)
            return live if isinstance(live, int) else _answer(live, outputs, as_json, faulted, plot)
        address, options = _address(words), tables_alone(options)
        if entries is None:
            source = open_source(**options, maxphyaddr=maxphyaddr, caps=caps, ept_suffices=gpa)
        else:
            source = entries_source(
                entries, address, gpa=gpa, maxphyaddr=maxphyaddr, caps=caps, c_bit=c_bit, **options
            )
        record = _record(source, address, access, user, what_if, gpa=gpa, c_bit=c_bit)
        if entries is not None and record["walk"]["status"] == "BUS_ERROR":
            record["walk"]["fault"]["note"] = "the entry that comes next was not given"
        root_known = entries is None or options["cr3"] is not None
        return _answer(record, outputs, as_json, faulted, plot, root_known=root_known)
    except (FormatError, MisuseError) as error:
        raise click.ClickException(f"walk: {error}") from None
    except OSError as error:
        raise click.ClickException(f"walk: {error.filename}: {error.strerror}") from None


def _answer(
    record: dict[str, Any],
    outputs: Outputs,
    as_json: bool,
    faulted: int | None,
    plot: str | None,
    *,
    root_known: bool = True,
) -> int:
    """Write the record, the picture, the page; return the exit status."""
    from quire.paging.remains import what_remains
    from quire.report.walk import render_walk_table

    if faulted is not None:
        record["remains"] = what_remains(record["walk"], faulted, root_known=root_known)
    if plot is not None:
        from quire.report.walk_picture import walk_picture

        outputs.write("--plot", walk_picture(record, picture_form(plot)))
    if "--html" in outputs:
        from quire.report.walk_page import walk_page

        outputs.write("--html", walk_page(record))
    default = None if outputs.takes_stdout else sys.stdout
    outputs.answer(record, render_walk_table, as_json=as_json, default=default)
    return 0 if record["walk"]["result"] is not None else 1


def _address(words: tuple[str, ...]) -> int:
    """Return the one address among the arguments. Raises click.UsageError."""
    if not words:
        raise click.UsageError("Missing argument 'ADDRESS'.")
    if len(words) > 1:
        raise click.UsageError(
            f"{words[1]!r} is one argument too many: give one address, or --at and --address to run a program"
        )
    try:
        return NumberType().convert(words[0], None, None)
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint="'ADDRESS'") from None


def _live(
    words: tuple[str, ...],
    place: str | None,
    at: str | None,
    walk: "Callable[[Vcpu, int], dict[str, Any]]",
    options: dict[str, Any],
) -> dict[str, Any] | int:
    """Return the record of a walk in a program that runs, or the exit status if it cannot be run."""
    from quire.guest.load.launch import LaunchError

    try:
        return live_record(words, place, at, walk, options)
    except LaunchError as error:
        say(f"quire walk: {error}")
        return error.status


def _check_live(
    what_if: str | None, entries: str | None, gpa: bool, caps: str | None, c_bit: int | None
) -> None:
    """Refuse options that a program which runs has no use for."""
    given = {"--what-if": what_if, "--entries": entries, "--gpa": gpa, "--caps": caps, "--c-bit": c_bit}
    stray = [name for name, value in given.items() if value]
    if stray:
        raise click.UsageError(f"{stray[0]} does not go with a program that runs: leave it or --at out")


def _walker(
    access: str, user: bool | None, maxphyaddr: int | None
) -> "Callable[[Vcpu, int], dict[str, Any]]":
    """Return what walks one address of a guest as it stands, without a trace in it."""

    def walk(vcpu: "Vcpu", address: int) -> dict[str, Any]:
        from quire.arch import Access, physical_reserved
        from quire.paging.context import Context
        from quire.paging.explanation import explain

        context = vcpu.mmu.guest_context.copy()
        if user is not None:
            context[Context.USER] = int(user)
        if maxphyaddr is not None:
            context[Context.RESERVED] = physical_reserved(maxphyaddr)
        kind = Access[access.upper().replace("-", "_")]
        return explain(vcpu.host.memory.words.ravel(), context, address, kind)

    return walk


def _not_given(walk: dict[str, Any], given: frozenset[int] | None) -> bool:
    """Return whether the walk ended at an entry that a description of tables left out."""
    ended = walk["fault"] is not None and bool(walk["references"])
    return ended and given is not None and int(walk["references"][-1]["hpa"], 16) not in given


def _record(
    source: Source,
    address: int,
    access: str,
    user: bool | None,
    changes: str | None,
    *,
    gpa: bool,
    c_bit: int | None,
) -> dict[str, Any]:
    from quire.arch import Access
    from quire.paging.c_bit import WithoutCBit, without_c_bit
    from quire.paging.context import Context
    from quire.paging.explanation import explain, explain_gpa
    from quire.paging.settings import parse_settings
    from quire.paging.what_if import what_if

    context, memory = source.context, source.image.memory
    encrypted = None if c_bit is None else WithoutCBit(memory, c_bit)
    words = memory if encrypted is None else encrypted
    if c_bit is not None:
        context = without_c_bit(context, c_bit)
    if changes is not None and gpa:
        raise click.UsageError("--what-if changes mode bits of a linear address: leave it or --gpa out")
    if gpa and not context[Context.EPTP]:
        raise click.UsageError("--gpa walks EPT, and there is no EPT pointer: give --eptp VALUE")
    if user is not None:
        context[Context.USER] = int(user)
    kind = Access[access.upper().replace("-", "_")]
    record: dict[str, Any] = {
        "source": source.image.title,
        "profile": source.profile.name,
        "walk": (explain_gpa if gpa else explain)(words, context, address, kind),
    }
    result = record["walk"]["result"]
    if result is not None and source.image.whole and int(result["hpa"], 16) not in memory:
        result["note"] = "not in the image"
    if _not_given(record["walk"], source.image.given):
        record["walk"]["fault"]["note"] = "this entry was not given, so it counts as 0"
    if changes is not None:
        wanted = parse_settings(changes)
        if wanted:
            record["what_if"] = what_if(words, context, address, kind, wanted)
    if encrypted is not None:
        for walk in (record["walk"], *(trial["walk"] for trial in record.get("what_if", []))):
            encrypted.show(walk)
    return record
