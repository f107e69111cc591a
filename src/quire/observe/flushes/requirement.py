"""When a change of an entry requires an invalidation, and which one a kept mapping would have needed.

SDM 3A §4.10.4.2 and §4.10.4.3, SDM 3C §28.4.3.4: an address, a page size, a memory type or a key that changes, a right
that goes, presence that goes, a dirty flag that is cleared. Not required: 0 to 1 of P, rights that are added, accessed
flags either way (software that reads them must flush, translations stay right).
"""

from dataclasses import replace

from quire.arch import EPT_PDE_2M, EPT_PTE, PDE_2M, PTE
from quire.paging import Dimension
from quire.tlb.invalidation import MappingClass, Operand, Operation, Structures
from quire.tlb.retained import Entry, KeptHostPage, KeptHostTable, KeptPage, KeptTable
from quire.tlb.spaces import Extent

__all__ = ["reaches", "requires_flush", "spared"]

AnyKept = KeptPage | KeptTable | KeptHostPage | KeptHostTable

_ADDRESS = PTE.mask("addr")
_PAT_OR_PS, _PAT_LARGE = PDE_2M.mask("PS"), PDE_2M.mask("PAT")
_SAME = _ADDRESS | _PAT_OR_PS | _PAT_LARGE | PTE.mask("US", "PWT", "PCD", "pkey")
_GOES, _COMES = PTE.mask("P", "RW", "D"), PTE.mask("XD")
_EPT_SAME = _ADDRESS | EPT_PDE_2M.mask("PS") | EPT_PTE.mask("MT", "IPAT")
_EPT_GOES = EPT_PTE.mask("R", "W", "X", "XU", "D")


def requires_flush(entry: Entry, now: int) -> bool:
    """Return whether a mapping made from `entry` must not be used any more when the entry is `now`."""
    then = entry.value
    if then == now:
        return False
    if entry.dimension is Dimension.GUEST:
        return bool((then ^ now) & _SAME or then & ~now & _GOES or now & ~then & _COMES)
    return bool((then ^ now) & _EPT_SAME or then & ~now & _EPT_GOES)


def reaches(operation: Operation, operand: Operand, mapping: AnyKept) -> bool:
    """Return whether `operation` would have dropped `mapping`, executed on its vCPU with that one's VPID."""
    space = mapping.space
    here = replace(operand, vpid=space.vpid or 0)
    extent = space.extent(operation.value, here)
    if extent is Extent.ALL:
        return True
    if isinstance(mapping, KeptPage):
        return extent is Extent.GVA and mapping.translates(here.gva)
    address = here.gva if extent is Extent.GVA else here.gpa
    every = operation.value.structures is Structures.ALL and not isinstance(mapping, KeptHostPage)
    return extent is not Extent.NOTHING and (every or mapping.covers(address))


def spared(operation: Operation, operand: Operand, mapping: AnyKept) -> str:
    """Say why `operation` left `mapping`, which it did not drop, in words that follow its name."""
    rule, space = operation.value, mapping.space
    if not rule.classes:
        return "invalidates nothing"
    if space.mapping_class not in rule.classes:
        return f"reaches no {space.mapping_class} mappings"
    if rule.ep4ta and space.ep4ta != operand.ep4ta:
        return f"reaches EP4TA {operand.ep4ta or 0:#x} only"
    if space.mapping_class is not MappingClass.GUEST_PHYSICAL:
        if rule.spare_vpid_0 and space.vpid == 0:
            return "keeps VPID 0"
        if rule.vpid and space.vpid != operand.vpid:
            return f"reaches VPID {operand.vpid:#x} only"
        if space.pcid is None and not rule.global_pages:
            return "keeps global pages"
        if space.pcid is not None and rule.pcid and space.pcid != operand.pcid:
            return f"reaches PCID {operand.pcid:#x} only"
    if space.extent(rule, operand) is Extent.GPA:
        return f"reaches GPA {operand.gpa:#x} only"
    return f"reaches address {operand.gva:#x} only"
