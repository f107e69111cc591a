"""Which files may become code of this process: those that nobody else can have written."""

import os
import stat

__all__ = ["Untrusted", "read_trusted"]


class Untrusted(Exception):
    """A file that others may have written."""


def read_trusted(path: str) -> bytes:
    """Return what is in the file `path`; Untrusted if it is not the user's own or root's, or others may write it.

    A group that its owner is alone in is not others.
    Raises FileNotFoundError if there is none. It looks at the file that it opened, whatever is renamed meanwhile.
    """
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Untrusted(f"{path} is no file")
        if found.st_uid not in (0, os.geteuid()):
            raise Untrusted(
                f"{path} belongs to user {found.st_uid}, neither to you ({os.geteuid()}) nor to root"
            )
        if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_private(found)):
            raise Untrusted(
                f"{path} may be written by others (mode {found.st_mode & 0o777:o}): chmod go-w it"
            )
        return file.read()


def _is_private(file: os.stat_result) -> bool:
    """Whether the group of `file` is its owner's own, as many systems give each user one, and let it write."""
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(file.st_uid), grp.getgrgid(file.st_gid)
    except KeyError:
        return False
    own = owner.pw_gid == file.st_gid and group.gr_name == owner.pw_name
    return own and set(group.gr_mem) <= {owner.pw_name}
