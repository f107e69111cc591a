"""Quire's own process group on the host: whether it is orphaned, so that nobody would bring it back if it stopped.

The host's kernel does not stop a member of such a group for SIGTSTP, SIGTTIN or SIGTTOU, so the guest's may not either.
"""

import os
from dataclasses import dataclass

__all__ = ["HostGroup"]

#: Fields of /proc/PID/stat behind the name: proc(5) counts that as the second.
_PARENT, _GROUP, _SESSION = 4 - 3, 5 - 3, 6 - 3


def _family(number: int) -> tuple[int, int, int] | None:
    """Return the parent, the group and the session of a process; None if the host does not tell."""
    try:
        with open(f"/proc/{number}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[_PARENT]), int(fields[_GROUP]), int(fields[_SESSION])


@dataclass(frozen=True, slots=True)
class HostGroup:
    """As it was when a guest began: `parent` is Quire's; it is asked anew only when that has gone."""

    parent: int
    orphaned: bool

    @classmethod
    def now(cls) -> "HostGroup":
        """Return what is so now. Of the group's members those count from which Quire descends, up to its first."""
        parent, own = os.getppid(), _family(os.getpid())
        number = parent
        while own is not None and number:
            above = _family(number)
            if above is None:
                break
            if above[1] != own[1]:
                return cls(parent, above[2] != own[2])
            number = above[0]
        return cls(parent, own is not None and not number)

    @property
    def is_orphaned(self) -> bool:
        """Whether nobody would bring Quire back: its parent went, or was of another session from the start."""
        return self.orphaned or os.getppid() != self.parent
