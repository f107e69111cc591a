"""Objects of System V IPC: who may use one, what it is known by, and a table of them. Models Linux's ipc/util.c."""

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from quire.arch import LOW32
from quire.guest.kernel.credentials import Credentials

__all__ = ["IPC_NOWAIT", "PRIVATE", "READ", "WRITE", "IpcObject", "IpcTable", "refuse"]

#: IPC_PRIVATE.
PRIVATE = 0
IPC_NOWAIT = 0o4000
_CREAT, _EXCL = 0o1000, 0o2000
#: What a call needs, of whichever class it is in.
READ, WRITE = 0o444, 0o222
_MODE = 0o777
_PERM = struct.Struct("<iIIIIIHHIQQ")
#: An identifier is a sequence number and an index, which are used again one after the other.
_INDEX_BITS, _LEAST_CYCLE, _SEQUENCES = 15, 64, 1 << 16


def refuse(number: int) -> OSError:
    """Return the exception that makes a call answer -`number`."""
    return OSError(number, errno.errorcode[number])


@dataclass(eq=False, kw_only=True)
class IpcObject:
    """One object: of whom it is, who made it, and when it was changed, in s since 1970."""

    key: int
    uid: int
    gid: int
    creator: tuple[int, int]  #: user and group
    mode: int
    changed: int
    ident: int = -1
    removed: bool = False

    def check(self, needs: int, who: Credentials) -> None:
        """Raise EACCES unless `who` may do what `needs` says, in one of its three groups of bits."""
        wanted = (needs >> 6 | needs >> 3 | needs) & 7
        granted = self.mode
        groups = (who.groups.effective, *who.others)
        if who.users.effective in (self.uid, self.creator[0]):
            granted >>= 6
        elif self.gid in groups or self.creator[1] in groups:
            granted >>= 3
        if wanted & ~granted & 7 and not who.capable:
            raise refuse(errno.EACCES)

    def check_owner(self, who: Credentials) -> None:
        """Raise EPERM unless `who` may change or remove it."""
        if who.users.effective not in (self.uid, self.creator[0]) and not who.capable:
            raise refuse(errno.EPERM)

    def change(self, words: bytes, now: int) -> None:
        """Take owner and mode from struct ipc64_perm, as IPC_SET does."""
        _, uid, gid, _, _, mode, *_ = _PERM.unpack_from(words)
        if LOW32 in (uid, gid):
            raise refuse(errno.EINVAL)
        self.uid, self.gid, self.changed = uid, gid, now
        self.mode = self.mode & ~_MODE | mode & _MODE

    def permissions(self) -> bytes:
        """Return it as struct ipc64_perm."""
        sequence = self.ident >> _INDEX_BITS
        return _PERM.pack(self.key, self.uid, self.gid, *self.creator, self.mode, sequence, 0, 0, 0, 0)


_O = TypeVar("_O", bound=IpcObject)


class IpcTable(Generic[_O]):
    """Up to `most` objects of one kind, by index and by key."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._objects: dict[int, _O] = {}
        self._keys: dict[int, _O] = {}
        self._next = self._sequence = 0

    def __iter__(self) -> Iterator[_O]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def highest(self) -> int:
        """The highest index in use, 0 if none is."""
        return max(self._objects, default=0)

    def get(
        self, key: int, flags: int, who: Credentials, make: Callable[[], _O], check: Callable[[_O], None]
    ) -> int:
        """Return the identifier for a key, of an object that `check` accepts, or of a new one. Raises OSError."""
        known = self._keys.get(key) if key != PRIVATE else None
        if known is None:
            if key != PRIVATE and not flags & _CREAT:
                raise refuse(errno.ENOENT)
            if len(self._objects) >= self._most:
                raise refuse(errno.ENOSPC)
            return self._enter(make())
        if flags & _CREAT and flags & _EXCL:
            raise refuse(errno.EEXIST)
        check(known)
        known.check(flags, who)
        return known.ident

    def _enter(self, made: _O) -> int:
        cycle = max(len(self._objects) * 3 // 2 + 1, _LEAST_CYCLE)
        index = self._next % cycle
        while index in self._objects:  # no longer than there are objects
            index = (index + 1) % cycle
        if index < self._next:
            self._sequence = (self._sequence + 1) % _SEQUENCES
        self._next = index + 1
        made.ident = self._sequence << _INDEX_BITS | index
        self._objects[index] = made
        if made.key != PRIVATE:
            self._keys[made.key] = made
        return made.ident

    def find(self, ident: int) -> _O:
        """Return the object with this identifier. Raises EINVAL."""
        found = self._objects.get(ident & (1 << _INDEX_BITS) - 1) if ident >= 0 else None
        if found is None or found.ident != ident:
            raise refuse(errno.EINVAL)
        return found

    def at(self, index: int) -> _O:
        """Return the object at an index, as those list them who look at all. Raises EINVAL."""
        found = self._objects.get(index)
        if found is None:
            raise refuse(errno.EINVAL)
        return found

    def hide(self, one: _O) -> None:
        """Have no key lead to an object any more."""
        if self._keys.get(one.key) is one:
            del self._keys[one.key]
        one.key = PRIVATE

    def remove(self, one: _O) -> None:
        """Take an object out."""
        self.hide(one)
        one.removed = True
        self._objects.pop(one.ident & (1 << _INDEX_BITS) - 1, None)
