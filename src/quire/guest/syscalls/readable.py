"""What a sandboxed guest may read when `--allow-read` closes the rest: judged by the real path of what a name leads to.

A name is followed on the host and looked at there, once as it stands and once where a link leads, and so is what comes
before each ``..`` in it. What lies outside is EACCES, whether it is there or not.
"""

import errno
import os
import stat
from collections.abc import Iterable

from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import AT_FDCWD, fail
from quire.guest.syscalls.proc_place import place_of

__all__ = ["Readable"]

_OPENAT = 257
#: Names of what a guest has open already, or of its own files.
_ALIASES = frozenset(
    (
        b"/dev/fd",
        b"/dev/stdin",
        b"/dev/stdout",
        b"/dev/stderr",
        b"/proc/self",
        b"/proc/thread-self",
        b"/proc/mounts",
    )
)


class Readable:
    """The files and directories at `paths`, with all that lies below them."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        given = {os.path.abspath(path) for path in paths}
        self.roots = sorted({*given, *(os.path.realpath(path) for path in given)})
        self._above = {above for root in self.roots for above in _ancestors(root)}

    def check_name(self, directory: int, path: bytes) -> None:
        """Raise EACCES when `path`, relative to descriptor `directory`, names something outside, or leads through it.

        So it does for a name that is not there.
        """
        if not path:
            return  # the descriptor itself, which was opened
        parts = path.split(b"/")
        for at, part in enumerate(parts):
            if part == b".." and at:  # what it leads out of must be there, which would tell
                self._check_place(directory, b"/".join(parts[:at]) or b"/", 0)
        self._check_place(directory, path, os.O_NOFOLLOW)
        self._check_place(directory, path, 0)

    def check_opened(self, descriptor: int) -> None:
        """Raise EACCES when a file that was just opened lies outside."""
        if not self._allows(descriptor, metadata=False):
            raise fail(errno.EACCES)

    def _check_place(self, directory: int, path: bytes, nofollow: int) -> None:
        """Raise EACCES when a name leads outside, or would if it were there."""
        name = host.HostBuffer(len(path), path)
        found = host.call(_OPENAT, directory, name.address, os.O_PATH | os.O_CLOEXEC | nofollow)
        if found < 0:
            if not self._would_allow(directory, path):
                raise fail(errno.EACCES)
            return
        try:
            if not self._allows(found, metadata=True):
                raise fail(errno.EACCES)
        finally:
            os.close(found)

    def _would_allow(self, directory: int, path: bytes) -> bool:
        """Whether a name that is not there lies inside: below a root, or in the directory of the guest in procfs."""
        base = b"" if directory == AT_FDCWD else os.fsencode(host.path_of(directory))
        place = os.path.realpath(os.path.join(base, path))
        return self._is_below(place) or place.startswith(b"/proc/%d/" % os.getpid())

    def _is_below(self, path: bytes) -> bool:
        return any(path == root or path.startswith(root.rstrip(b"/") + b"/") for root in self.roots)

    def _allows(self, descriptor: int, *, metadata: bool) -> bool:
        """Whether what a descriptor names may be read; of the directories that lead there only that they are."""
        status = os.fstat(descriptor)
        if host.is_terminal_or_null(descriptor) or (
            stat.S_ISCHR(status.st_mode) and host.device_of(status) in host.RANDOM_DEVICES
        ):
            return True
        link = os.fsencode(host.path_of(descriptor))
        if not link.startswith(b"/") or link.startswith(b"/memfd:"):
            return True  # a pipe, a memory file: the guest's own or given to it
        if link in _ALIASES or (metadata and link in self._above):
            return True
        if self._is_below(link):
            return True
        place = place_of(descriptor)
        return place is not None and place.own


def _ancestors(path: bytes) -> list[bytes]:
    parts = path.split(b"/")[1:-1]
    return [b"/" + b"/".join(parts[:count]) for count in range(len(parts) + 1)]
