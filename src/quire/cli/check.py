"""``quire check``: conformance suites, run on this machine."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.notices import say_if_compiling
from quire.cli.outputs import Outputs

if TYPE_CHECKING:
    from quire.testing import CaseResult, Suite

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-s", "--suite", "names", multiple=True, metavar="NAME", help="Run this suite only; may be repeated."
)
@click.option(
    "-k",
    "--case",
    "pattern",
    default="*",
    metavar="PATTERN",
    help="Run the cases that match this shell pattern.",
)
@click.option("--list", "only_list", is_flag=True, help="List suites and their cases, run nothing.")
@click.option("--load", "files", multiple=True, metavar="FILE", help="Add the suites of a Python file.")
@click.option(
    "--whole", is_flag=True, help="Walk large spaces whole instead of sampling them (an hour and more)."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of samples and random cases."
)
@click.option("-j", "--jobs", type=click.IntRange(1), default=len(os.sched_getaffinity(0)),
              show_default="processors", help="Cases run at a time.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=7200.0, show_default=True,
              metavar="SECONDS", help="Longest time of one case.")  # fmt: skip
@answer_options("stdout")
@click.option("--junit", metavar="FILE", help="Write JUnit XML there as well.")
def command(
    names: tuple[str, ...],
    pattern: str,
    only_list: bool,
    files: tuple[str, ...],
    whole: bool,
    seed: int,
    jobs: int,
    timeout: float,
    as_json: bool,
    output: str | None,
    junit: str | None,
) -> int:
    """Compare Quire's walks, VM-entry checks, exits and instructions with engines that nobody here wrote.

    Each case runs in a process of its own. Exit status: 0 when all that can run here agrees, 1 when a difference is
    not explained by a known deviation of the oracle, 125 when it cannot start.

    \b
    Examples:
      quire check
      quire check --list
      quire check --suite walk-matrix --case 'guest-2m-*' --whole
      quire check --suite random-walks --seed 7 --json
    """
    from quire.errors import FormatError, MisuseError
    from quire.testing import choose, known_suites

    try:
        suites = choose(known_suites(Path(file) for file in files), names, pattern)
    except (FormatError, MisuseError) as error:
        raise click.ClickException(f"check: {error}") from None
    if only_list:
        from quire.report.shown import shown

        for suite in suites:
            click.echo(shown(f"{suite.name}  ({suite.oracle})  {suite.title}"))
            for case in suite.cases:
                click.echo(shown(f"  {case.name}"))
        return 0
    outputs = Outputs("check", {"--output": output})
    record = _run(suites, seed, whole, jobs, timeout)
    from quire.report.check import render_check_table, render_junit

    if junit:
        try:
            Path(junit).write_text(render_junit(record), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"check: {junit} cannot be written: {error.strerror}") from None
    outputs.answer(record, render_check_table, as_json=as_json, default=sys.stdout)
    outcomes = {case["outcome"] for suite in record["suites"] for case in suite["cases"]}
    return 1 if outcomes & {"failed", "error"} else 0


def _run(suites: "list[Suite]", seed: int, whole: bool, jobs: int, timeout: float) -> dict[str, Any]:
    """Run the suites, with a line of progress on a terminal; return their record."""
    from quire.report.check import check_record
    from quire.testing import Setting, run_suites

    say_if_compiling()
    results = run_suites(suites, Setting(seed, whole), jobs=jobs, timeout=timeout)
    if not sys.stderr.isatty():
        return check_record(results, seed=seed, whole=whole)
    total = sum(len(suite.cases) for suite in suites)
    with click.progressbar(results, length=total, file=sys.stderr, item_show_func=_show) as bar:
        return check_record(bar, seed=seed, whole=whole)


def _show(result: "CaseResult | None") -> str:
    return f"{result.suite}/{result.case}" if result else ""
