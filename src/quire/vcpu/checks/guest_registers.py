"""Checks of the guest's control registers, debug registers and MSRs, of RIP, RFLAGS and SSP.

SDM 3C §26.3.1.1 and SDM 3C §26.3.1.4. RIP is held to the width of linear addresses, not to their being canonical: a
guest may enter with RIP just beyond the lower half, and then faults.
"""

from quire.arch import CR0, EFER, INTERRUPTION_INFO, RFLAGS, InterruptionType
from quire.vcpu.checks.msr_values import VALID
from quire.vcpu.checks.rule import GUEST_STATE, Check, EntryRule, EntryView

__all__ = ["RULES"]

_REGISTERS = "SDM 3C §26.3.1.1"
_POINTERS = "SDM 3C §26.3.1.4"


def _rule(
    name: str, field: str, wants: str, holds: Check, section: str = _REGISTERS, *, moving: bool = False
) -> EntryRule:
    return EntryRule(name, section, field, wants, GUEST_STATE, holds, moving)


def _msr(words: str, msr: str, wants: str, control: str | None = None) -> EntryRule:
    """Return the rule of a guest MSR, which binds while VM-entry control `control` is 1."""
    field = f"guest_ia32_{msr}"

    def holds(view: EntryView) -> bool:
        unused = control is not None and not view.entry(control)
        return unused or VALID[msr](view.read(field), view.profile.linear_bits)

    return _rule(words, field, wants, holds)


def _cr0(view: EntryView) -> bool:
    """NW and CD are not looked at: VM entry keeps them. An unrestricted guest may be unprotected and unpaged."""
    free = CR0.mask("NW", "CD")
    allowed = view.profile.vmx.cr0
    if view.secondary("unrestricted_guest"):
        free |= CR0.mask("PE", "PG")
    value = view.read("guest_cr0")
    return not (allowed.allowed0 & ~value & ~free or value & ~allowed.allowed1 & ~free)


def _paging(view: EntryView) -> bool:
    return bool(view.cr0("PE")) or not view.cr0("PG")


def _cr4(view: EntryView) -> bool:
    return view.profile.vmx.cr4.permits(view.read("guest_cr4"))


def _ia32e_paging(view: EntryView) -> bool:
    return not view.entry("ia32e_guest") or bool(view.cr0("PG") and view.cr4("PAE"))


def _efer_mode(view: EntryView) -> bool:
    if not view.entry("load_efer"):
        return True
    value = view.read("guest_ia32_efer")
    active = EFER.get(value, "LMA")
    return active == view.entry("ia32e_guest") and (not view.cr0("PG") or active == EFER.get(value, "LME"))


def _half_when_32_bit(view: EntryView, field: str) -> bool:
    """Return whether a pointer has the width that the guest's mode gives it."""
    value = view.read(field)
    if not view.code_64:
        return not value >> 32
    beyond = value >> view.profile.linear_bits
    return beyond in (0, (1 << 64 - view.profile.linear_bits) - 1)


def _rflags(view: EntryView) -> bool:
    value = view.read("guest_rflags")
    return bool(RFLAGS.get(value, "always_1")) and not value & RFLAGS.reserved_mask


def _vm_flag(view: EntryView) -> bool:
    return not view.virtual_8086 or (not view.entry("ia32e_guest") and bool(view.cr0("PE")))


def _if_flag(view: EntryView) -> bool:
    information = view.read("vm_entry_interruption_information")
    external = INTERRUPTION_INFO.get(information, "type") == InterruptionType.EXTERNAL_INTERRUPT
    return not (view.injects and external) or bool(view.rflags("IF"))


RULES: tuple[EntryRule, ...] = (
    _rule(
        "CR0", "guest_cr0", "with PE, NE and PG set and 63:32 clear; unrestricted guests only need NE", _cr0
    ),
    _rule("paging", "guest_cr0", "with PE set when PG is", _paging),
    _rule("CR4", "guest_cr4", "as IA32_VMX_CR4_FIXED0 and FIXED1 allow, VMXE set", _cr4),
    _rule(
        "CET",
        "guest_cr0",
        "with WP set when CR4.CET is",
        lambda view: not view.cr4("CET") or bool(view.cr0("WP")),
    ),
    _msr("DEBUGCTL", "debugctl", "0 in reserved bits", "load_debug_controls"),
    _rule("IA-32e mode", "guest_cr4", "with PAE set, and CR0.PG set, in an IA-32e guest", _ia32e_paging),
    _rule(
        "PCIDE",
        "guest_cr4",
        "with PCIDE clear outside IA-32e mode",
        lambda view: bool(view.entry("ia32e_guest")) or not view.cr4("PCIDE"),
    ),
    _rule(
        "CR3",
        "guest_cr3",
        "below 1 << MAXPHYADDR, but for bits 62:61 with LAM",
        lambda view: view.is_cr3(view.read("guest_cr3")),
    ),
    _rule(
        "DR7",
        "guest_dr7",
        "0 in bits 63:32",
        lambda view: not view.entry("load_debug_controls") or not view.read("guest_dr7") >> 32,
    ),
    _msr("SYSENTER ESP", "sysenter_esp", "canonical"),
    _msr("SYSENTER EIP", "sysenter_eip", "canonical"),
    _msr("S_CET", "s_cet", "canonical, without reserved bits and TRACKER with SUPPRESS", "load_cet"),
    _msr("interrupt SSP table", "interrupt_ssp_table_address", "canonical", "load_cet"),
    _msr(
        "PERF_GLOBAL_CTRL",
        "perf_global_ctrl",
        "0 in bits that enable no counter",
        "load_perf_global_ctrl",
    ),
    _msr("PAT", "pat", "of memory types 0, 1, 4, 5, 6 and 7", "load_pat"),
    _msr("EFER reserved bits", "efer", "0 in reserved bits", "load_efer"),
    _rule("EFER", "guest_ia32_efer", "with LMA as the IA-32e control, equal to LME when paging", _efer_mode),
    _msr("BNDCFGS", "bndcfgs", "canonical and 0 in bits 11:2", "load_bndcfgs"),
    _msr("RTIT_CTL", "rtit_ctl", "0 in reserved bits", "load_rtit_ctl"),
    _msr("LBR_CTL", "lbr_ctl", "0 in reserved bits", "load_lbr_ctl"),
    _msr("PKRS", "pkrs", "0 in bits 63:32", "load_pkrs"),
    _rule(
        "UINV",
        "guest_uinv",
        "from 0 to 0xff",
        lambda view: not view.entry("load_uinv") or view.read("guest_uinv") <= 0xFF,
    ),
    _rule(
        "RIP",
        "guest_rip",
        "as wide as linear addresses in 64-bit code, below 1 << 32 otherwise",
        lambda view: _half_when_32_bit(view, "guest_rip"),
        _POINTERS,
        moving=True,
    ),
    _rule("RFLAGS", "guest_rflags", "with bit 1 set, reserved bits clear", _rflags, _POINTERS, moving=True),
    _rule(
        "virtual-8086 mode",
        "guest_rflags",
        "with VM clear in IA-32e mode and while CR0.PE = 0",
        _vm_flag,
        _POINTERS,
        moving=True,
    ),
    _rule(
        "interrupt flag",
        "guest_rflags",
        "with IF set when an external interrupt is injected",
        _if_flag,
        _POINTERS,
        moving=True,
    ),
    _rule(
        "SSP alignment",
        "guest_ssp",
        "aligned to 4",
        lambda view: not view.entry("load_cet") or not view.read("guest_ssp") & 3,
        _POINTERS,
    ),
    _rule(
        "SSP",
        "guest_ssp",
        "as wide as linear addresses in 64-bit code, below 1 << 32 otherwise",
        lambda view: not view.entry("load_cet") or _half_when_32_bit(view, "guest_ssp"),
        _POINTERS,
    ),
)
