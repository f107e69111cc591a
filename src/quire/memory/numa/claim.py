"""A claim on several nodes: frames that are set aside on each, so that a machine that is being built gets them all.

Models: a claim of each node's pool, with what they hold together. Does not model: moving what is left between nodes: a
claimed frame is had on the node where it was claimed. Fails: MisuseError for a claim that is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from quire.errors import MisuseError
from quire.memory.claim import Claim
from quire.memory.owner import Owner

__all__ = ["NodeClaim"]


class NodeClaim:
    """Frames of several nodes set aside for who passes this claim on; made by ``NodePools.claim``.

    An allocation consumes it on the node that serves it, as far as the claim has frames there: one that is served by
    another node leaves it as it is. A context manager: closing gives up what is left.
    """

    def __init__(self, parts: Mapping[int, Claim], owner: Owner) -> None:
        self.owner = owner
        self.frames = sum(part.frames for part in parts.values())
        self._parts = dict(parts)
        self._open = True

    @property
    def left(self) -> int:
        """Frames of it that are not allocated yet."""
        return sum(part.left for part in self._parts.values())

    def left_on(self, node: int) -> int:
        """Return how many of these are on `node`."""
        part = self._parts.get(node)
        return 0 if part is None else part.left

    def part(self, node: int) -> Claim | None:
        """Return the claim on `node`, None when there is none. MisuseError when this claim is closed."""
        if not self._open:
            raise MisuseError(
                f"the claim of {self.owner} is closed: allocate inside its with block, or without it"
            )
        return self._parts.get(node)

    def close(self) -> None:
        """Give up what is left; may be repeated."""
        for part in self._parts.values():
            part.close()
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = ", ".join(f"{part.left:#x} on node {node}" for node, part in self._parts.items())
        return f"<NodeClaim of {self.frames:#x} frames for {self.owner}, left: {where}>"
