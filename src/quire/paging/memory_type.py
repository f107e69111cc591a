"""The memory type of an access, from the two leaves that its walk ended in (SDM 3A §4.9.2, SDM 3C §28.3.7.2)."""

from quire.arch import (
    EPT_PTE,
    PTE,
    MemoryType,
    PagingMode,
    combined_memory_type,
    entry_layout,
    pat_index,
    pat_memory_type,
)
from quire.paging.context import Context, Words

__all__ = ["final_memory_type"]

_LARGE = 12  # log2 of the largest page whose PAT bit is not bit 12


def final_memory_type(context: Words, guest_entry: int, guest_shift: int, host_entry: int) -> MemoryType:
    """Return the type of an access whose walk left these leaves in its result (GUEST_ENTRY, HOST_ENTRY).

    With CR0.CD = 1 everything is uncacheable. Without paging the guest's part is write-back under EPT.
    """
    if context[Context.CD]:
        return MemoryType.UC
    mode = PagingMode(int(context[Context.MODE]))
    guest = MemoryType.WB
    if mode:
        leaf = PTE if guest_shift <= _LARGE else entry_layout(2, True, mode)
        bits = (leaf.get(guest_entry, name) for name in ("PWT", "PCD", "PAT"))
        guest = pat_memory_type(int(context[Context.PAT]), pat_index(*bits))
    if not context[Context.EPTP]:
        return guest
    ept = MemoryType(EPT_PTE.get(host_entry, "MT"))
    return combined_memory_type(ept, bool(EPT_PTE.get(host_entry, "IPAT")), guest)
