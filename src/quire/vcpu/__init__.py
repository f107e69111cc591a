"""vCPUs: the VMCS, VM-entry checks, VMX instructions, event delivery, and the protocols of every Cpu.

Contract: a VM exit is complete in the VMCS before a handler sees it; a VM entry that breaks a rule names the rule,
the field, the value and what would satisfy it; delivering an event changes the vCPU's state entirely or not at all.
The room executes no instructions but VMX ones.
"""

from quire.vcpu.checks import RULES, BrokenRule, EntryRule, check_entry
from quire.vcpu.delivery import (
    DescriptorTable,
    EventState,
    LinearMemory,
    MemoryFault,
    Nested,
    NotDelivered,
    deliver,
)
from quire.vcpu.entry import enter
from quire.vcpu.event import Event
from quire.vcpu.injection import Outcome, combine, deliver_event
from quire.vcpu.protocols import (
    Breakpoints,
    Counting,
    Cpu,
    Registers,
    Sliced,
    Slowed,
    TimeStamps,
    breaking,
    counting,
    sliced,
    time_stamps,
    why_slow,
)
from quire.vcpu.result import EntryExit, VmFailInvalid, VmFailValid, VmSucceed, VmxResult
from quire.vcpu.stop import Exit, Interrupted, Stop, Syscall, Trap, TrapKind
from quire.vcpu.vm_functions import vmfunc
from quire.vcpu.vmcs import LaunchState, Vmcs
from quire.vcpu.vmx import Vmx
from quire.vcpu.vmx_state import SHADOW, EntryFailure, VmxState
from quire.vcpu.walk_exit import exit_of_walk

__all__ = [
    "RULES",
    "SHADOW",
    "Breakpoints",
    "BrokenRule",
    "Counting",
    "Cpu",
    "DescriptorTable",
    "EntryExit",
    "EntryFailure",
    "EntryRule",
    "Event",
    "EventState",
    "Exit",
    "Interrupted",
    "LaunchState",
    "LinearMemory",
    "MemoryFault",
    "Nested",
    "NotDelivered",
    "Outcome",
    "Registers",
    "Sliced",
    "Slowed",
    "Stop",
    "Syscall",
    "TimeStamps",
    "Trap",
    "TrapKind",
    "VmFailInvalid",
    "VmFailValid",
    "VmSucceed",
    "Vmcs",
    "Vmx",
    "VmxResult",
    "VmxState",
    "breaking",
    "check_entry",
    "combine",
    "counting",
    "deliver",
    "deliver_event",
    "enter",
    "exit_of_walk",
    "sliced",
    "time_stamps",
    "vmfunc",
    "why_slow",
]
