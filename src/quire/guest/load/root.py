"""Names under ``--root DIR``: what lies there is meant, and the host's file where nothing does, as in qemu-user's -L.

A symbolic link within DIR leads to what it would lead to if DIR were ``/``.
"""

import os
import stat

__all__ = ["under_root"]

#: Symbolic links that one name may lead through (MAXSYMLINKS).
_LINKS = 40


def under_root(root: str, name: str, *, follow: bool = True) -> str:
    """Return the host's name of what a guest calls `name`: itself without a `root`, or where that holds no such file.

    With `follow` a link that the name ends with is followed.
    """
    if not root or not name.startswith("/"):
        return name
    return _find(root.rstrip("/"), name, follow) or name


def _find(root: str, name: str, follow: bool) -> str | None:
    """Return where `name` lies under `root`, None if nothing does."""
    at, left, links = root, _parts(name), 0
    while left:
        part = left.pop()
        if part == "..":
            at = at if at == root else os.path.dirname(at)
            continue
        where = f"{at}/{part}"
        try:
            mode = os.lstat(where).st_mode
        except (OSError, ValueError):
            return None
        if not stat.S_ISLNK(mode) or not (left or follow):
            at = where
            continue
        links += 1
        if links > _LINKS:
            return None
        target = os.readlink(where)
        at = root if target.startswith("/") else at
        left += _parts(target)
    return at if name.strip("/") else None


def _parts(name: str) -> list[str]:
    """Return the parts of a name, the last first."""
    return [part for part in reversed(name.split("/")) if part not in ("", ".")]
