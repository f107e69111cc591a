"""Checks of the guest's non-register state and of its PDPTEs (SDM 3C §26.3.1.5 and §26.3.1.6)."""

from quire.arch import (
    DEBUGCTL,
    INTERRUPTIBILITY,
    NO_VMCS,
    PAE_PDPTE,
    PENDING_DEBUG_EXCEPTIONS,
    VMCS_REVISION,
    VMX_MISC,
    ActivityState,
    InterruptionType,
    Vector,
)
from quire.vcpu.checks.rule import GUEST_STATE, Check, EntryRule, EntryView

__all__ = ["RULES"]

_SECTION = "SDM 3C §26.3.1.5"
_SHADOW = 1 << 31
_CAPABILITY = {
    ActivityState.HLT: "activity_hlt",
    ActivityState.SHUTDOWN: "activity_shutdown",
    ActivityState.WAIT_FOR_SIPI: "activity_wait_for_sipi",
}
_ACTIVITY = "guest_activity_state"
_BLOCKING = "guest_interruptibility_state"
_PENDING = "guest_pending_debug_exceptions"
# Exit qualifications of entries that fail here (SDM 3C §26.8).
_PDPTE, _LINK_POINTER = 2, 4


def _rule(name: str, field: str, wants: str, holds: Check, qualification: int = 0) -> EntryRule:
    return EntryRule(
        name,
        _SECTION,
        field,
        wants,
        GUEST_STATE,
        holds,
        moving=field != "vmcs_link_pointer",
        qualification=lambda _: qualification,
    )


def _blocking(view: EntryView, name: str) -> int:
    return INTERRUPTIBILITY.get(view.read(_BLOCKING), name)


def _shadowed(view: EntryView) -> bool:
    return bool(_blocking(view, "blocking_by_sti") or _blocking(view, "blocking_by_mov_ss"))


def _activity(view: EntryView) -> bool:
    state = view.read(_ACTIVITY)
    if state > ActivityState.WAIT_FOR_SIPI:
        return False
    return state == 0 or bool(VMX_MISC.get(view.profile.vmx.misc, _CAPABILITY[ActivityState(state)]))


def _halted_level(view: EntryView) -> bool:
    return view.read(_ACTIVITY) != ActivityState.HLT or view.rights("ss", "DPL") == 0


def _active_in_shadow(view: EntryView) -> bool:
    return view.read(_ACTIVITY) == ActivityState.ACTIVE or not _shadowed(view)


def _event_wakes(view: EntryView) -> bool:
    """An event can be injected only into a state that it would end."""
    state = view.read(_ACTIVITY)
    if not view.injects or state == ActivityState.ACTIVE or state > ActivityState.WAIT_FOR_SIPI:
        return True
    kind, vector = view.injected("type"), view.injected("vector")
    machine_check = kind == InterruptionType.HARDWARE_EXCEPTION and vector == Vector.MC
    if state == ActivityState.WAIT_FOR_SIPI:
        return False
    if state == ActivityState.SHUTDOWN:
        return kind == InterruptionType.NMI or machine_check
    debug = kind == InterruptionType.HARDWARE_EXCEPTION and vector == Vector.DB
    waking = (InterruptionType.EXTERNAL_INTERRUPT, InterruptionType.NMI, InterruptionType.OTHER_EVENT)
    return kind in waking or debug or machine_check


def _sti_without_if(view: EntryView) -> bool:
    return bool(view.rflags("IF")) or not _blocking(view, "blocking_by_sti")


def _interrupt_in_shadow(view: EntryView) -> bool:
    return not view.injects_type(InterruptionType.EXTERNAL_INTERRUPT) or not _shadowed(view)


def _nmi_in_shadow(view: EntryView) -> bool:
    return not view.injects_type(InterruptionType.NMI) or not _blocking(view, "blocking_by_mov_ss")


def _nmi_blocked(view: EntryView) -> bool:
    if not view.pin("virtual_nmis") or not view.injects_type(InterruptionType.NMI):
        return True
    return not _blocking(view, "blocking_by_nmi")


def _enclave(view: EntryView) -> bool:
    if not _blocking(view, "enclave_interruption"):
        return True
    enclaves = view.profile.vmx.offers("secondary", "enable_encls_exiting")
    return enclaves and not _blocking(view, "blocking_by_mov_ss")


def _pending_reserved(view: EntryView) -> bool:
    forbidden = PENDING_DEBUG_EXCEPTIONS.reserved_mask
    if not view.profile.vmx.offers("secondary", "bus_lock_detection"):
        forbidden |= PENDING_DEBUG_EXCEPTIONS.mask("BLD")
    return not view.read(_PENDING) & forbidden


def _pending_step(view: EntryView) -> bool:
    """With TF and without branch stepping a trap must be pending where the shadow or HLT holds it back."""
    if not _shadowed(view) and view.read(_ACTIVITY) != ActivityState.HLT:
        return True
    due = view.rflags("TF") and not DEBUGCTL.get(view.read("guest_ia32_debugctl"), "BTF")
    return bool(due) == bool(PENDING_DEBUG_EXCEPTIONS.get(view.read(_PENDING), "BS"))


def _pending_rtm(view: EntryView) -> bool:
    value = view.read(_PENDING)
    if not PENDING_DEBUG_EXCEPTIONS.get(value, "RTM"):
        return True
    return (
        view.profile.rtm
        and value == PENDING_DEBUG_EXCEPTIONS.mask("RTM", "enabled_breakpoint")
        and not _blocking(view, "blocking_by_mov_ss")
    )


def _link_address(view: EntryView) -> bool:
    value = view.read("vmcs_link_pointer")
    return value == NO_VMCS or view.is_physical(value, 12)


def _linked(view: EntryView) -> bool:
    """Return whether there is a link pointer to look behind."""
    return view.read("vmcs_link_pointer") != NO_VMCS and _link_address(view)


def _link_revision(view: EntryView) -> bool:
    if not _linked(view):
        return True
    found = view.physical(view.read("vmcs_link_pointer"), 4)
    return found == VMCS_REVISION | (_SHADOW if view.secondary("vmcs_shadowing") else 0)


def _link_current(view: EntryView) -> bool:
    return view.read("vmcs_link_pointer") != view.own_address


def _pdptes(view: EntryView) -> list[int]:
    if view.secondary("enable_ept"):
        return [view.read(f"guest_pdpte{n}") for n in range(4)]
    table = view.read("guest_cr3") & 0xFFFF_FFE0
    return [view.physical(table + 8 * n, 8) for n in range(4)]


def _pae(view: EntryView) -> bool:
    """The PDPTEs that VM entry loads with PAE paging must not have reserved bits set if they are present."""
    if view.entry("ia32e_guest") or not view.cr0("PG") or not view.cr4("PAE"):
        return True
    return all(
        not PAE_PDPTE.get(entry, "P") or view.is_root(entry, PAE_PDPTE.reserved_mask)
        for entry in _pdptes(view)
    )


RULES: tuple[EntryRule, ...] = (
    _rule("activity state", _ACTIVITY, "0 to 3, as IA32_VMX_MISC says", _activity),
    _rule("HLT state", _ACTIVITY, "other than HLT unless SS.DPL is 0", _halted_level),
    _rule("active in shadow", _ACTIVITY, "active while STI or MOV SS blocks", _active_in_shadow),
    _rule("event in activity state", _ACTIVITY, "one that the injected event would end", _event_wakes),
    _rule(
        "interruptibility reserved bits",
        _BLOCKING,
        "0 in bits 31:5",
        lambda view: not view.read(_BLOCKING) & INTERRUPTIBILITY.reserved_mask,
    ),
    _rule(
        "STI and MOV SS",
        _BLOCKING,
        "without blocking by both STI and MOV SS",
        lambda view: not (_blocking(view, "blocking_by_sti") and _blocking(view, "blocking_by_mov_ss")),
    ),
    _rule("blocking by STI", _BLOCKING, "without blocking by STI while RFLAGS.IF = 0", _sti_without_if),
    _rule(
        "interrupt in shadow",
        _BLOCKING,
        "without blocking by STI and MOV SS when an external interrupt is injected",
        _interrupt_in_shadow,
    ),
    _rule(
        "NMI in shadow",
        _BLOCKING,
        "without blocking by MOV SS when an NMI is injected",
        _nmi_in_shadow,
    ),
    _rule(
        "blocking by SMI",
        _BLOCKING,
        "without blocking by SMI outside SMM",
        lambda view: not _blocking(view, "blocking_by_smi"),
    ),
    _rule(
        "blocking by NMI",
        _BLOCKING,
        "without blocking by NMI when an NMI is injected and NMIs are virtual",
        _nmi_blocked,
    ),
    _rule(
        "enclave interruption",
        _BLOCKING,
        "without enclave interruption where there are no enclaves or MOV SS blocks",
        _enclave,
    ),
    _rule("pending debug reserved bits", _PENDING, "0 in reserved bits", _pending_reserved),
    _rule("pending single step", _PENDING, "with BS exactly if RFLAGS.TF steps instructions", _pending_step),
    _rule(
        "pending RTM exception",
        _PENDING,
        "with bit 16 only on a processor with RTM, beside bit 12 alone, and MOV SS not blocking",
        _pending_rtm,
    ),
    _rule(
        "link pointer",
        "vmcs_link_pointer",
        "all ones, or a page below 1 << MAXPHYADDR",
        _link_address,
        _LINK_POINTER,
    ),
    _rule(
        "linked VMCS",
        "vmcs_link_pointer",
        "that of a VMCS of this revision, a shadow VMCS exactly if VMCS shadowing is on",
        _link_revision,
        _LINK_POINTER,
    ),
    _rule("link to itself", "vmcs_link_pointer", "that of another VMCS", _link_current, _LINK_POINTER),
    EntryRule(
        "PDPTEs",
        "SDM 3C §26.3.1.6",
        "guest_cr3",
        "that of a table (with EPT, the PDPTE fields) without reserved bits in present entries",
        GUEST_STATE,
        _pae,
        qualification=lambda _: _PDPTE,
    ),
)
