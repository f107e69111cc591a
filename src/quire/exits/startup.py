"""INIT and start-up messages: how a processor of several is reset, waits, and starts in real mode (SDM 3A §8.4)."""

from quire.arch import ACCESS_RIGHTS, CR0, GENERAL, RFLAGS
from quire.arch.guest_state import ActivityState
from quire.exits.context import ExitContext
from quire.exits.next_step import RESUME, Next
from quire.vcpu import Exit

__all__ = ["init_signal", "startup_ipi"]

_WAITS = int(ActivityState.WAIT_FOR_SIPI)
_LIMIT = 0xFFFF
_RESET_RIP = 0xFFF0
#: What INIT leaves of CR0.
_KEPT = CR0.mask("CD", "NW")
_RIGHTS = {
    "cs": ACCESS_RIGHTS.encode(type=11, S=1, P=1),
    "ldtr": ACCESS_RIGHTS.encode(type=2, P=1),
    "tr": ACCESS_RIGHTS.encode(type=11, P=1),
}
_DATA = ACCESS_RIGHTS.encode(type=3, S=1, P=1)


def init_signal(context: ExitContext, stop: Exit) -> Next:
    """Reset the processor as INIT does, which then waits for a start-up message (SDM 3A table 9-1)."""
    del stop
    processor, vmcs = context.processor, context.vmcs
    processor.reset(processor.visible(0) & _KEPT | CR0.encode(ET=1), 0, 0, 0)
    fields = dict.fromkeys(
        (
            "guest_gdtr_base",
            "guest_idtr_base",
            "guest_interruptibility_state",
            "vm_entry_interruption_information",
        ),
        0,
    )
    fields |= {"guest_gdtr_limit": _LIMIT, "guest_idtr_limit": _LIMIT, "guest_activity_state": _WAITS}
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"):
        fields[f"guest_{name}_selector"] = fields[f"guest_{name}_base"] = 0
        fields[f"guest_{name}_limit"] = _LIMIT
        fields[f"guest_{name}_access_rights"] = _RIGHTS.get(name, _DATA)
    vmcs.write_many(**fields)
    signature = context.cpuid(1, 0)[0]
    zeros = dict.fromkeys(GENERAL, 0)
    context.cpu.registers.write_many(
        zeros | {"rdx": signature, "rip": _RESET_RIP, "rflags": RFLAGS.encode(always_1=1)}
    )
    return RESUME


def startup_ipi(context: ExitContext, stop: Exit) -> Next:
    """Have a processor that waits for it begin at the page that the message names; another takes no notice."""
    vmcs = context.vmcs
    if vmcs.read("guest_activity_state") == _WAITS:
        vector = stop.qualification
        vmcs.write_many(
            guest_cs_selector=vector << 8,
            guest_cs_base=vector << 12,
            guest_activity_state=ActivityState.ACTIVE,
        )
        context.cpu.registers.write("rip", 0)
    return RESUME
