"""The host's own nodes: pages bound to them with mbind(2) and looked for with move_pages(2).

Models nothing: this is the real machine, by the system calls that libnuma wraps, so that it need not be installed. On a
machine with one node all is on node 0. Fails: BackendError with what the kernel said.
"""

from __future__ import annotations

import ctypes
import os
from collections import Counter
from typing import Final

import numpy as np

from quire import failpoints
from quire.errors import BackendError, MisuseError
from quire.memory.host import FRAME_SIZE, HostMemory

__all__ = ["bind_range", "pages_by_node"]

_SYS_MBIND: Final = 237
_SYS_MOVE_PAGES: Final = 279
_MPOL_BIND: Final = 2
_MPOL_MF_STRICT_MOVE: Final = 1 | 2  # move what is there already, and fail if it cannot be
_MASK_BITS: Final = 64
_AT_ONCE: Final = 1 << 30  # bytes that are looked for by one call

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def bind_range(memory: HostMemory, hpa: int, length: int, node: int) -> None:
    """Have the kernel take the pages of a range of host memory from its `node`, and move those that are elsewhere.

    `hpa` and `length` are multiples of 0x1000. Raises MisuseError for a range outside, BackendError when the kernel
    refuses: no such node, no memory there, no right to.
    """
    if hpa < 0 or length <= 0 or (hpa | length) % FRAME_SIZE or hpa + length > memory.size:
        raise MisuseError(
            f"HPA {hpa:#x} with length {length:#x} cannot be bound: give whole frames within {memory.size:#x}"
        )
    if not 0 <= node < _MASK_BITS:
        raise MisuseError(f"There is no node {node}: give 0 to {_MASK_BITS - 1}")
    if failpoints.armed is not None:
        failpoints.reach("mbind", lambda: _refused("mbind", node, 12))
    mask = ctypes.c_uint64(1 << node)
    failed = _syscall(
        ctypes.c_long(_SYS_MBIND),
        ctypes.c_void_p(memory.address + hpa),
        ctypes.c_ulong(length),
        ctypes.c_long(_MPOL_BIND),
        ctypes.byref(mask),
        ctypes.c_ulong(_MASK_BITS + 1),  # the kernel takes one bit fewer than it is told
        ctypes.c_ulong(_MPOL_MF_STRICT_MOVE),
    )
    if failed:
        raise _refused("mbind", node, ctypes.get_errno())


def pages_by_node(memory: HostMemory, hpa: int, length: int) -> dict[int, int]:
    """Return how many resident pages of a range of host memory are on each of the host's nodes, by node.

    Pages that nothing has touched are on none and are not counted. Raises as :func:`bind_range`.
    """
    if hpa < 0 or length < 0 or (hpa | length) % FRAME_SIZE or hpa + length > memory.size:
        raise MisuseError(
            f"HPA {hpa:#x} with length {length:#x} cannot be looked for: give whole frames within {memory.size:#x}"
        )
    if failpoints.armed is not None:
        failpoints.reach("move_pages", lambda: _refused("move_pages", None, 12))
    found: Counter[int] = Counter()
    for start in range(hpa, hpa + length, _AT_ONCE):
        found.update(_nodes_of(memory.address + start, min(_AT_ONCE, hpa + length - start)))
    return dict(sorted(found.items()))


# The nodes of the pages of a range of this process's memory, those left out that nobody has touched.
def _nodes_of(address: int, length: int) -> list[int]:
    count = length // FRAME_SIZE
    pages = address + np.arange(count, dtype=np.uint64) * np.uint64(FRAME_SIZE)
    status = np.zeros(count, np.int32)
    failed = _syscall(
        ctypes.c_long(_SYS_MOVE_PAGES),
        ctypes.c_long(0),
        ctypes.c_ulong(count),
        ctypes.c_void_p(pages.ctypes.data),
        ctypes.c_void_p(None),
        ctypes.c_void_p(status.ctypes.data),
        ctypes.c_long(0),
    )
    if failed:
        raise _refused("move_pages", None, ctypes.get_errno())
    nodes: list[int] = status[status >= 0].tolist()
    return nodes


def _refused(call: str, node: int | None, code: int) -> BackendError:
    where = "" if node is None else f" node {node}"
    return BackendError(
        code,
        f"{call} of host memory to{where} was refused: {os.strerror(code)}; "
        "see quire numa for the nodes that there are, or declare nodes of the model instead",
    )
