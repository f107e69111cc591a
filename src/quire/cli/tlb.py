"""``quire tlb``: a program as a guest, then what its TLBs and walk caches hold."""

from typing import IO, TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.guest_files import open_picture, open_report, write_file
from quire.cli.notices import say, say_if_compiling, teller
from quire.cli.numbers import NumberType
from quire.cli.outputs import check_form, picture_form
from quire.cli.run_options import guest_config, guest_options, run_spec
from quire.cli.sizes import SizeType

if TYPE_CHECKING:
    from quire.guest.load.launch import Program
    from quire.guest.point import Point
    from quire.guest.session import Session
    from quire.machine import GuestConfig
    from quire.tlb import TlbTable

__all__ = ["command"]

_CLASSES = ("linear", "guest-physical", "combined")
#: Fields to sort by; structures are in order already.
_SORTS = {"age": "age", "address": "address", "structure": None}


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@click.option("--at", metavar="POINT",
              help="End the run there: main+8, an address, 100sys, 5000i (instructions) or 20ms.")  # fmt: skip
@click.option("--at-syscall", metavar="NAME[:N]", help="End it before the first, or N-th, such system call.")
@click.option("--vpid", type=NumberType(16), metavar="N", help="Only entries tagged with this VPID.")
@click.option("--pcid", type=NumberType(12), metavar="N", help="Only entries tagged with this PCID.")
@click.option("--ep4ta", type=NumberType(52), metavar="N", help="Only entries tagged with this EP4TA.")
@click.option("--class", "mapping_class", type=click.Choice(_CLASSES), help="Only mappings of this class.")
@click.option("--structure", metavar="NAME", help="Only of this TLB or walk cache: see quire profiles show.")
@click.option("--size", type=SizeType(), metavar="SIZE", help="Only entries that cover so much: 4K, 2M, 1G.")
@click.option("--global/--no-global", "global_", default=None, help="Only global pages, or all others.")
@click.option("--sort", type=click.Choice(list(_SORTS)), default="structure", show_default=True,
              help="Order of entries: least age or address first, or as they lie.")  # fmt: skip
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Show the first N entries alone.")
@click.option(
    "--heat-map", metavar="FILE", help="Write a chart there, .svg, .png or .pdf: fills and ways used, by set."
)
@answer_options("stderr")
@click.option("--no-vpid", "vpids", flag_value=False, is_flag=True, default=True,
              help="Run without VPIDs: every VM entry and exit flushes.")  # fmt: skip
@guest_options
def command(**options: Any) -> int:
    """Run PROGRAM as quire run --detail full does, and show what TLBs and walk caches hold at its end.

    Or where --at or --at-syscall end it: then the exit status is 0. A symbol is one of the program's own file; 100sys
    is when 100 system calls have been done, 5000i when so many instructions have been executed.

    \b
    Examples:
      quire tlb --limit 10 -- true
      quire tlb --at 20sys --limit 10 -- true
      quire tlb --at-syscall exit_group --sort age --limit 20 -o tlb.txt -- ls /
      quire tlb --mmu native --structure "L1D 4K" --json -o tlb.json -- true
      quire tlb --profile zen4 --guest-page 2M --heat-map sets.svg --limit 0 -- ls /
    """
    _check(options)
    config = guest_config(options, options["vpids"])
    _check_structure(options["structure"], config)
    from quire.guest.own_process import prepare_process

    environ = prepare_process(config.memory)
    files = _open(options)
    say_if_compiling()
    from quire.guest.load.launch import LaunchError
    from quire.guest.session import open_session

    wanted = run_spec(options, config, "full")
    try:
        session = open_session(
            wanted, environ, until=lambda program: _until(options, program), say=teller("tlb")
        )
        status = session.run()
    except LaunchError as error:
        say(f"quire tlb: {error}")
        return error.status
    if session.death_text is not None:
        say(f"quire tlb: {session.death_text}")
    _write(session, options, files)
    return status


def _check(options: dict[str, Any]) -> None:
    """Raise click.UsageError for options that contradict each other."""
    if options["heat_map"] is not None:
        check_form("tlb", "--heat-map", options["heat_map"])
    if options["at"] is not None and options["at_syscall"] is not None:
        raise click.UsageError("--at and --at-syscall both say where to end: give one")
    to_stdout = [f"--{name}" for name in ("output", "heat_map") if options[name] == "-"]
    if len(to_stdout) > 1:
        names = " and ".join(name.replace("_", "-") for name in to_stdout)
        raise click.UsageError(f"{names} are all -, and stdout takes one: give files for the others")


def _check_structure(name: str | None, config: "GuestConfig") -> None:
    """Raise click.UsageError if the processor has no such structure: before the program runs."""
    from quire.errors import MisuseError
    from quire.tlb import Tlb

    try:
        Tlb(config.profile, config.tlb).table().where(structure=name)
    except MisuseError as error:
        raise click.UsageError(str(error)) from None


def _open(options: dict[str, Any]) -> dict[str, IO[Any]]:
    """Open the files that results go to, before the guest runs."""
    files: dict[str, IO[Any]] = {"output": open_report(options["output"])}
    if options["heat_map"] is not None:
        files["heat_map"] = open_picture(options["heat_map"], "heat map", "--heat-map")
    return files


def _until(options: dict[str, Any], program: "Program") -> "Point | None":
    """Return where the run is to end. Raises click.UsageError if there is no such place."""
    from quire.errors import MisuseError
    from quire.guest.point import parse_point, parse_syscall

    try:
        if options["at"] is not None:
            return parse_point(options["at"], program)
        return None if options["at_syscall"] is None else parse_syscall(options["at_syscall"])
    except MisuseError as error:
        raise click.UsageError(str(error)) from None


def _chosen(table: "TlbTable", options: dict[str, Any]) -> "TlbTable":
    """Return the entries that pass the filters, in the order that was asked for."""
    names = ("vpid", "pcid", "ep4ta", "structure", "mapping_class", "size", "global_")
    found = table.where(**{name: options[name] for name in names})
    key = _SORTS[options["sort"]]
    return found if key is None else found.sorted(key)


def _write(session: "Session", options: dict[str, Any], files: dict[str, IO[Any]]) -> None:
    from quire.guest.tlb_record import tlb_record
    from quire.report import render_json
    from quire.report.tlb import render_tlb

    chosen = _chosen(session.tlb.table(), options)
    record = tlb_record(session, chosen.first(options["limit"]), len(chosen))
    if "heat_map" in files:
        from quire.report.heat_map import heat_map

        chart = heat_map(record, picture_form(options["heat_map"]))
        write_file(files["heat_map"], "heat map", lambda file: file.write(chart))
    write_file(
        files["output"],
        "answer",
        lambda file: file.write(render_json(record)) if options["as_json"] else render_tlb(record, file),
    )
