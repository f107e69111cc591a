"""The most selective operation that would have dropped a stale mapping, for its class and for who made it stale."""

from collections.abc import Sequence

from quire.observe.flushes.table_log import Change
from quire.paging import Dimension
from quire.tlb import Operation
from quire.tlb.retained import Entry, KeptHostPage, KeptHostTable, KeptPage, KeptTable

__all__ = ["remedy"]

AnyKept = KeptPage | KeptTable | KeptHostPage | KeptHostTable
_GLOBAL = "or a change of CR4.PGE; MOV to CR3 keeps global pages"
_TABLE = "it drops every paging-structure entry of the PCID"


def remedy(
    mapping: AnyKept, entry: Entry | None, change: Change | None, later: Sequence[Operation]
) -> tuple[Operation, str, str]:
    """Return the operation, its operand and a note, both in words.

    `entry` has changed, None if the root is another; `later` was executed since.
    """
    space = mapping.space
    if space.vpid is None or (entry is not None and entry.dimension is Dimension.HOST):
        return Operation.INVEPT_CONTEXT, f"EP4TA {space.ep4ta or 0:#x}", "or type 2, of every EP4TA"
    page = f"address {mapping.start:#x}"
    pcid = "any PCID" if space.pcid is None else f"PCID {space.pcid:#x}"
    if change is not None and change.actor.kind == "hypervisor":
        return (
            Operation.INVVPID_ADDRESS,
            f"VPID {space.vpid:#x}, {page}",
            "the guest cannot know of the change",
        )
    if entry is None and not {Operation.MOV_CR3, Operation.MOV_CR3_KEEP} & set(later):
        return Operation.INVVPID_CONTEXT, f"VPID {space.vpid:#x}", "the VPID has another address space"
    if entry is None and space.pcid is not None:
        return Operation.INVPCID_CONTEXT, pcid, "or MOV to CR3 with bit 63 = 0: the PCID has another root"
    if space.pcid is None:
        return Operation.INVLPG, page, _GLOBAL
    if change is not None and change.actor.pcid != space.pcid:
        return Operation.INVPCID_ADDRESS, f"{pcid}, {page}", "INVLPG reaches the current PCID only"
    return Operation.INVLPG, f"{page}, {pcid}", _TABLE if isinstance(mapping, KeptTable) else ""
