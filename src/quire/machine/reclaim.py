"""Guest pages whose contents the guest does without: their frames go back to the host, and read as zero afterwards.

What any vCPU cached of such a page is flushed (SDM 3C §28.4.3.3), code compiled from it is dropped, and the next access
is a violation, for which the page is backed as for any that was never touched.
"""

from collections.abc import Iterable

from quire.arch import PAGE_SIZE
from quire.machine.machine import Machine
from quire.memory import FRAME_SHIFT
from quire.mmu.paged import block_order

__all__ = ["reclaim"]


def reclaim(machine: Machine, gpas: Iterable[int]) -> int:
    """Take back the frames behind the guest pages at `gpas`, any numbers; return how many frames of 4 KiB that were.

    None of a guest without a map below its tables, or with regions, or whose dirty log is on; of a host page that is
    larger than 4 KiB none, since its other pages may be in use.
    """
    mmu = machine.mmu.mapped
    if mmu is None or mmu.page_size != PAGE_SIZE or mmu.regions is not None or machine.mmu.log is not None:
        return 0
    taken: list[int] = []
    try:
        for gpa in gpas:
            start = gpa & -PAGE_SIZE
            if start in mmu.blocks:
                mmu.memory_map.unmap(start)
                taken.append(mmu.blocks.pop(start))
    finally:
        if taken:
            machine.shoot_down(mmu.map_flush)
        for hfn in taken:
            machine.forget_code(hfn << FRAME_SHIFT, PAGE_SIZE)
            machine.host.pool.free(hfn, block_order(PAGE_SIZE), mmu.page_owner)
    return len(taken)
