"""``quire numa``: the nodes that there are, and where a program's memory went on them."""

import sys
from typing import TYPE_CHECKING, Any

import click

from quire.arch import PAGES, WORD
from quire.cli.answer import answer_options
from quire.cli.measure import measure
from quire.cli.numa_options import numa_config, numa_options, topology_of
from quire.cli.outputs import Outputs
from quire.cli.run_options import check_host_page, no_argv_option
from quire.cli.sizes import SizeType
from quire.machine import MMUS

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec
    from quire.mmu import NumaConfig

__all__ = ["command"]


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@numa_options
@click.option("--what-if", "choices", multiple=True, metavar="POLICY",
              help="Run again with this policy for guest pages, or replicated (tables); may be repeated.")  # fmt: skip
@click.option("--mmu", type=click.Choice(MMUS), default="ept", show_default=True,
              help="One dimension of tables, two, or a shadow that joins them.")  # fmt: skip
@click.option("--guest-page", type=click.Choice(list(PAGES)[:2]), default="4K", show_default=True,
              help="Largest page of the guest's own tables.")  # fmt: skip
@click.option("--host-page", type=click.Choice(list(PAGES)), default="4K", show_default=True,
              help="Size of the pages that back guest memory.")  # fmt: skip
@click.option("--memory", type=SizeType(), default="2G", show_default=True, metavar="SIZE",
              help="Guest memory; costs only what is touched.")  # fmt: skip
@click.option("--profile", default="skylake-x", show_default=True, metavar="NAME|FILE",
              help="The processor: one that quire profiles lists, or a TOML file.")  # fmt: skip
@click.option("--costs", metavar="NAME|FILE",
              help="Cycles of each event, by default those of the processor: by name, or a TOML file.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, WORD), default=0, show_default=True,
              help="Seed of the guest's randomness and address layout.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Runs at a time, after the first.")  # fmt: skip
@answer_options("stderr")
@no_argv_option
@click.argument("program", required=False)
@click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED)
def command(**options: Any) -> int:
    """Show the NUMA nodes; with PROGRAM, run it on them and show where its pages and tables went.

    Every data access and every reference of a page walk is counted by node; what remote ones cost that miss the last
    cache (--last-cache, by default that of --costs) is predicted. The program's output is shown once, its exit status
    is quire's; quire's own failures are 125.

    \b
    Examples:
      quire numa
      quire numa --numa 4x8G
      quire numa --numa 2x4G -- sort /etc/passwd
      quire numa --numa 2x4G --vcpu-node 1 --numa-policy bind:0 --what-if interleave --what-if replicated -- true
    """
    outputs = Outputs("numa", {"--output": options["output"]})
    check_host_page(options)
    topology = topology_of(options["numa"] or "host", options["distances"])
    assert topology is not None
    if options["program"] is None:
        if options["choices"]:
            raise click.UsageError("--what-if says nothing without a program: name one")
        from quire.report.numa import render_topology

        outputs.answer(
            topology_record(topology), render_topology, as_json=options["as_json"], default=sys.stdout
        )
        return 0
    return _study({**options, "numa": options["numa"] or "host"}, outputs)


def topology_record(topology: Any) -> dict[str, Any]:
    """Return the nodes as a plain record."""
    return {
        "sizes": list(topology.sizes),
        "distances": [list(row) for row in topology.distances],
        "source": topology.source,
        "fallback": [list(topology.order_from(node)) for node in range(topology.count)],
    }


def _study(options: dict[str, Any], outputs: Outputs) -> int:
    """Run the program under each choice and write what came of it; return its exit status."""
    from quire.arch import profile_by_name
    from quire.errors import FormatError, MisuseError
    from quire.report.numa import render_numa
    from quire.study import costs_for
    from quire.study.numa import NUMA_NOT_MODELLED, NumaChoice, numa_study
    from quire.study.runner import check_settings
    from quire.version import __version__

    try:
        costs = costs_for(profile_by_name(options["profile"]), options["costs"])
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    if options["last_cache"] is None:
        options["last_cache"] = int(costs.caches[-1].size.value)
    asked = {one: _with(options, one) for one in options["choices"]}
    here = _placement(options)
    named = str(here.policy) + (" replicated" if options["replicate_tables"] else "")
    choices = [NumaChoice(named, here), *(NumaChoice(name, _placement(one)) for name, one in asked.items())]
    spec = _spec(options)
    try:
        check_settings(spec, choices)
    except MisuseError as error:
        raise click.UsageError(str(error)) from None
    left = measure("numa", spec, choices, options["jobs"])
    if isinstance(left, int):
        return left
    runs = left.runs
    record = {
        "schema": 1,
        "quire": __version__,
        "program": {"argv": spec.recorded_command},
        "config": {
            "mmu": options["mmu"],
            "profile": runs[0].record["config"]["profile"],
            "costs": costs.name,
            "last_cache": options["last_cache"],
        },
        "partial": left.partial,
        "runs": [{"name": run.configuration.name, **numa_study(run.record, costs)} for run in runs],
        "same_output": len({run.stdout_sha256 for run in runs}) == 1,
        "not_modelled": list(NUMA_NOT_MODELLED),
    }
    outputs.answer(record, render_numa, as_json=options["as_json"], default=sys.stderr)
    return left.status


def _with(options: dict[str, Any], choice: str) -> dict[str, Any]:
    """Return the options with one thing changed: what a --what-if asks for."""
    if choice == "replicated":
        return {**options, "replicate_tables": True, "host_tables": None}
    return {**options, "numa_policy": choice}


def _placement(options: dict[str, Any]) -> "NumaConfig":
    """Return what the options say of nodes. Raises click.UsageError."""
    found = numa_config(options)
    assert found is not None, "a study names nodes"
    return found


def _spec(options: dict[str, Any]) -> "RunSpec":
    """Return what all runs share. Raises click.UsageError."""
    from quire.arch import profile_by_name
    from quire.cpu import Detail
    from quire.errors import FormatError, MisuseError
    from quire.guest.run_spec import RunSpec
    from quire.machine import GuestConfig
    from quire.tlb import TlbOptions

    try:
        config = GuestConfig(
            mmu=options["mmu"],
            memory=options["memory"],
            guest_page=PAGES[options["guest_page"]],
            host_page=PAGES[options["host_page"]],
            profile=profile_by_name(options["profile"]),
            seed=options["seed"],
            tlb=TlbOptions(seed=options["seed"]),
        )
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    command = (options["program"], *options["arguments"])
    return RunSpec(
        command, config, Detail.FULL, seed=options["seed"], record_arguments=not options["no_argv"]
    )
