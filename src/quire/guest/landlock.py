"""Landlock: the host's kernel refuses file accesses of this process by itself, whatever Quire's table said.

Models the user interface of Linux's Documentation/userspace-api/landlock.rst. Rights are the kernel's names; each
version of the interface (its ABI) knows more of them, and those that a kernel does not know are left out.
"""

import os
import struct
from collections.abc import Iterable
from enum import IntFlag

from quire.guest.syscalls import host

__all__ = ["Right", "landlock_version", "restrict"]

_CREATE, _ADD_RULE, _RESTRICT, _PRCTL = 444, 445, 446, 157
_ASK_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38
_RULE = struct.Struct("<Qi")
#: struct landlock_ruleset_attr since a version: rights on files, on the network, and what is kept in.
_ATTRIBUTES = {1: "<Q", 4: "<QQ", 6: "<QQQ"}
_NETWORK = 3  # bind and connect of TCP
_SCOPES = 3  # abstract Unix sockets and signals


class Right(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


#: Rights that came with a later version than the first.
_SINCE = {Right.REFER: 2, Right.TRUNCATE: 3, Right.IOCTL_DEV: 5}
#: What may be allowed for a file; a rule of a file with others is refused.
_OF_FILES = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV


def landlock_version() -> int:
    """Return the version of the interface, 0 where the kernel has none or it is switched off."""
    return max(host.call(_CREATE, 0, 0, _ASK_VERSION), 0)


def restrict(refused: Right, allowed: Iterable[tuple[str | int, Right]]) -> bool:
    """Refuse `refused` everywhere but at the paths, or descriptors, of `allowed`, to this thread and its later ones.

    The network and signals to other processes are refused as far as the kernel can. It cannot be taken back. Returns
    whether it stands; a path that is not there is left out.
    """
    version = landlock_version()
    if not version:
        return False
    known = Right(sum(right for right in Right if _SINCE.get(right, 1) <= version))
    handled = refused & known
    form = _ATTRIBUTES[max(since for since in _ATTRIBUTES if since <= version)]
    words = (handled, _NETWORK, _SCOPES)[: len(form) - 1]
    attributes = host.HostBuffer(struct.calcsize(form), struct.pack(form, *words))
    rules = host.call(_CREATE, attributes.address, attributes.size, 0)
    if rules < 0:
        return False
    try:
        for place, rights in allowed:
            _allow(rules, place, rights & handled)
        if host.call(_PRCTL, _NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
            return False
        return host.call(_RESTRICT, rules, 0) == 0
    finally:
        os.close(rules)


def _allow(rules: int, place: str | int, rights: Right) -> None:
    path = f"/proc/self/fd/{place}" if isinstance(place, int) else place
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = host.HostBuffer(_RULE.size, _RULE.pack(rights, descriptor))
        if rights:
            host.call(_ADD_RULE, rules, _PATH_BENEATH, rule.address, 0)
    finally:
        os.close(descriptor)
