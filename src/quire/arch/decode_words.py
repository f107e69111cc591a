"""What a whole value means, where that is more than its fields one by one: events, faults, CR3, AMD's EFER."""

from collections.abc import Callable

from quire.arch.amd import (
    AMD_EFER,
    AMD_PF_ERROR,
    NPF_EXITINFO1,
    describe_amd_page_fault,
    describe_npf,
)
from quire.arch.cpuid import CPUID_80000008_EAX
from quire.arch.exit_words import describe_exit
from quire.arch.exits import EXIT_REASON, INTERRUPTION_INFO, InterruptionType
from quire.arch.faults import PF_ERROR, Vector, describe_page_fault
from quire.arch.layout import Layout
from quire.arch.modes import PagingMode, linear_width
from quire.arch.registers import CR3, EFER, MOV_TO_CR3, pcid
from quire.arch.vmcs import VMCS_ENCODING, field_by_encoding
from quire.errors import MisuseError

__all__ = ["words_of"]

_FOUR_LEVEL_BITS = linear_width(PagingMode.LEVEL_4)  # EPT of 4 levels has the geometry of 4-level paging


def words_of(layout: Layout, value: int) -> str | None:
    """Return `value` in words, or None where its fields say it all."""
    words = _WORDS.get(layout)
    return None if words is None else words(value)


def _page_fault(value: int) -> str | None:
    return None if value & PF_ERROR.reserved_mask else describe_page_fault(value)


def _exit_reason(value: int) -> str:
    return describe_exit(value, 0).partition(":")[0]


def _event(value: int) -> str:
    said = INTERRUPTION_INFO.decode(value)
    if not said["valid"]:
        return "no event"
    kinds = {int(kind) for kind in InterruptionType}
    kind = (
        InterruptionType(said["type"]).name.lower().replace("_", " ") if said["type"] in kinds else "type 1"
    )
    exceptions = (InterruptionType.HARDWARE_EXCEPTION, InterruptionType.SOFTWARE_EXCEPTION)
    name = f"vector {said['vector']:#x}"
    if said["type"] in exceptions and said["vector"] in {int(vector) for vector in Vector}:
        name = f"#{Vector(said['vector']).name}"
    return f"{kind} {name}" + (", with an error code" if said["error_valid"] else "")


def _field(value: int) -> str:
    try:
        return field_by_encoding(value).name
    except MisuseError:
        return "no field"


def _cr3(value: int) -> str | None:
    """Say what the low bits are with PCIDs, and what bit 63 was when the value was written (SDM 3A §4.10.4.1)."""
    words = [f"with CR4.PCIDE = 1 its PCID is {pcid(value):#x}"] if pcid(value) else []
    if MOV_TO_CR3.get(value, "no_flush"):
        words.append(
            "bit 63 is for MOV to CR3 with CR4.PCIDE = 1: translations of the PCID stay; CR3 never holds it"
        )
    return "; ".join(words) or None


def _address_widths(value: int) -> str:
    """Say how far a guest may use its physical addresses: beyond, every access exits where EPT has fewer levels."""
    said = CPUID_80000008_EAX.decode(value)
    own, guest = said["physical_bits"], said["guest_physical_bits"]
    words = f"{own} bits of a physical address, {said['linear_bits']} of a linear one"
    if guest:
        return f"{words}; a guest may use {guest} of the physical ones"
    if own > _FOUR_LEVEL_BITS:
        words += "; GuestPhysBits is 0: under 4-level EPT a guest that uses "
        words += f"more than {_FOUR_LEVEL_BITS} exits for ever"
    return words


def _amd_efer(value: int) -> str | None:
    if not value & EFER.reserved_mask:
        return None
    return f"as AMD's EFER, since Intel reserves bits that are 1: {AMD_EFER.flags(value)}"


_WORDS: dict[Layout, Callable[[int], str | None]] = {
    PF_ERROR: _page_fault,
    EXIT_REASON: _exit_reason,
    INTERRUPTION_INFO: _event,
    VMCS_ENCODING: _field,
    CR3: _cr3,
    CPUID_80000008_EAX: _address_widths,
    AMD_EFER: _amd_efer,
    AMD_PF_ERROR: describe_amd_page_fault,
    NPF_EXITINFO1: describe_npf,
}
