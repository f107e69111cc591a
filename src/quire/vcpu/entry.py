"""VM entry: the one path by which VMLAUNCH, VMRESUME and the vCPU of a process guest enter (SDM 3C §26).

Records in the VMCS why an entry failed, as the architecture does. Loading the guest's state and delivering an
injected event are the business of whoever runs the guest.
"""

from quire.arch import ENTRY_FAILURE, INTERRUPTIBILITY, RFLAGS, CpuProfile, VmInstructionError
from quire.vcpu.checks import EVENT_FIELDS, BrokenRule, check_entry
from quire.vcpu.result import EntryExit, VmFailValid, VmSucceed
from quire.vcpu.vmcs import LaunchState, Vmcs, word_of

__all__ = ["enter", "fail"]

_VM_FAILURES = {
    int(error): error
    for error in (VmInstructionError.ENTRY_CONTROL_FIELDS, VmInstructionError.ENTRY_HOST_STATE_FIELDS)
}
_CLEAR, _LAUNCHED = LaunchState.CLEAR, LaunchState.LAUNCHED
_SUCCEEDED = VmSucceed()
_RIP, _RFLAGS, _CR3 = word_of("guest_rip"), word_of("guest_rflags"), word_of("guest_cr3")
_INJECTED, _BLOCKED, _DEBUG, _ACTIVITY = map(word_of, EVENT_FIELDS)
_ERROR_CODE, _LENGTH = word_of("vm_entry_exception_error_code"), word_of("vm_entry_instruction_length")
_MOST_PASSED = 64  # states remembered as passed: a guest at work enters with few
# No entry check reads what arithmetic leaves, so that a guest between two exits seldom meets another state.
_READ_FLAGS = ~RFLAGS.mask("CF", "PF", "AF", "ZF", "SF", "DF", "OF")
_VM_SHIFT = RFLAGS.shift("VM")
_MOV_SS = INTERRUPTIBILITY.mask("blocking_by_mov_ss")


def fail(vmcs: Vmcs, error: VmInstructionError, broken: tuple[BrokenRule, ...] = ()) -> VmFailValid:
    """Return VMfailValid with `error`, which the VMCS then holds."""
    vmcs.record_exit(vm_instruction_error=error)
    return VmFailValid(error, broken)


def enter(
    vmcs: Vmcs, profile: CpuProfile, *, launch: bool, interruptibility: int = 0
) -> VmSucceed | VmFailValid | EntryExit:
    """Do what VMLAUNCH, or with `launch` false VMRESUME, does up to the first instruction of the guest.

    `interruptibility` is the state of the logical processor in VMX root operation. A VMCS that passed once has
    only its moving fields checked until another field is written, and none while all that the checks read of them
    is as it was when they passed.
    """
    if interruptibility & _MOV_SS:
        return fail(vmcs, VmInstructionError.ENTRY_BLOCKED_BY_MOV_SS)
    if launch and vmcs.launch_state is not _CLEAR:
        return fail(vmcs, VmInstructionError.VMLAUNCH_NOT_CLEAR)
    if not launch and vmcs.launch_state is not _LAUNCHED:
        return fail(vmcs, VmInstructionError.VMRESUME_NOT_LAUNCHED)
    moving = _moving(vmcs)
    if moving is not None and moving in vmcs.passed:
        vmcs.launch_state = _LAUNCHED
        return _SUCCEEDED
    state = vmcs.generation, vmcs.words[_RFLAGS] >> _VM_SHIFT & 1, vmcs.words[_CR3] >> 32
    broken = tuple(check_entry(vmcs, profile, moving_only=vmcs.checked == state))
    if not broken:
        vmcs.checked = state
        if len(vmcs.passed) == _MOST_PASSED:
            vmcs.passed.clear()
        if moving is not None:
            vmcs.passed.add(moving)
        vmcs.launch_state = _LAUNCHED
        return _SUCCEEDED
    first = broken[0]
    error = _VM_FAILURES.get(first.rule.result)
    if error is not None:
        return fail(vmcs, error, broken)
    reason = first.rule.result | ENTRY_FAILURE
    vmcs.record_exit(exit_reason=reason, exit_qualification=first.qualification)
    return EntryExit(reason, first.qualification, broken)


def _moving(vmcs: Vmcs) -> tuple[int, ...] | None:
    """Return all that the entry checks read of what moves while no event is blocked or pending; else None.

    Of RIP they read bits 63:32 at most: whether it is canonical, or narrow outside 64-bit code; of CR3 those above
    the physical-address width, which has 32 bits at least.
    """
    words = vmcs.words
    if words[_BLOCKED] or words[_DEBUG] or words[_ACTIVITY]:
        return None
    injected, flags = words[_INJECTED], words[_RFLAGS] & _READ_FLAGS
    high = words[_RIP] >> 32, words[_CR3] >> 32
    if not injected:
        return vmcs.generation, *high, flags
    return vmcs.generation, *high, flags, injected, words[_ERROR_CODE], words[_LENGTH]
