"""Checks of the VM-exit and VM-entry control fields (SDM 3C §26.2.1.2 and SDM 3C §26.2.1.3).

Quire's processor is never in system-management mode, so the controls for it must be 0.
"""

from quire.arch import (
    INTERRUPTION_INFO,
    MSR_ENTRY,
    VMX_MISC,
    InterruptionType,
    Vector,
)
from quire.vcpu.checks.rule import CONTROLS, Check, EntryRule, EntryView

__all__ = ["RULES"]

_EXIT = "SDM 3C §26.2.1.2"
_ENTRY = "SDM 3C §26.2.1.3"
_MSR_ENTRY_BYTES = MSR_ENTRY.width // 8
_HAS_CODE = (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC)
_LAST_EXCEPTION = 31
_SOFTWARE = (
    InterruptionType.SOFTWARE_INTERRUPT,
    InterruptionType.PRIVILEGED_SOFTWARE_EXCEPTION,
    InterruptionType.SOFTWARE_EXCEPTION,
)
_EVENT = "vm_entry_interruption_information"


def _list_rules(section: str, words: str, prefix: str) -> tuple[EntryRule, EntryRule]:
    """Return the two rules of an area of MSR entries: its alignment and where it ends."""
    address, count = f"{prefix}_address", f"{prefix}_count"

    def aligned(view: EntryView) -> bool:
        return not view.read(count) or not view.read(address) & _MSR_ENTRY_BYTES - 1

    def ends(view: EntryView) -> bool:
        return not view.read(count) or view.is_physical(
            view.read(address) + _MSR_ENTRY_BYTES * view.read(count) - 1
        )

    return (
        EntryRule(f"{words} area", section, address, "aligned to 0x10", CONTROLS, aligned),
        EntryRule(
            f"end of {words} area",
            section,
            address,
            f"such that {count} entries end below 1 << MAXPHYADDR",
            CONTROLS,
            ends,
        ),
    )


def _secondary_exit(view: EntryView) -> bool:
    if not view.exit("activate_secondary_controls"):
        return True
    return view.profile.vmx.secondary_exit.permits(view.read("secondary_vm_exit_controls"))


def _event_type(view: EntryView) -> bool:
    kind = view.injected("type")
    if kind == InterruptionType.OTHER_EVENT:  # a pending MTF exit
        return view.profile.vmx.offers("primary", "monitor_trap_flag")
    return kind != 1


def _event_vector(view: EntryView) -> bool:
    vector, kind = view.injected("vector"), view.injected("type")
    if kind == InterruptionType.NMI:
        return vector == Vector.NMI
    if kind == InterruptionType.HARDWARE_EXCEPTION:
        return vector <= _LAST_EXCEPTION
    return kind != InterruptionType.OTHER_EVENT or vector == 0


def _event_error_code(view: EntryView) -> bool:
    """Deliver-error-code must say what the exception has, unless the processor leaves that to software."""
    coded = bool(view.injected("error_valid"))
    if view.injected("type") != InterruptionType.HARDWARE_EXCEPTION or not view.cr0("PE"):
        return not coded
    return view.profile.vmx.any_error_code or coded == (view.injected("vector") in _HAS_CODE)


def _event_reserved(view: EntryView) -> bool:
    forbidden = INTERRUPTION_INFO.reserved_mask | INTERRUPTION_INFO.mask("nmi_unblocking")
    if not view.profile.vmx.offers("entry", "load_fred"):
        forbidden |= INTERRUPTION_INFO.mask("nested_exception")
    return not view.read(_EVENT) & forbidden


def _error_code(view: EntryView) -> bool:
    return not view.injected("error_valid") or not view.read("vm_entry_exception_error_code") >> 16


def _instruction_length(view: EntryView) -> bool:
    if view.injected("type") not in _SOFTWARE:
        return True
    least = 0 if VMX_MISC.get(view.profile.vmx.misc, "zero_length_injection") else 1
    return least <= view.read("vm_entry_instruction_length") <= 15


def _event(name: str, field: str, wants: str, holds: Check) -> EntryRule:
    """Return a rule that binds only an entry that delivers an event."""
    return EntryRule(
        name, _ENTRY, field, wants, CONTROLS, lambda view: not view.injects or holds(view), moving=True
    )


RULES: tuple[EntryRule, ...] = (
    EntryRule(
        "VM-exit controls",
        _EXIT,
        "vm_exit_controls",
        "as IA32_VMX_TRUE_EXIT_CTLS allows",
        CONTROLS,
        lambda view: view.profile.vmx.exit.permits(view.read("vm_exit_controls")),
    ),
    EntryRule(
        "secondary VM-exit controls",
        _EXIT,
        "secondary_vm_exit_controls",
        "as IA32_VMX_EXIT_CTLS2 allows",
        CONTROLS,
        _secondary_exit,
    ),
    EntryRule(
        "preemption timer",
        _EXIT,
        "vm_exit_controls",
        "without save preemption timer unless the timer is activated",
        CONTROLS,
        lambda view: bool(view.pin("activate_preemption_timer")) or not view.exit("save_preemption_timer"),
    ),
    *_list_rules(_EXIT, "VM-exit MSR-store", "vm_exit_msr_store"),
    *_list_rules(_EXIT, "VM-exit MSR-load", "vm_exit_msr_load"),
    EntryRule(
        "VM-entry controls",
        _ENTRY,
        "vm_entry_controls",
        "as IA32_VMX_TRUE_ENTRY_CTLS allows",
        CONTROLS,
        lambda view: view.profile.vmx.entry.permits(view.read("vm_entry_controls")),
    ),
    _event("event type", _EVENT, "of a type that is not reserved", _event_type),
    _event(
        "event vector",
        _EVENT,
        "of vector 2 for an NMI, 0 to 31 for a hardware exception, 0 for another event",
        _event_vector,
    ),
    _event(
        "deliver error code",
        _EVENT,
        "with an error code if, and only if, the event is an exception that has one and CR0.PE = 1",
        _event_error_code,
    ),
    _event("event reserved bits", _EVENT, "0 in bits 30:12, but for bit 13 with FRED", _event_reserved),
    _event("event error code", "vm_entry_exception_error_code", "0 in bits 31:16", _error_code),
    _event(
        "event instruction length",
        "vm_entry_instruction_length",
        "1 to 15 for a software event; 0 if IA32_VMX_MISC allows that",
        _instruction_length,
    ),
    *_list_rules(_ENTRY, "VM-entry MSR-load", "vm_entry_msr_load"),
    EntryRule(
        "system-management mode",
        _ENTRY,
        "vm_entry_controls",
        "without entry to SMM and deactivate dual-monitor treatment, outside SMM",
        CONTROLS,
        lambda view: not (view.entry("entry_to_smm") or view.entry("deactivate_dual_monitor")),
    ),
)
