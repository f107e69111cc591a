"""Options that give a guest's host NUMA nodes, and what is made of them."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from quire.cli.sizes import SizeType

if TYPE_CHECKING:
    from quire.memory.numa import Topology
    from quire.mmu import NumaConfig

__all__ = ["numa_config", "numa_options", "topology_of"]

_HOST = "host"
_MOST_NODES = 64


def _nodes(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Return the nodes of a list such as 0,1. Raises click.BadParameter."""
    found = []
    for part in value.split(",") if value is not None else ():
        if not (part.isascii() and part.isdigit() and int(part) < _MOST_NODES):
            raise click.BadParameter(
                f"{part!r} is no node: give 0 to {_MOST_NODES - 1}, or a list such as 0,1"
            )
        found.append(int(part))
    return tuple(found)


_OPTIONS = (
    click.option("--numa", metavar="NODES",
                 help="Nodes of the host: 4x8G, or 8G,8G,16G, or host for this machine's own."),
    click.option("--distances", metavar="FILE",
                 help="Distances between them: rows of numbers, 10 is local, or numactl --hardware's output."),
    click.option("--numa-policy", metavar="POLICY",
                 help="Of guest pages: first-touch (default), local, preferred:N, bind:N,M, interleave[:N,M], "
                      "weighted-interleave:3,1."),
    click.option("--guest-tables", metavar="POLICY", help="Of the guest's page tables; by default as its pages."),
    click.option("--host-tables", metavar="POLICY",
                 help="Of EPT and shadow tables; by default first-touch."),
    click.option("--vcpu-node", callback=_nodes, metavar="N[,M]...",
                 help="Where the guest runs, one node or one for each vCPU; default 0."),
    click.option("--last-cache", type=SizeType(), metavar="SIZE",
                 help="Of the cache before memory, 16 ways; without one every reference reaches memory."),
    click.option("--replicate-tables", is_flag=True,
                 help="Keep a copy of EPT or shadow tables on every node; walks use that of the vCPU's."),
)  # fmt: skip


def numa_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options about nodes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def topology_of(numa: str | None, distances: str | None) -> "Topology | None":
    """Return the nodes that --numa and --distances ask for, None without. Raises click.UsageError."""
    from quire.documents import read_text
    from quire.errors import BackendError, FormatError, MisuseError
    from quire.memory.numa import Topology, read_distances

    if numa is None:
        if distances is not None:
            raise click.UsageError("--distances says nothing without --numa: give both, or neither")
        return None
    try:
        if numa == _HOST:
            if distances is not None:
                raise click.UsageError("--numa host has distances of its own: leave --distances out")
            return Topology.of_host()
        rows = None
        if distances is not None:
            try:
                rows = read_distances(read_text(distances, f"--distances {distances!r}"))
            except OSError as error:
                raise click.UsageError(
                    f"--distances {distances!r} cannot be read: {error.strerror}"
                ) from None
        return Topology.declared(_sizes(numa), rows)
    except (MisuseError, FormatError, BackendError) as error:
        raise click.UsageError(str(error)) from None


def numa_config(options: dict[str, Any]) -> "NumaConfig | None":
    """Return what the options say of nodes, None when they say nothing. Raises click.UsageError."""
    from quire.errors import MisuseError
    from quire.memory.numa import Policy
    from quire.mmu import NumaConfig

    topology = topology_of(options["numa"], options["distances"])
    given = {
        "policy": options["numa_policy"],
        "guest_tables": options["guest_tables"],
        "host_tables": options["host_tables"],
    }
    if topology is None:
        if (
            any(given.values())
            or options["vcpu_node"]
            or options["replicate_tables"]
            or options["last_cache"]
        ):
            raise click.UsageError(
                "Policies, --vcpu-node, --last-cache and --replicate-tables say nothing without nodes: "
                "give --numa, for instance 2x8G"
            )
        return None
    try:
        return NumaConfig(
            topology,
            **{name: Policy.parse(text) for name, text in given.items() if text is not None},
            vcpu_node=options["vcpu_node"][0] if options["vcpu_node"] else 0,
            replicate=options["replicate_tables"],
            last_cache=options["last_cache"] or 0,
        )
    except MisuseError as error:
        raise click.UsageError(str(error)) from None


def _sizes(text: str) -> list[int]:
    """Return the sizes of a list such as 4x8G or 8G,2x4G. Raises click.UsageError."""
    found: list[int] = []
    for part in map(str.strip, text.split(",")):
        hexadecimal = part.lower().startswith("0x")
        count, times, size = ("", "", part) if hexadecimal else part.replace("X", "x").rpartition("x")
        wrong = click.UsageError(f"--numa {text!r} has no nodes {part!r}: give for instance 4x8G or 8G,16G")
        if times and not (re.fullmatch("[0-9]{1,2}", count) and 0 < int(count) <= 64):
            raise wrong
        try:
            found += [SizeType().convert(size, None, None)] * (int(count) if times else 1)
        except click.BadParameter:
            raise wrong from None
    return found
