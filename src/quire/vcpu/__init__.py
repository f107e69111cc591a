"""vCPUs: the VMCS, VM-entry checks, exits, and the protocols that every Cpu and Mmu fulfils.

Contract: a VM exit is complete in the VMCS before a handler sees it; a VM entry that breaks a rule names the rule,
the field, the value and what would satisfy it. The room executes nothing.
"""

from quire.vcpu.entry_checks import RULES, BrokenRule, EntryRule, check_entry
from quire.vcpu.protocols import Cpu, Mmu, Registers
from quire.vcpu.stop import Exit, Interrupted, Stop, Syscall, Trap, TrapKind
from quire.vcpu.vcpu import EntryFailure, Vcpu
from quire.vcpu.vmcs import REVISION, LaunchState, Vmcs

__all__ = [
    "REVISION",
    "RULES",
    "BrokenRule",
    "Cpu",
    "EntryFailure",
    "EntryRule",
    "Exit",
    "Interrupted",
    "LaunchState",
    "Mmu",
    "Registers",
    "Stop",
    "Syscall",
    "Trap",
    "TrapKind",
    "Vcpu",
    "Vmcs",
    "check_entry",
]
