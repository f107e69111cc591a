"""``quire validate``: published results beside what Quire measures now."""

import re
import sys

import click

from quire.arch import WORD
from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs, picture_form
from quire.cli.sizes import SizeType

__all__ = ["command"]

_CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_CONTEXT)
def command() -> None:
    """Show published results beside what is measured here.

    \b
    Examples:
      quire validate references
      quire validate references --json
      quire validate references --json -o references.json
      quire validate crossover --updates 0,10 --plot crossover.svg
      quire validate ladder --profile zen4 --guest 1G
      quire validate numa --pages 2048 --updates 20000
      quire validate hardware --programs chase --size 16M --accesses 20000 --runs 1
    """


@command.command(context_settings=_CONTEXT)
@answer_options("stdout")
def references(as_json: bool, output: str | None) -> int:
    """Count the references of every walk, for each page size and depth of both dimensions.

    Exit status: 0 when all counts are the published ones, 1 when not.
    """
    outputs = Outputs("validate references", {"--output": output})
    from quire.cli.notices import say_if_compiling

    say_if_compiling()
    from quire.report.validation import render_references
    from quire.study.references import references_record

    record = references_record()
    outputs.answer(record, render_references, as_json=as_json, default=sys.stdout)
    return 0 if record["equal"] == record["total"] else 1


@command.command(context_settings=_CONTEXT)
@click.option("--costs", metavar="NAME|FILE",
              help="Cycles of each event on skylake-x, whose TLB is modelled: a TOML file of one's own.")  # fmt: skip
@click.option("--updates", metavar="LIST", help="Page-table updates per 1000 reads to sweep, ascending.")
@click.option(
    "--plot", metavar="FILE", help="Write a chart there, .svg, .png or .pdf: cycles per read over updates."
)
@answer_options("stdout")
def crossover(
    costs: str | None, updates: str | None, plot: str | None, as_json: bool, output: str | None
) -> None:
    """Run a guest that reads memory and updates its page table, under each Mmu: where shadow and nested cross."""
    from quire.arch import SKYLAKE_X
    from quire.errors import FormatError, MisuseError
    from quire.study import costs_for

    try:
        profile = costs_for(SKYLAKE_X, costs)
        asked = None if updates is None else [_number(part) for part in updates.split(",")]
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    outputs = Outputs("validate crossover", {"--output": output, "--plot": plot})
    from quire.cli.notices import say_if_compiling

    say_if_compiling()
    from quire.machine import MMUS
    from quire.report.progress import open_progress
    from quire.report.validation import render_crossover
    from quire.study.crossover import UPDATES, crossover_record

    sweep = UPDATES if asked is None else asked
    try:
        with open_progress("quire validate crossover", len(sweep) * len(MMUS)) as step:
            record = crossover_record(
                profile, updates=sweep, done=lambda mmu, count: step(f"{mmu}, {count} updates")
            )
    except MisuseError as error:
        raise click.UsageError(str(error)) from None
    outputs.answer(record, render_crossover, as_json=as_json, default=None if plot == "-" else sys.stdout)
    if plot is not None:
        from quire.report.chart import crossover_chart

        outputs.write("--plot", crossover_chart(record, picture_form(plot)))


@command.command(context_settings=_CONTEXT)
@click.option("--profile", default="skylake-x", show_default=True, metavar="NAME|FILE",
              help="The processor whose TLBs and walk caches are used: see quire profiles.")  # fmt: skip
@click.option("--guest", type=SizeType(), default="4G", show_default=True, metavar="SIZE",
              help="Guest memory that is read at random; only its tables are real.")  # fmt: skip
@click.option("--reads", type=click.IntRange(1), default=500_000, show_default=True, help="How many reads.")
@click.option("--seed", type=click.IntRange(0, WORD), default=0, show_default=True,
              help="Seed of the addresses.")  # fmt: skip
@answer_options("stdout")
def ladder(profile: str, guest: int, reads: int, seed: int, as_json: bool, output: str | None) -> int:
    """Count what each walk cache spares a nested walk: none, linear, EPT's, nested TLB, 2M host pages.

    Exit status: 0 when the first rung makes 24 references a walk and every rung spares some, 1 when not.
    """
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError

    outputs = Outputs("validate ladder", {"--output": output})
    from quire.cli.notices import say_if_compiling

    say_if_compiling()
    from quire.report.progress import open_progress
    from quire.report.validation import render_ladder
    from quire.study.ladder import RUNGS, ladder_record

    try:
        with open_progress("quire validate ladder", len(RUNGS)) as step:
            record = ladder_record(
                profile_by_name(profile), guest_bytes=guest, reads=reads, seed=seed, done=step
            )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    outputs.answer(record, render_ladder, as_json=as_json, default=sys.stdout)
    return 0 if record["falls"] and record["first_is_24"] else 1


@command.command(context_settings=_CONTEXT)
@click.option("--pages", type=click.IntRange(512), default=65_536, show_default=True,
              help="Pages of 4 KiB that the guest updates, a power of two.")  # fmt: skip
@click.option("--updates", type=click.IntRange(1000), default=400_000, show_default=True,
              help="Updates that the guest makes.")  # fmt: skip
@answer_options("stdout")
def numa(pages: int, updates: int, as_json: bool, output: str | None) -> int:
    """Run GUPS with guest tables and EPT on local and remote nodes, beside the slowdowns that vMitosis measured.

    Three published run times fit the latencies; the other four are predicted. Exit status: 0 when all four are within
    5 %, 1 when not.
    """
    from quire.errors import MisuseError

    outputs = Outputs("validate numa", {"--output": output})
    from quire.cli.notices import say_if_compiling

    say_if_compiling()
    from quire.report.progress import open_progress
    from quire.report.validation import render_vmitosis
    from quire.study.vmitosis import PLACEMENTS, vmitosis_record

    try:
        with open_progress("quire validate numa", PLACEMENTS) as step:
            record = vmitosis_record(pages=pages, updates=updates, done=step)
    except MisuseError as error:
        raise click.UsageError(str(error)) from None
    outputs.answer(record, render_vmitosis, as_json=as_json, default=sys.stdout)
    return 0 if record["within"] == record["predicted"] else 1


@command.command(context_settings=_CONTEXT)
@click.option("--profile", metavar="NAME|FILE",
              help="The modelled processor; by default the one nearest to this machine's.")  # fmt: skip
@click.option("--costs", metavar="NAME|FILE",
              help="Cycles of each event; by default the processor's, caches as measured here.")  # fmt: skip
@click.option("--programs", default="gups,chase,btree,bfs,join", show_default=True, metavar="LIST",
              help="Which of the programs.")  # fmt: skip
@click.option("--size", type=SizeType(), default="64M", show_default=True, metavar="SIZE",
              help="Memory of each program, a power of two.")  # fmt: skip
@click.option("--accesses", type=click.IntRange(1000, 1 << 32), default=2_000_000, show_default=True,
              help="Accesses that are timed.")  # fmt: skip
@click.option("--runs", type=click.IntRange(1, 99), default=7, show_default=True,
              help="Runs with each kind of page, by turns; their median counts.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Guests at a time.")
@answer_options("stdout")
def hardware(
    profile: str | None,
    costs: str | None,
    programs: str,
    size: int,
    accesses: int,
    runs: int,
    jobs: int,
    as_json: bool,
    output: str | None,
) -> int:
    """Time C programs on this machine with 4 KiB and 2 MiB pages, and predict the difference from runs as guests.

    The programs are compiled here, and need a C compiler. The error is taken on the nanoseconds that an access costs
    more with 4 KiB pages. Exit status: 0 when three of five are within 30 %, 1 when not.
    """
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError
    from quire.study import RunFailed, costs_for
    from quire.study.hardware import parse_programs, this_processor

    outputs = Outputs("validate hardware", {"--output": output})
    from quire.cli.notices import say_if_compiling

    try:
        processor = this_processor()
        modelled = profile_by_name(processor.nearest if profile is None else profile)
        figures = costs_for(modelled, costs)
        asked = parse_programs(programs)
        say_if_compiling()
        from quire.report.hardware import render_hardware
        from quire.report.progress import open_progress
        from quire.study.hardware import CHASES, hardware_record

        with open_progress("quire validate hardware", runs + len(asked) + CHASES * (costs is None)) as step:
            record = hardware_record(
                processor,
                modelled,
                figures,
                measure=costs is None,
                programs=asked,
                size=size,
                accesses=accesses,
                runs=runs,
                jobs=jobs,
                done=step,
            )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    except RunFailed as error:
        raise click.ClickException(f"validate hardware: {error}") from None
    outputs.answer(record, render_hardware, as_json=as_json, default=sys.stdout)
    return 0 if record["enough"] else 1


def _number(text: str) -> int:
    from quire.errors import MisuseError

    if not re.fullmatch("[0-9]{1,9}", text.strip()):
        raise MisuseError(f"{text!r} is no number of updates: give a list such as 0,10,50")
    return int(text)
