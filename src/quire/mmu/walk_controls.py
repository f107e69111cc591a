"""What the VMCS says of address translation, put into the context of the walk; and back, what the walk counts.

Guest state (CR0, CR3, CR4, EFER) is the Processor's to follow. Here are the controls: the EPT pointer, mode-based
execute, the page-modification log, #VE, paging-write, guest-paging verification (SDM 3C §24.6). Sub-page write
permissions are not offered to a Cpu that runs: an engine that caches whole pages cannot keep them.
"""

from quire.arch import CR0, PRIMARY_CONTROLS, SECONDARY_CONTROLS, TERTIARY_CONTROLS
from quire.paging import Context
from quire.paging.context import Words
from quire.vcpu import Vmcs

__all__ = ["follow_controls", "save_log_index"]

_SECONDARY = {
    Context.MBEC: "mode_based_execute",
    Context.PML: "enable_pml",
    Context.VE: "ept_violation_ve",
}
_TERTIARY = {Context.PAGING_WRITE: "ept_paging_write", Context.VERIFY_PAGING: "guest_paging_verification"}
_VALUES = {
    Context.PML_ADDRESS: "pml_address",
    Context.PML_INDEX: "pml_index",
    Context.VE_INFO: "virtualization_exception_information_address",
    Context.EPTP_INDEX: "eptp_index",
}


def follow_controls(vmcs: Vmcs, context: Words) -> None:
    """Make `context` follow the controls of `vmcs`; memos of walks made under others become stale."""
    primary = vmcs.read("primary_processor_based_controls")
    secondary = tertiary = 0
    if PRIMARY_CONTROLS.get(primary, "activate_secondary_controls"):
        secondary = vmcs.read("secondary_processor_based_controls")
    if PRIMARY_CONTROLS.get(primary, "activate_tertiary_controls"):
        tertiary = vmcs.read("tertiary_processor_based_controls")
    if SECONDARY_CONTROLS.get(secondary, "enable_ept"):
        context[Context.EPTP] = vmcs.read("ept_pointer")
    for field, name in _SECONDARY.items():
        context[field] = SECONDARY_CONTROLS.get(secondary, name)
    for field, name in _TERTIARY.items():
        context[field] = TERTIARY_CONTROLS.get(tertiary, name)
    for field, name in _VALUES.items():
        context[field] = vmcs.read(name)
    if not CR0.get(vmcs.read("guest_cr0"), "PE"):
        context[Context.VE] = 0
    context[Context.VERSION] += context.dtype.type(1)


def save_log_index(vmcs: Vmcs, context: Words) -> int:
    """Put the index that the walk counted down back into the VMCS, as a VM exit does (SDM 3C §28.3.6); return it."""
    index = int(context[Context.PML_INDEX])
    if context[Context.PML]:
        vmcs.record_exit(pml_index=index)
    return index
