"""Which nodes a machine has: how much memory each, and how far they are from one another.

Distances are those of ACPI's SLIT (ACPI 6.5 §5.2.17): 10 to itself, more to another node, 255 for one that cannot be
reached, relative and without unit. Node n is the n-th range of host-physical memory, in order. Fails: MisuseError for
what is no topology, FormatError for text that is none, BackendError where the kernel shows no nodes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quire.errors import BackendError, FormatError, MisuseError

__all__ = [
    "LOCAL_DISTANCE",
    "MOST_NODES",
    "NODE_GRAIN",
    "REMOTE_DISTANCE",
    "UNREACHABLE",
    "Topology",
    "read_distances",
]

LOCAL_DISTANCE: Final = 10
REMOTE_DISTANCE: Final = 20  #: what Linux assumes where the firmware says nothing
UNREACHABLE: Final = 255
MOST_NODES: Final = 64
NODE_GRAIN: Final = 2 << 20  #: a node's memory begins and ends at multiples of it

_SYSFS = Path("/sys/devices/system/node")
_NUMACTL_ROW = re.compile(r"^\s*\d+:\s*")


@dataclass(frozen=True, slots=True)
class Topology:
    """Nodes 0 to n - 1: `sizes` in bytes, `distances[a][b]` as a sees b; `source` says who declared them.

    `numbers` are the kernel's of this machine's own nodes, empty for declared ones.
    """

    sizes: tuple[int, ...]
    distances: tuple[tuple[int, ...], ...]
    source: str = "declared"
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.sizes)
        if not 1 <= count <= MOST_NODES:
            raise MisuseError(f"A machine cannot have {count} nodes: give 1 to {MOST_NODES}")
        for node, size in enumerate(self.sizes):
            if size <= 0 or size % NODE_GRAIN:
                raise MisuseError(
                    f"Node {node} cannot have {size:_} bytes: give a positive multiple of {NODE_GRAIN >> 20} MiB"
                )
        if len(self.distances) != count or any(len(row) != count for row in self.distances):
            shape = " ".join(str(len(row)) for row in self.distances)
            raise MisuseError(
                f"{count} nodes need {count} rows of {count} distances, these rows have {shape or 'nothing'}: "
                "give one row for each node"
            )
        for a, row in enumerate(self.distances):
            for b, distance in enumerate(row):
                least = LOCAL_DISTANCE if a == b else LOCAL_DISTANCE + 1
                most = LOCAL_DISTANCE if a == b else UNREACHABLE
                if not least <= distance <= most:
                    raise MisuseError(
                        f"Node {a} cannot be {distance} from node {b}: a node is {LOCAL_DISTANCE} from itself, "
                        f"{LOCAL_DISTANCE + 1} to {UNREACHABLE} from others"
                    )

    @classmethod
    def declared(cls, sizes: Sequence[int], distances: Sequence[Sequence[int]] | None = None) -> Topology:
        """Return nodes of `sizes` bytes; without `distances` every other node is 20 away, as Linux assumes."""
        if distances is None:
            numbers = range(len(sizes))
            distances = [[LOCAL_DISTANCE if a == b else REMOTE_DISTANCE for b in numbers] for a in numbers]
        return cls(tuple(sizes), tuple(tuple(row) for row in distances))

    @classmethod
    def of_host(cls, root: Path = _SYSFS) -> Topology:
        """Return the nodes that have memory, as sysfs shows them; sizes are rounded down to 2 MiB.

        Nodes are numbered anew from 0, in the kernel's order. Raises BackendError where there is no such directory.
        """
        try:
            numbers = [n for n in _listed(root / "has_memory") if _memory_of(root, n)]
            rows = {
                n: [int(word) for word in (root / f"node{n}/distance").read_text().split()] for n in numbers
            }
            online = _listed(root / "online")
        except (OSError, ValueError) as error:
            raise BackendError(
                getattr(error, "errno", None) or 0,
                f"{root} does not show this machine's nodes: {error}; declare them, for example 2x8G",
            ) from error
        column = [online.index(n) for n in numbers]
        distances = tuple(tuple(rows[n][at] for at in column) for n in numbers)
        return cls(tuple(_memory_of(root, n) for n in numbers), distances, "sysfs", tuple(numbers))

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.sizes)

    @property
    def size(self) -> int:
        """Memory of all nodes, in bytes."""
        return sum(self.sizes)

    def start(self, node: int) -> int:
        """Return the host-physical address at which the memory of `node` begins."""
        return sum(self.sizes[: self.checked(node)])

    def node_of(self, hpa: int) -> int:
        """Return the node of host-physical `hpa`. Raises MisuseError outside all of them."""
        end = 0
        for node, size in enumerate(self.sizes):
            end += size
            if 0 <= hpa < end:
                return node
        raise MisuseError(f"HPA {hpa:#x} is on no node: their memory ends at {end:#x}")

    def checked(self, node: int) -> int:
        """Return `node`. Raises MisuseError when there is no such node."""
        if not 0 <= node < self.count:
            raise MisuseError(f"There is no node {node}: give 0 to {self.count - 1}")
        return node

    def order_from(self, node: int) -> tuple[int, ...]:
        """Return the nodes that `node` reaches, nearest first, of equal ones the lowest number first."""
        row = self.distances[self.checked(node)]
        reached = (n for n in range(self.count) if row[n] < UNREACHABLE)
        return tuple(sorted(reached, key=lambda n: (row[n], n)))


def read_distances(text: str) -> tuple[tuple[int, ...], ...]:
    """Return the rows of a table of distances: numbers in rows, # comments, or what ``numactl --hardware`` prints.

    Raises FormatError with the line that is neither. Whether the rows fit a machine, :class:`Topology` checks.
    """
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines) if line.strip() == "node distances:"]
    start = heads[0] + 2 if heads else 0  # past the heading and the line of numbers
    rows = []
    for number, line in enumerate(lines[start:], start + 1):
        words = _NUMACTL_ROW.sub("", line.partition("#")[0]).split()
        if not words:
            continue
        if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
            raise FormatError(
                f"Line {number} of the distances is {line.strip()!r}: give one row of numbers a node"
            )
        rows.append(tuple(int(word) for word in words))
    if not rows:
        raise FormatError("The distances have no row: give one row of numbers a node")
    return tuple(rows)


# A list of the kernel's, such as 0-2,4.
def _listed(path: Path) -> list[int]:
    found: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _memory_of(root: Path, node: int) -> int:
    words = (root / f"node{node}/meminfo").read_text().split()
    return int(words[words.index("MemTotal:") + 1]) * 1024 // NODE_GRAIN * NODE_GRAIN
