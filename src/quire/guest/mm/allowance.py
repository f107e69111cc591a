"""How much a process may map: its limits RLIMIT_AS and RLIMIT_DATA, and what no memory could ever hold.

Models may_expand_vm of mm/mmap.c and the heuristic of __vm_enough_memory (vm.overcommit_memory 0): one request for more
writable memory than the machine has is refused, any number of smaller ones is not. Sizes are in bytes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from quire.arch import WORD
from quire.guest.mm.linux import PAGE_4K, PROT_WRITE
from quire.guest.mm.vma import Vma, VmaList

__all__ = ["Allowance"]


def _most_at_once() -> int:
    """Return what the host would let one mapping have: memory and swap, or anything when it always says yes."""
    try:
        with open("/proc/sys/vm/overcommit_memory", encoding="ascii") as file:
            if file.read().strip() == "1":
                return WORD
        with open("/proc/meminfo", encoding="ascii") as file:
            kib = dict(line.split(":", 1) for line in file)
        return sum(int(kib[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * PAGE_4K


@dataclass(slots=True)
class Allowance:
    """The limits of one address space; WORD is no limit."""

    total: int = WORD
    data: int = WORD
    at_once: int = field(default_factory=_most_at_once)

    def refuses(
        self,
        areas: VmaList,
        more: int,
        *,
        replaced: int = 0,
        data: bool = False,
        memory: bool = False,
        held: bool = True,
    ) -> bool:
        """Whether `more` bytes beside `areas`, in the place of `replaced`, are too many.

        `data` says that they are private and writable, `memory` that no file has them, `held` that memory is to be
        there for them when they are written (no MAP_NORESERVE).
        """
        if areas.mapped_bytes + more - replaced > self.total:
            return True
        if data and self.refuses_data(areas, more):
            return True
        return (data or memory) and held and more > self.at_once

    def refuses_data(self, areas: VmaList, more: int) -> bool:
        """Whether `more` bytes of private, writable memory are too many."""
        return self.data != WORD and _data_bytes(areas) + more > self.data


def _data_bytes(areas: Iterable[Vma]) -> int:
    private = (vma for vma in areas if vma.prot & PROT_WRITE and not vma.shared and not vma.grows_down)
    return sum(vma.end - vma.start for vma in private)
