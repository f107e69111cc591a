"""Who owns a frame: the kinds of owner, one owner, and the table that numbers owners.

Models: the one owner that every frame has at any time. Does not model: which frames an owner has (``pool``
does). Fails: registering owners without end is a MisuseError, because a frame remembers its owner in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from quire.errors import MisuseError


class OwnerKind(IntEnum):
    """What a frame is used for. The numbers index ``PoolStatistics.frames_by_kind``."""

    FREE = 0
    GUEST_PAGE = 1
    GUEST_TABLE = 2
    EPT_TABLE = 3
    SHADOW_TABLE = 4
    VMCS = 5
    SECURE = 6
    HYPERVISOR = 7
    CACHED = 8  # in a FrameCache: taken from the pool, and nobody's yet


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of frames: its kind and its name, for example ``Owner(OwnerKind.EPT_TABLE, "vm0")``."""

    kind: OwnerKind
    name: str

    def __hash__(self) -> int:
        # Every allocation looks its owner up: the hash of the name alone is cached by the string, and is
        # enough.
        return hash(self.name)

    def __str__(self) -> str:
        return f"{self.kind.name} {self.name!r}"


FREE_OWNER: Final = Owner(OwnerKind.FREE, "free")
FREE_ID: Final = 0
MAX_OWNERS: Final = 0x10000


class OwnerTable:
    """Owners numbered from 0 in the order of their registration; 0 is ``FREE_OWNER``. No number is reused."""

    def __init__(self) -> None:
        self._owners = [FREE_OWNER]
        self._ids = {FREE_OWNER: FREE_ID}

    def register(self, owner: Owner) -> int:
        """Return the number of ``owner``, giving it the next one when it is new.

        MisuseError for an owner of kind FREE other than ``FREE_OWNER``, and when all 0x10000 numbers are
        taken.
        """
        owner_id = self._ids.get(owner)
        if owner_id is not None:
            return owner_id
        if owner.kind is OwnerKind.FREE:
            raise MisuseError(
                f"{owner} cannot own frames: use another OwnerKind, FREE means that nobody does"
            )
        if len(self._owners) == MAX_OWNERS:
            raise MisuseError(
                f"{owner} would be owner {MAX_OWNERS:#x} and the last number is {MAX_OWNERS - 1:#x}: "
                "name owners by role (one for each machine and kind), not by object"
            )
        owner_id = self._ids[owner] = len(self._owners)
        self._owners.append(owner)
        return owner_id

    def find(self, owner: Owner) -> int | None:
        """Return the number of ``owner``, or None when it never was registered."""
        return self._ids.get(owner)

    def lookup(self, owner_id: int) -> Owner:
        """Return the owner with this number. MisuseError when no owner has it."""
        if not 0 <= owner_id < len(self._owners):
            raise MisuseError(
                f"no owner has number {owner_id:#x}: the last is {len(self) - 1:#x}; register it first"
            )
        return self._owners[owner_id]

    def __len__(self) -> int:
        return len(self._owners)
