"""Topologies: declared, of the host, from text; whole messages."""

import re
from pathlib import Path

import pytest

from quire.errors import BackendError, FormatError, MisuseError
from quire.memory.numa import Topology, read_distances

GIB = 1 << 30
RING = ((10, 16, 28, 16), (16, 10, 16, 28), (28, 16, 10, 16), (16, 28, 16, 10))


def test_declared_nodes_are_twenty_apart() -> None:
    topology = Topology.declared([GIB, 2 * GIB])
    assert topology.distances == ((10, 20), (20, 10))
    assert (topology.count, topology.size, topology.source) == (2, 3 * GIB, "declared")
    assert [topology.start(node) for node in (0, 1)] == [0, GIB]
    assert [topology.node_of(hpa) for hpa in (0, GIB - 1, GIB, 3 * GIB - 1)] == [0, 0, 1, 1]


def test_fallback_goes_by_distance_then_number() -> None:
    topology = Topology.declared([GIB] * 4, RING)
    assert topology.order_from(0) == (0, 1, 3, 2)
    assert topology.order_from(2) == (2, 1, 3, 0)
    cut = Topology.declared([GIB] * 2, ((10, 255), (11, 10)))
    assert cut.order_from(0) == (0,)
    assert cut.order_from(1) == (1, 0)


@pytest.mark.parametrize(
    ("sizes", "distances", "text"),
    [
        ([], None, "A machine cannot have 0 nodes: give 1 to 64"),
        ([4096], None, "Node 0 cannot have 4_096 bytes: give a positive multiple of 2 MiB"),
        (
            [GIB] * 2,
            [[10, 20]],
            "2 nodes need 2 rows of 2 distances, these rows have 2: give one row for each node",
        ),
        ([GIB], [[11]], "Node 0 cannot be 11 from node 0: a node is 10 from itself, 11 to 255 from others"),
        (
            [GIB] * 2,
            [[10, 10], [20, 10]],
            "Node 0 cannot be 10 from node 1: a node is 10 from itself, 11 to 255 from others",
        ),
    ],
)
def test_what_is_no_topology(sizes: list[int], distances: list[list[int]] | None, text: str) -> None:
    with pytest.raises(MisuseError, match=f"^{re.escape(text)}$"):
        Topology.declared(sizes, distances)


def test_misuse_of_a_topology() -> None:
    topology = Topology.declared([GIB] * 2)
    with pytest.raises(MisuseError, match=r"^There is no node 2: give 0 to 1$"):
        topology.start(2)
    with pytest.raises(MisuseError, match=r"^HPA 0x80000000 is on no node: their memory ends at 0x80000000$"):
        topology.node_of(2 * GIB)


def test_distances_from_text() -> None:
    assert read_distances("10 21 # from node 0\n\n21 10\n") == ((10, 21), (21, 10))
    numactl = "available: 2 nodes (0-1)\nnode 0 size: 1 MB\nnode distances:\nnode   0   1 \n"
    assert read_distances(numactl + "  0:  10  21 \n  1:  21  10 \n") == ((10, 21), (21, 10))
    with pytest.raises(
        FormatError, match=r"^Line 2 of the distances is 'x 10': give one row of numbers a node$"
    ):
        read_distances("10 20\nx 10\n")
    with pytest.raises(FormatError, match=r"^The distances have no row: give one row of numbers a node$"):
        read_distances("# nothing\n")


def make_sysfs(root: Path, nodes: dict[int, tuple[int, str]], online: str, has_memory: str) -> None:
    (root / "online").write_text(online + "\n")
    (root / "has_memory").write_text(has_memory + "\n")
    for number, (kilobytes, distances) in nodes.items():
        folder = root / f"node{number}"
        folder.mkdir()
        (folder / "meminfo").write_text(
            f"Node {number} MemTotal:       {kilobytes} kB\nNode {number} MemFree: 1 kB\n"
        )
        (folder / "distance").write_text(distances + "\n")


def test_nodes_of_the_host(tmp_path: Path) -> None:
    nodes = {0: (4 << 20, "10 21 31"), 1: (0, "21 10 41"), 4: ((2 << 20) + 7, "31 41 10")}
    make_sysfs(tmp_path, nodes, "0-1,4", "0,4")
    topology = Topology.of_host(tmp_path)
    assert topology.sizes == (4 * GIB, 2 * GIB), "a node without memory is none, sizes are rounded down"
    assert topology.distances == ((10, 31), (31, 10))
    assert (topology.source, topology.numbers) == ("sysfs", (0, 4))


def test_a_kernel_without_nodes(tmp_path: Path) -> None:
    with pytest.raises(
        BackendError, match=r"does not show this machine's nodes: .*; declare them, for example 2x8G$"
    ):
        Topology.of_host(tmp_path / "none")


def test_this_machine() -> None:
    try:
        topology = Topology.of_host()
    except BackendError as error:
        pytest.skip(str(error))
    assert topology.count >= 1
    assert topology.size > 0
