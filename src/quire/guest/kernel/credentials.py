"""The ids of a thread: users, groups, and the rules by which a thread may change them.

Models Linux's kernel/sys.c. They are a record here. Quire's own thread takes on the real, effective and file system
ids, so that the host judges by them, but keeps its saved ones, by which it becomes itself again when the guest ends; a
guest cannot reach those, because the rules are applied here and before the host sees anything.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quire.arch import LOW32

__all__ = ["UNCHANGED", "Credentials", "Ids"]

#: -1 as a 32-bit id: leave this one as it is.
UNCHANGED = LOW32


@dataclass(frozen=True, slots=True)
class Ids:
    """Four users, or four groups."""

    real: int
    effective: int
    saved: int
    fs: int

    def to(self, value: int, capable: bool) -> "Ids | None":
        """Return them after setuid(`value`); None where Linux refuses (EPERM)."""
        if capable:
            return Ids(value, value, value, value)
        return self._with_effective(value) if value in (self.real, self.saved) else None

    def to_real_and_effective(self, real: int, effective: int, capable: bool) -> "Ids | None":
        """Return them after setreuid."""
        pair = (self.real, self.effective, UNCHANGED)
        if not capable and (real not in pair or effective not in (*pair, self.saved)):
            return None
        new = replace(self, real=self.real if real == UNCHANGED else real)
        if effective != UNCHANGED:
            new = new._with_effective(effective)
        if real != UNCHANGED or (effective != UNCHANGED and effective != self.real):
            new = replace(new, saved=new.effective)
        return new

    def to_all(self, real: int, effective: int, saved: int, capable: bool) -> "Ids | None":
        """Return them after setresuid."""
        known = (self.real, self.effective, self.saved, UNCHANGED)
        if not capable and any(value not in known for value in (real, effective, saved)):
            return None
        new = self if effective == UNCHANGED else self._with_effective(effective)
        return replace(
            new,
            real=self.real if real == UNCHANGED else real,
            saved=self.saved if saved == UNCHANGED else saved,
        )

    def to_fs(self, value: int, capable: bool) -> "Ids":
        """Return them after setfsuid, which says nothing when it refuses."""
        known = (self.real, self.effective, self.saved, self.fs)
        return replace(self, fs=value) if value != UNCHANGED and (capable or value in known) else self

    def _with_effective(self, value: int) -> "Ids":
        return replace(self, effective=value, fs=value)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The ids of a thread. `root` says whether it began with the rights of user 0."""

    users: Ids
    groups: Ids
    others: tuple[int, ...]
    root: bool

    @property
    def capable(self) -> bool:
        """Whether it has the rights of user 0 now."""
        return self.root and self.users.effective == 0

    @property
    def judged(self) -> tuple[int, int, int, int]:
        """The ids by which rights are judged: a change of one makes the process another's."""
        return self.users.effective, self.users.fs, self.groups.effective, self.groups.fs

    @classmethod
    def of_this_process(cls) -> "Credentials":
        """Return what a program gets that Quire starts: Quire's own."""
        users, groups = os.getresuid(), os.getresgid()
        own = Ids(*users, users[1]), Ids(*groups, groups[1])
        return cls(*own, tuple(os.getgroups()), root=users == (0, 0, 0))

    def with_others(self, groups: Sequence[int]) -> "Credentials":
        """Return them with other supplementary groups."""
        return replace(self, others=tuple(groups))
