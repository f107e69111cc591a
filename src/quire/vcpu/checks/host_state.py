"""Checks of the host-state area (SDM 3C §26.2.2 to §26.2.4).

VMX root operation is always in IA-32e mode here, so the host address-space size must be 1 and the conditions of a
32-bit host never apply.
"""

from quire.arch import CR0, CR4, EFER, SELECTOR, is_canonical
from quire.vcpu.checks.msr_values import VALID
from quire.vcpu.checks.rule import HOST_STATE, Check, EntryRule, EntryView

__all__ = ["RULES"]

_REGISTERS = "SDM 3C §26.2.2"
_SEGMENTS = "SDM 3C §26.2.3"
_SIZE = "SDM 3C §26.2.4"


def _rule(name: str, section: str, field: str, wants: str, holds: Check) -> EntryRule:
    return EntryRule(f"host {name}", section, field, wants, HOST_STATE, holds)


def _msr(words: str, msr: str, wants: str, control: str | None = None) -> EntryRule:
    """Return the rule of a host MSR, which binds while VM-exit control `control` is 1."""
    field = f"host_ia32_{msr}"

    def holds(view: EntryView) -> bool:
        unused = control is not None and not view.exit(control)
        return unused or VALID[msr](view.read(field), view.profile.linear_bits)

    return _rule(words, _REGISTERS, field, wants, holds)


def _efer_mode(view: EntryView) -> bool:
    both = EFER.mask("LME", "LMA")
    return not view.exit("load_efer") or view.read("host_ia32_efer") & both == both


def _selector(segment: str) -> EntryRule:
    field = f"host_{segment}_selector"
    forbidden = SELECTOR.mask("RPL", "TI")
    return _rule(
        f"{segment.upper()} selector",
        _SEGMENTS,
        field,
        "of the GDT with RPL 0",
        lambda view: not view.read(field) & forbidden,
    )


def _not_null(segment: str) -> EntryRule:
    field = f"host_{segment}_selector"
    return _rule(
        f"{segment.upper()} null", _SEGMENTS, field, "other than 0", lambda view: view.read(field) != 0
    )


def _base(name: str) -> EntryRule:
    field = f"host_{name}_base"
    return _rule(
        f"{name.upper()} base",
        _SEGMENTS,
        field,
        "canonical",
        lambda view: is_canonical(view.read(field), view.profile.linear_bits),
    )


def _rip(view: EntryView) -> bool:
    # Unlike bases and MSRs the host's RIP is held to the paging mode that the exit will load.
    return is_canonical(view.read("host_rip"), 57 if CR4.get(view.read("host_cr4"), "LA57") else 48)


def _cet_write_protect(view: EntryView) -> bool:
    return not CR4.get(view.read("host_cr4"), "CET") or bool(CR0.get(view.read("host_cr0"), "WP"))


RULES: tuple[EntryRule, ...] = (
    _rule(
        "CR0",
        _REGISTERS,
        "host_cr0",
        "as IA32_VMX_CR0_FIXED0 and FIXED1 allow",
        lambda view: view.profile.vmx.cr0.permits(view.read("host_cr0")),
    ),
    _rule(
        "CR4",
        _REGISTERS,
        "host_cr4",
        "as IA32_VMX_CR4_FIXED0 and FIXED1 allow",
        lambda view: view.profile.vmx.cr4.permits(view.read("host_cr4")),
    ),
    _rule("CET", _REGISTERS, "host_cr0", "with WP set when CR4.CET is", _cet_write_protect),
    _rule(
        "CR3",
        _REGISTERS,
        "host_cr3",
        "below 1 << MAXPHYADDR, but for bits 62:61 with LAM",
        lambda view: view.is_cr3(view.read("host_cr3")),
    ),
    _msr("SYSENTER ESP", "sysenter_esp", "canonical"),
    _msr("SYSENTER EIP", "sysenter_eip", "canonical"),
    _msr(
        "PERF_GLOBAL_CTRL",
        "perf_global_ctrl",
        "0 in bits that enable no counter",
        "load_perf_global_ctrl",
    ),
    _msr("PAT", "pat", "of memory types 0, 1, 4, 5, 6 and 7", "load_pat"),
    _msr("EFER reserved bits", "efer", "0 in reserved bits", "load_efer"),
    _rule(
        "EFER", _REGISTERS, "host_ia32_efer", "with LME and LMA as the host address-space size", _efer_mode
    ),
    _msr("S_CET", "s_cet", "canonical, without reserved bits and TRACKER with SUPPRESS", "load_cet"),
    _msr("interrupt SSP table", "interrupt_ssp_table_address", "canonical", "load_cet"),
    _rule(
        "SSP",
        _REGISTERS,
        "host_ssp",
        "canonical and aligned to 4",
        lambda view: (
            not view.exit("load_cet")
            or (
                not view.read("host_ssp") & 3
                and is_canonical(view.read("host_ssp"), view.profile.linear_bits)
            )
        ),
    ),
    _msr("PKRS", "pkrs", "0 in bits 63:32", "load_pkrs"),
    *(_selector(segment) for segment in ("es", "cs", "ss", "ds", "fs", "gs", "tr")),
    _not_null("cs"),
    _not_null("tr"),
    *(_base(name) for name in ("fs", "gs", "gdtr", "idtr", "tr")),
    _rule(
        "address-space size",
        _SIZE,
        "vm_exit_controls",
        "with host address-space size, as VMX root operation is in IA-32e mode",
        lambda view: bool(view.exit("host_address_space_size")),
    ),
    _rule(
        "PAE",
        _SIZE,
        "host_cr4",
        "with PAE set",
        lambda view: bool(CR4.get(view.read("host_cr4"), "PAE")),
    ),
    _rule("RIP", _SIZE, "host_rip", "canonical", _rip),
)
