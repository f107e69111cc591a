"""VM-entry checks: each a named rule with its section, its field, and what would satisfy it (SDM 3C §26).

A failed entry yields every broken rule, in the order of the manual's sections; the first decides the architectural
result: VMfailValid 7 for controls and 8 for host state, exit reason 33 for guest state and 34 for MSR loading.
"""

from quire.arch import CpuProfile
from quire.vcpu.checks import (
    execution,
    fred_state,
    guest_registers,
    guest_segments,
    guest_state,
    host_state,
    msr_loading,
    transitions,
)
from quire.vcpu.checks.rule import BrokenRule, EntryRule, EntryView, VmcsView
from quire.vcpu.vmcs import Vmcs

__all__ = ["EVENT_FIELDS", "RULES", "BrokenRule", "EntryRule", "EntryView", "VmcsView", "check_entry"]

RULES: tuple[EntryRule, ...] = (
    *execution.RULES,
    *transitions.RULES,
    *host_state.RULES,
    *fred_state.HOST_RULES,
    *guest_registers.RULES,
    *fred_state.GUEST_RULES,
    *guest_segments.RULES,
    *guest_state.RULES,
    *msr_loading.RULES,
)
_MOVING_RULES = tuple(rule for rule in RULES if rule.moving)
#: While nothing is injected, blocked or pending in an active guest, no other moving rule can be broken.
EVENT_FIELDS = (
    "vm_entry_interruption_information",
    "guest_interruptibility_state",
    "guest_pending_debug_exceptions",
    "guest_activity_state",
)
_POINTER_RULES = tuple(rule for rule in _MOVING_RULES if rule.field in ("guest_rip", "guest_rflags"))


def check_entry(vmcs: Vmcs, profile: CpuProfile, *, moving_only: bool = False) -> list[BrokenRule]:
    """Return every rule that the VMCS breaks on `profile`, controls first; empty when the entry succeeds.

    `moving_only` makes only the checks that read RIP, RFLAGS or another field that changes from entry to entry:
    for a VMCS whose other fields passed already, and while RFLAGS.VM is as it was then.
    """
    view = VmcsView(vmcs, profile)
    rules = RULES
    if moving_only:
        rules = _MOVING_RULES if any(map(view.read, EVENT_FIELDS)) else _POINTER_RULES
    return [
        BrokenRule(rule, view.read(rule.field), rule.qualification(view))
        for rule in rules
        if not rule.holds(view)
    ]
