"""Walks of small worlds: page tables that map every address to itself, in one dimension or two, as records."""

from typing import Any

from quire.arch import EPTP, SKYLAKE_X, Access
from quire.paging import Context, new_context
from quire.paging.explanation import explain, explain_gpa

GUEST, HOST, STEP = 0x1000, 0x10_000, 0x1000


class Sparse(dict[int, int]):
    """Words by number; where none is, there is no memory."""

    def __missing__(self, number: int) -> int:
        raise IndexError(number)


class World:
    """Tables of both dimensions; `guest_leaf` and `host_leaf` are the levels at which pages are mapped."""

    def __init__(self, guest: int = 4, host: int = 4, *, guest_leaf: int = 1, host_leaf: int = 1) -> None:
        self.memory = Sparse()
        self.context = new_context(SKYLAKE_X, 1 << 52)
        self.context[Context.MODE] = guest
        self.context[Context.CR3] = GUEST
        self._tables(GUEST, guest, guest_leaf, flags=7)
        if host:
            self.context[Context.EPTP] = EPTP.encode(MT=6, walk_length=host - 1, addr=HOST)
            self._tables(HOST, host, host_leaf, flags=7)

    def _tables(self, root: int, top: int, leaf: int, flags: int) -> None:
        """Index 0 of each table leads on; the last has entries 0 to 63, which map addresses to themselves."""
        place = root
        host = root == HOST
        for _ in range(top, leaf, -1):
            self.memory |= dict.fromkeys(range(place >> 3, (place + STEP) >> 3), 0)
            self.memory[place >> 3] = place + STEP | flags
            place += STEP
        size = 1 << 12 + 9 * (leaf - 1)
        large, kind = (1 << 7 if leaf > 1 else 0), (6 << 3 if host else 0)
        for index in range(512):
            page = index * size if index < 64 else 0
            self.memory[(place >> 3) + index] = page | flags | large | kind

    def edit(self, root: int, depth: int, index: int, value: int) -> None:
        """Replace the entry at `index` of the table that lies `depth` tables below `root`."""
        self.memory[(root + depth * STEP >> 3) + index] = value

    def walk(self, address: int = 0x5678, access: Access = Access.READ) -> dict[str, Any]:
        """Return the record of a walk as `quire walk` makes it."""
        return self._record(explain(self.memory, self.context, address, access))

    def walk_gpa(self, address: int) -> dict[str, Any]:
        """Return the record of EPT's walk alone."""
        return self._record(explain_gpa(self.memory, self.context, address, Access.READ))

    def _record(self, walk: dict[str, Any]) -> dict[str, Any]:
        return {"source": "a small world", "profile": SKYLAKE_X.name, "walk": walk}
