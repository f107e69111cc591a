"""VMFUNC: what a guest may do without a VM exit. Leaf 0 switches its EPT pointer (SDM 3C §25.5.5)."""

from quire.arch import VM_FUNCTION_CONTROLS, CpuProfile, ExitReason, Vector
from quire.vcpu.checks import VmcsView
from quire.vcpu.checks.execution import ept_pointer_reserved, ept_pointer_valid
from quire.vcpu.delivery import Nested
from quire.vcpu.result import VmSucceed
from quire.vcpu.stop import Exit
from quire.vcpu.vmcs import Vmcs

__all__ = ["vmfunc"]

_LENGTH = 3  # 0F 01 D4
_EPTP_SWITCHING = 0
_FUNCTIONS, _LIST_ENTRIES = 64, 512


def vmfunc(vmcs: Vmcs, profile: CpuProfile, eax: int, ecx: int) -> VmSucceed | Exit | Nested:
    """Execute VMFUNC with the function in `eax` and its operand in `ecx`, both of 32 bits.

    Returns the new EPT pointer in VmSucceed, after which translations use it and PDPTEs stay as they are; the
    VMCS holds it and the EPTP index. Exit 59 if the function is off or the list does not hold a good pointer;
    #UD if VM functions are off.
    """
    view = VmcsView(vmcs, profile)
    if not view.secondary("enable_vm_functions") or eax >= _FUNCTIONS:
        return Nested(Vector.UD)
    leaves = Exit(ExitReason.VMFUNC, instruction_length=_LENGTH)
    if eax != _EPTP_SWITCHING or not VM_FUNCTION_CONTROLS.get(
        view.read("vm_function_controls"), "eptp_switching"
    ):
        return leaves
    if ecx >= _LIST_ENTRIES:
        return leaves
    eptp = view.physical(view.read("eptp_list_address") + 8 * ecx, 8)
    if not (ept_pointer_valid(eptp, profile) and ept_pointer_reserved(eptp, profile)):
        return leaves
    vmcs.write("ept_pointer", eptp)
    if profile.vmx.offers("secondary", "ept_violation_ve"):
        vmcs.write("eptp_index", ecx)
    return VmSucceed(eptp)
