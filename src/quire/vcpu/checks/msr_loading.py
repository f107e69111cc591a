"""Checks of the VM-entry MSR-load area, which is loaded after the guest's state is accepted (SDM 3C §26.4).

Models the MSRs that a 64-bit kernel and its hypervisor write. An entry that names another MSR is refused as WRMSR
would refuse it. The exit qualification is the number of the first refused entry, counted from 1.
"""

from collections.abc import Callable, Iterator

from quire.arch import EFER, MSR_ENTRY, VMX_MISC
from quire.vcpu.checks.msr_values import VALID
from quire.vcpu.checks.rule import MSR_LOADING, EntryRule, EntryView

__all__ = ["RULES"]

_SECTION = "SDM 3C §26.4"
_BYTES = MSR_ENTRY.width // 8
_EFER = 0xC000_0080
_FS_BASE, _GS_BASE = 0xC000_0100, 0xC000_0101
_SMM_MONITOR_CTL, _SMBASE = 0x9B, 0x9E
# FS.base and GS.base have fields of their own, SMM has its monitor, 0x8xx are the local APIC's in x2APIC mode.
_FORBIDDEN = (_FS_BASE, _GS_BASE, _SMM_MONITOR_CTL, _SMBASE)
_X2APIC = 0x8
_LIST_UNIT = 512  # entries

Valid = Callable[[int, int], bool]


def _any(_: int, __: int) -> bool:
    return True


def _low_half(value: int, _: int) -> bool:
    return not value >> 32


#: MSR number to whether WRMSR takes a value, on a processor with linear addresses so wide.
_WRITABLE: dict[int, Valid] = {
    0x10: _any,  # IA32_TIME_STAMP_COUNTER
    0x48: lambda value, _: not value >> 3,  # IA32_SPEC_CTRL
    0x174: _any,  # IA32_SYSENTER_CS
    0x175: VALID["sysenter_esp"],
    0x176: VALID["sysenter_eip"],
    0x1D9: VALID["debugctl"],
    0x277: VALID["pat"],
    0x38F: VALID["perf_global_ctrl"],
    0x6A2: VALID["s_cet"],
    0x6A8: VALID["interrupt_ssp_table_address"],
    0x6E1: VALID["pkrs"],
    0xD90: VALID["bndcfgs"],
    _EFER: VALID["efer"],
    0xC000_0081: _any,  # IA32_STAR
    0xC000_0082: VALID["sysenter_eip"],  # IA32_LSTAR: canonical too
    0xC000_0083: VALID["sysenter_eip"],  # IA32_CSTAR
    0xC000_0084: _low_half,  # IA32_FMASK
    0xC000_0102: VALID["sysenter_eip"],  # IA32_KERNEL_GS_BASE
    0xC000_0103: _low_half,  # IA32_TSC_AUX
}


def _entries(view: EntryView) -> Iterator[int]:
    """Yield the entries of the area, each as a 128-bit number; none of an area that is not in memory.

    A longer list than the processor recommends (SDM 3D §A.6) has undefined behaviour; what is beyond is not read.
    """
    count, start = view.read("vm_entry_msr_load_count"), view.read("vm_entry_msr_load_address")
    if start % _BYTES or start + _BYTES * count > 1 << view.profile.maxphyaddr:
        return
    most = _LIST_UNIT * (VMX_MISC.get(view.profile.vmx.misc, "msr_list") + 1)
    for n in range(min(count, most)):
        yield view.physical(start + _BYTES * n, _BYTES)


def _reserved(entry: int, _: EntryView) -> bool:
    return not entry & MSR_ENTRY.reserved_mask


def _permitted(entry: int, _: EntryView) -> bool:
    index = MSR_ENTRY.get(entry, "index")
    return index not in _FORBIDDEN and index >> 8 != _X2APIC


def _accepted(entry: int, view: EntryView) -> bool:
    """Return whether WRMSR would take the entry; those that other rules refuse are theirs."""
    index, data = MSR_ENTRY.get(entry, "index"), MSR_ENTRY.get(entry, "data")
    if not _permitted(entry, view):
        return True
    valid = _WRITABLE.get(index)
    if valid is None or not valid(data, view.profile.linear_bits):
        return False
    if index != _EFER or not view.cr0("PG"):
        return True
    return EFER.get(data, "LME") == view.entry("ia32e_guest")  # LME cannot change while paging


def _rule(name: str, wants: str, accepts: Callable[[int, EntryView], bool]) -> EntryRule:
    def first_refused(view: EntryView) -> int:
        return next((n for n, entry in enumerate(_entries(view), 1) if not accepts(entry, view)), 0)

    return EntryRule(
        name,
        _SECTION,
        "vm_entry_msr_load_address",
        wants,
        MSR_LOADING,
        lambda view: not first_refused(view),
        qualification=first_refused,
    )


RULES: tuple[EntryRule, ...] = (
    _rule("MSR entry reserved bits", "that of entries with 0 in bits 63:32", _reserved),
    _rule("MSR entry", "that of entries without FS.base, GS.base, SMM and x2APIC MSRs", _permitted),
    _rule("MSR value", "that of entries that WRMSR takes", _accepted),
)
