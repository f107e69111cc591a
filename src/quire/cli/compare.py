"""``quire compare``: one program under each Mmu and page size, and which of them costs least."""

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import click

from quire.arch import WORD
from quire.cli.answer import answer_options
from quire.cli.measure import measure
from quire.cli.numa_options import numa_config, numa_options
from quire.cli.outputs import Outputs, picture_form
from quire.cli.run_options import check_sandbox, no_argv_option, sandbox_options
from quire.cli.sizes import SizeType
from quire.machine import MMUS

__all__ = ["command"]


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@click.option("--mmu", "mmus", default=",".join(MMUS), show_default=True, metavar="LIST",
              help="Mmus to compare; native is what the others are measured against.")  # fmt: skip
@click.option("--pages", default="4K/4K", show_default=True, metavar="LIST",
              help="Pairs GUEST/HOST of page sizes: 4K or 2M, and 4K, 2M or 1G.")  # fmt: skip
@click.option("--memory", type=SizeType(), default="2G", show_default=True, metavar="SIZE",
              help="Guest memory; costs only what is touched.")  # fmt: skip
@click.option("--profile", "profiles", default="skylake-x", show_default=True, metavar="LIST",
              help="The processors: those that quire profiles lists, or TOML files.")  # fmt: skip
@click.option("--costs", metavar="NAME|FILE",
              help="Cycles of each event, by default those of the processor: by name, or a TOML file.")  # fmt: skip
@click.option("--remote-share", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of references to memory that go to another NUMA node.")  # fmt: skip
@numa_options
@click.option("--seed", type=click.IntRange(0, WORD), default=0, show_default=True,
              help="Seed of the guest's randomness and address layout.")  # fmt: skip
@sandbox_options
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Runs at a time, after the first.")  # fmt: skip
@click.option("--bound", is_flag=True,
              help="Show each row without walk caches as well: every walk makes all its references.")  # fmt: skip
@answer_options("stderr")
@click.option("--parquet", metavar="FILE", help="Write a row a configuration there, for data frames.")
@click.option("--plot", metavar="FILE", help="Write a chart there, .svg, .png or .pdf: where the cycles go.")
@click.option("--relative", is_flag=True, help="With --plot: each bar in per cent of its own cycles.")
@no_argv_option
@click.argument("program")
@click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED)
def command(
    mmus: str,
    pages: str,
    memory: int,
    profiles: str,
    costs: str | None,
    remote_share: float,
    seed: int,
    sandbox: bool,
    allow_read: tuple[str, ...],
    jobs: int,
    bound: bool,
    output: str | None,
    as_json: bool,
    parquet: str | None,
    plot: str | None,
    relative: bool,
    no_argv: bool,
    program: str,
    arguments: tuple[str, ...],
    **nodes: Any,
) -> int:
    """Run PROGRAM once under each configuration, and predict from what was counted what each costs a processor.

    The program's output is shown once, its input is read once and given to each run; a program that writes or ends
    otherwise under another configuration is reported. The exit status is the program's; quire's own failures are 125.

    \b
    Examples:
      quire compare -- true
      quire compare --mmu ept --pages 4K/2M -- sort /etc/passwd
      quire compare --mmu ept,shadow --bound -- true
      quire compare --mmu ept --profile skylake-x,zen4 -- true
      quire compare --mmu ept --plot true.svg --parquet true.parquet -- true
      quire compare --mmu ept --plot true.png --relative -- true
      quire compare --mmu native --pages 2M/2M --json -o true.json -- true
      quire compare --mmu native,ept --numa 2x4G --numa-policy interleave -- true
    """
    from quire.errors import FormatError, MisuseError
    from quire.study import compare_record, configurations, parse_mmus, parse_pages, parse_profiles
    from quire.study.compare import compare_costs, compare_spec
    from quire.study.runner import check_settings

    try:
        processors = parse_profiles(profiles)
        asked = configurations(parse_mmus(mmus), parse_pages(pages), processors)
        figures = compare_costs(processors, costs, remote_share)
        shared = (memory, seed, sandbox, processors[0], numa_config(nodes))
        check_sandbox(sandbox, allow_read)
        spec = compare_spec([program, *arguments], *shared, record_arguments=not no_argv)
        spec = replace(spec, allow_read=allow_read)
        check_settings(spec, asked)
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    if relative and plot is None:
        raise click.UsageError("--relative says nothing without --plot: give both, or neither")
    names = {"--output": output, "--parquet": parquet, "--plot": plot}
    outputs = Outputs("compare", names)
    left = measure("compare", spec, asked, jobs)
    if isinstance(left, int):
        return left
    record = compare_record(spec, left.runs, figures, remote_share=remote_share, partial=left.partial)
    from quire.report import render_compare_table

    outputs.answer(record, partial(render_compare_table, bound=bound), as_json=as_json, default=sys.stderr)
    if "--parquet" in outputs:
        from quire.report.columns import compare_parquet

        outputs.write("--parquet", compare_parquet(record))
    if plot is not None:
        from quire.report.chart import compare_chart

        outputs.write("--plot", compare_chart(record, picture_form(plot), relative=relative, bound=bound))
    return left.status
