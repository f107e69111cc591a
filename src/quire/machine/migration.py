"""Guest pages that move between nodes while the guest runs, without its knowledge.

A page moves as a whole block of the guest's host page size: a frame on the other node, a copy, the memory map's entry
with its rights and flags on the new frame, invalidation of what any vCPU cached (SDM 3C §28.4.3.3: the address
changed), the old frame freed. The guest's own tables lie in guest pages and move as these do. A move that cannot be
made leaves everything as it was.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.machine.machine import Machine
from quire.machine.vcpu import Vcpu
from quire.memory import FRAME_SHIFT, Fill, OutOfFrames
from quire.memory.numa import NodePools
from quire.mmu.abilities import Mapped
from quire.mmu.paged import block_order
from quire.tlb import Operation

__all__ = ["balance", "migrate", "move_vcpu", "node_of"]


def node_of(machine: Machine, gpa: int) -> int | None:
    """Return the node of the host page behind guest-physical `gpa`, None while there is none."""
    mmu, pools = _backed(machine)
    hfn = mmu.blocks.get(_origin(mmu, gpa) & -mmu.page_size)
    return None if hfn is None else pools.node_of(hfn)


def migrate(machine: Machine, gpa: int, node: int) -> bool:
    """Move the guest page that contains `gpa` to `node`; return whether it moved: False if it is there already.

    All its addresses move with it: those that aliases give it too. Raises MisuseError when nothing backs the page,
    OutOfFrames when the node has no room for it.
    """
    mmu, pools = _backed(machine)
    pools.topology.checked(node)
    start, size = _origin(mmu, gpa) & -mmu.page_size, mmu.page_size
    old = mmu.blocks.get(start)
    if old is None:
        raise MisuseError(
            f"Nothing backs the guest page at {gpa:#x}: only what the guest has touched can move"
        )
    if pools.node_of(old) == node:
        return False
    order = block_order(size)
    new = pools.allocate(order, mmu.page_owner, Fill.ZERO, (node,))
    frames = machine.host.memory.frames
    frames[new : new + (1 << order)] = frames[old : old + (1 << order)]
    try:
        _retarget(mmu, start, old << FRAME_SHIFT, new << FRAME_SHIFT)
    except BaseException:
        pools.free(new, order, mmu.page_owner)
        raise
    mmu.blocks[start] = new
    machine.shoot_down(mmu.map_flush)
    for hfn in (old, new):
        machine.forget_code(hfn << FRAME_SHIFT, size)
    pools.free(old, order, mmu.page_owner)
    return True


def _origin(mmu: Mapped, gpa: int) -> int:
    return gpa if mmu.regions is None else mmu.regions.origin(gpa)


def _retarget(mmu: Mapped, start: int, old: int, new: int) -> None:
    """Have every address of the page at `start` map HPA `new` instead of `old`, or none of them."""
    names = [start] if mmu.regions is None else mmu.regions.names(start)
    done: list[int] = []
    try:
        for name in names:
            if (
                name == start or mmu.memory_map.target(name) is not None
            ):  # an alias may not have been touched yet
                mmu.memory_map.retarget(name, mmu.page_size, new)
                done.append(name)
    except BaseException:
        for name in done:
            mmu.memory_map.retarget(name, mmu.page_size, old)
        raise


def move_vcpu(vcpu: Vcpu, node: int) -> None:
    """Run `vcpu` on `node` from now on; what its caches held stays behind. Raises MisuseError for no node."""
    if vcpu.node_references is None:
        raise MisuseError("The host has no nodes that a vCPU could move between: give GuestConfig numa")
    vcpu.node_references.move(node)
    vcpu.node = vcpu.machine.placement.toucher = node
    vcpu.mmu.place(node)
    vcpu.tlb.enter(vcpu.mmu.space)
    for operation in (Operation.INVVPID_CONTEXT, Operation.INVEPT_ALL):
        vcpu.flush(operation)


def balance(
    machine: Machine,
    accesses: npt.NDArray[np.integer],
    *,
    least: int = 2,
    limit: int | None = None,
) -> list[tuple[int, int]]:
    """Move pages to the nodes that use them most; return (GPA, node) of each that moved, the most used first.

    `accesses` counts accesses to each page of the guest's host page size by the node that made them: pages x nodes. A
    page moves when another node makes at least `least` accesses and more than its own; at most `limit` pages move. A
    node that is full is passed over.
    """
    mmu, pools = _backed(machine)
    nodes = pools.topology.count
    if accesses.ndim != 2 or accesses.shape[1] != nodes:
        raise MisuseError(
            f"Accesses of shape {accesses.shape} cannot be balanced: give an array of pages x {nodes} nodes"
        )
    most = accesses.max(axis=1)
    candidates = np.flatnonzero(most >= least)
    order = candidates[np.argsort(-most[candidates], kind="stable")]
    return list(_moved(machine, mmu, accesses, order, limit))


def _moved(
    machine: Machine,
    mmu: Mapped,
    accesses: npt.NDArray[np.integer],
    pages: Iterable[np.integer],
    limit: int | None,
) -> Iterable[tuple[int, int]]:
    done = 0
    for page in pages:
        gpa, row = int(page) * mmu.page_size, accesses[page]
        here, best = node_of(machine, gpa), int(row.argmax())
        if done == limit:
            return
        if here is None or row[best] <= row[here]:
            continue
        try:
            migrate(machine, gpa, best)
        except OutOfFrames:
            continue
        done += 1
        yield gpa, best


def _backed(machine: Machine) -> tuple[Mapped, NodePools]:
    mapped, pools = machine.mmu.mapped, machine.placement.node_pools
    if mapped is None:
        raise MisuseError(
            f"Pages of a guest under {machine.mmu.name} cannot move: its own tables hold host addresses; "
            "give mmu='ept' or 'shadow'"
        )
    if pools is None:
        raise MisuseError("The host has no nodes that pages could move between: give GuestConfig numa")
    return mapped, pools
