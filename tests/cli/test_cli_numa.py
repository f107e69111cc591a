"""``quire numa`` and the options about nodes of run and compare: tables, JSON, what is refused in one line."""

import io
import json
import sys
from pathlib import Path

import pytest
from commands import quire, refused
from native import loaded_folder

from quire.errors import BackendError
from quire.memory.numa import Topology
from quire.report.numa import render_numa


def test_declared_nodes(tmp_path: Path) -> None:
    (tmp_path / "far").write_text("10 31\n32 10\n")
    outcome = quire(tmp_path, "numa", "--numa", "2M,1G", "--distances", "far", "--json", "-o", "nodes.json")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert json.loads((tmp_path / "nodes.json").read_text()) == {
        "sizes": [2 << 20, 1 << 30],
        "distances": [[10, 31], [32, 10]],
        "source": "declared",
        "fallback": [[0, 1], [1, 0]],
    }
    lines = quire(tmp_path, "numa", "--numa", "2M,1G", "--distances", "far").stdout.splitlines()
    assert lines[0] == "2 NUMA nodes, declared"
    assert lines[2].split() == ["0", "2", "MiB", "10", "31", "0", "1"]


def test_nodes_of_this_machine(tmp_path: Path) -> None:
    try:
        count = Topology.of_host().count
    except BackendError as error:
        pytest.skip(str(error))
    first = quire(tmp_path, "numa").stdout.splitlines()[0]
    assert first == f"{count} NUMA node{'s' if count > 1 else ''}, sysfs"


@pytest.mark.programs
def test_a_program_and_what_if(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"{loaded_folder()}/quire")
    argv = ("--numa", "2x4G", "--vcpu-node", "1", "--numa-policy", "bind:0", "--host-tables", "bind:0")
    what_if = ("--what-if", "interleave", "--what-if", "replicated", "--what-if", "first-touch")
    outcome = quire(tmp_path, "numa", *argv, *what_if, "--json", "-o", "found.json", "--", "true")
    assert (outcome.status, outcome.stdout) == (0, "")
    record = json.loads((tmp_path / "found.json").read_text())
    assert [run["name"] for run in record["runs"]] == ["bind:0", "interleave", "replicated", "first-touch"]
    assert record["same_output"]
    asked, interleaved, replicated, touched = (run["numa"] for run in record["runs"])
    for kind in ("guest_table", "host_table", "data"):
        assert asked["references"][kind]["local"] == 0 < asked["references"][kind]["remote"]
    assert interleaved["references"]["data"]["local"] > 0
    assert replicated["references"]["host_table"]["remote"] == 0
    assert replicated["frames"]["host_tables"][0] == replicated["frames"]["host_tables"][1]
    assert touched["references"]["data"]["remote"] == 0
    costs = [run["cost"]["total"] for run in record["runs"]]
    assert costs[3] < costs[1] < costs[0]
    assert costs[2] < costs[0]
    shown = io.StringIO()
    render_numa(record, shown)
    table = shown.getvalue()
    assert all(len(line) <= 110 for line in table.splitlines())
    assert "what the cost leaves out" in table


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("numa", "--what-if", "local"), "quire numa: --what-if says nothing without a program: name one"),
        (
            ("run", "--vcpu-node", "1", "--", "true"),
            "quire run: Policies, --vcpu-node, --last-cache and --replicate-tables say nothing without nodes: "
            "give --numa, for instance 2x8G",
        ),
        (
            ("run", "--distances", "x", "--", "true"),
            "quire run: --distances says nothing without --numa: give both, or neither",
        ),
        (
            ("run", "--numa", "2xx", "--", "true"),
            "quire run: --numa '2xx' has no nodes '2xx': give for instance 4x8G or 8G,16G",
        ),
        (
            ("run", "--numa", "65x8G", "--", "true"),
            "quire run: --numa '65x8G' has no nodes '65x8G': give for instance",
        ),
        (
            ("run", "--numa", "2x8G", "--vcpu-node", "2", "--", "true"),
            "quire run: There is no node 2: give 0 to 1",
        ),
        (
            ("run", "--numa", "2x512M", "--", "true"),
            "quire run: A guest with 2_147_483_648 bytes is larger than all nodes, which have "
            "1_073_741_824: give it less, or the nodes more",
        ),
        (
            ("compare", "--numa", "2x8G", "--replicate-tables", "--", "true"),
            "quire compare: Under native there are no tables of the hypervisor that nodes could have copies of: "
            "give mmu='ept' or 'shadow'",
        ),
        (
            ("audit", "--numa", "2x8G", "--numa-policy", "nearest", "--", "true"),
            "quire audit: No NUMA policy is called 'nearest': give one of local, preferred, bind, interleave, "
            "weighted-interleave, first-touch",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, argv: tuple[str, ...], line: str) -> None:
    assert refused(tmp_path, *argv).startswith(line)
