"""Memory policies: which nodes a thread's memory is to come from. A guest sees one node, 0; its policy is a record."""

import errno

from quire.arch import WORD
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K, page_up
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, fail
from quire.guest.syscalls.state import thread_state
from quire.guest.syscalls.table import syscall

_NODES_MAX = 1024
_NODES_ASKED_MAX = PAGE_4K * 8
_DEFAULT, _PREFERRED, _BIND, _LOCAL, _LAST = 0, 1, 2, 4, 5
_STATIC, _RELATIVE, _BALANCING = 1 << 15, 1 << 14, 1 << 13
_MODE_FLAGS = _STATIC | _RELATIVE | _BALANCING
_MBIND_FLAGS = 7  # STRICT, MOVE, MOVE_ALL


def _nodes(task: Task, pointer: int, count: int) -> int:
    """Return a set of nodes as a number; EINVAL for one that cannot be."""
    if not pointer or count <= 1:
        return 0
    bits = (count - 1) & WORD
    if bits > _NODES_ASKED_MAX:
        raise fail(errno.EINVAL)
    words = task.memory.read(pointer, (bits + 63) // 64 * 8)
    return int.from_bytes(words, "little") & ((1 << bits) - 1)


def _policy(task: Task, mode: int, pointer: int, count: int) -> tuple[int, int]:
    """Return the mode and nodes that a call asks for; EINVAL for those that there are not."""
    flags, kind = mode & _MODE_FLAGS, mode & ~_MODE_FLAGS
    if not 0 <= kind <= _LAST or (flags & _STATIC and flags & _RELATIVE):
        raise fail(errno.EINVAL)
    if flags & _BALANCING and kind != _BIND:
        raise fail(errno.EINVAL)
    nodes = _nodes(task, pointer, count)
    if nodes >> 1:
        raise fail(errno.EINVAL)  # the one node is 0
    empty_is_meant = kind in (_DEFAULT, _LOCAL)
    if (nodes and empty_is_meant) or (not nodes and not empty_is_meant and kind != _PREFERRED):
        raise fail(errno.EINVAL)
    if flags and not nodes:
        raise fail(errno.EINVAL)
    return _LOCAL if kind == _PREFERRED and not nodes else mode, nodes


@syscall(238, "set_mempolicy", S32, POINTER, INT, effect=Effect.GUEST)
def set_mempolicy(task: Task, mode: int, nodes: int, count: int) -> int:
    """Remember the thread's policy."""
    thread_state(task).policy = _policy(task, mode, nodes, count)
    return 0


@syscall(237, "mbind", POINTER, INT, INT, POINTER, INT, INT, effect=Effect.GUEST)
def mbind(task: Task, address: int, length: int, mode: int, nodes: int, count: int, flags: int) -> int:
    """Check a range's policy and accept it: all its memory is of the one node."""
    kind, _ = _policy(task, mode, nodes, count)
    if flags & ~_MBIND_FLAGS or address % PAGE_4K:
        return -errno.EINVAL
    end = address + (page_up(length) & WORD)
    if end > WORD:
        return -errno.EINVAL
    if kind == _DEFAULT:
        return 0 if end == address or task.space.areas.overlapping(address, end) else -errno.EFAULT
    return 0 if end == address or task.space.areas.covered(address, end) else -errno.EFAULT


@syscall(239, "get_mempolicy", POINTER, POINTER, INT, POINTER, INT, effect=Effect.GUEST)
def get_mempolicy(task: Task, mode: int, nodes: int, max_node: int, _address: int, flags: int) -> int:
    """Return the thread's policy; that of an address, and the nodes that there are, are the one node."""
    if flags & ~7 or max_node > _NODES_MAX:
        return -errno.EINVAL
    kind, found = thread_state(task).policy if not flags else (_DEFAULT, 0)
    if mode:
        task.memory.write_u32(mode, kind)
    if nodes and max_node:
        task.memory.write(nodes, found.to_bytes((max_node + 63) // 64 * 8, "little"))
    return 0
