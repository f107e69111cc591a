"""The vsyscall page: three system calls at fixed addresses, for programs older than the vDSO.

Models arch/x86/entry/vsyscall/vsyscall_64.c in its mode "xonly", the one of today's kernels: a call into the page
faults and is carried out then; the page cannot be read. A bad pointer is SIGSEGV, not EFAULT.
"""

import errno
import signal

from quire.arch import PAGE_SHIFT, PF_ERROR, WORD
from quire.guest.kernel.siginfo import SI_KERNEL, SignalInfo
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import VSYSCALL
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import dispatch, syscall_name

__all__ = ["VSYSCALL_PAGE", "call_vsyscall"]

VSYSCALL_PAGE = VSYSCALL >> PAGE_SHIFT
_FETCH = PF_ERROR.mask("ID")
#: gettimeofday, time and getcpu, by the address of each.
_CALLS = {VSYSCALL: 96, VSYSCALL + 0x400: 201, VSYSCALL + 0x800: 309}
_REGISTERS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


def call_vsyscall(task: Task, gva: int, error_code: int) -> bool:
    """Do the call at `gva` and return from it, or send SIGSEGV; return whether the fault was a call at all."""
    if not error_code & _FETCH:
        return False
    number = _CALLS.get(gva)
    if number is None:
        _refuse(task, f"the vsyscall page has no call at {gva:#x}")
        return True
    registers = task.machine.registers
    name = syscall_name(number)
    rsp, *arguments = registers.read_many(("rsp", *_REGISTERS))
    if name == "getcpu":
        arguments[2] = 0
    try:
        caller = int.from_bytes(task.memory.read(rsp, 8), "little")
    except BadAddress:
        _refuse(task, f"a call of the vsyscall page without a stack, at {rsp:#x}")
        return True
    first, second, third, fourth, fifth, sixth = arguments
    result = dispatch(task, number, (first, second, third, fourth, fifth, sixth))
    if result == -errno.EFAULT:
        _refuse(task, f"a bad pointer was given to the vsyscall page's {name}")
        return True
    assert isinstance(result, int), f"{name} answers a number"
    registers.write_many({"rax": result & WORD, "rip": caller, "rsp": rsp + 8 & WORD})
    return True


def _refuse(task: Task, text: str) -> None:
    task.signals.force(SignalInfo(signal.SIGSEGV, SI_KERNEL, text=text))
