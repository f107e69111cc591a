"""Which layout the value of a VMCS field has, for the fields that are more than an address or a number (SDM 3C §24)."""

from quire.arch.controls import (
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    VM_FUNCTION_CONTROLS,
)
from quire.arch.ept import EPTP
from quire.arch.exits import EXIT_REASON, INTERRUPTION_INFO
from quire.arch.faults import PF_ERROR
from quire.arch.guest_state import (
    BNDCFGS,
    DEBUGCTL,
    INTERRUPTIBILITY,
    LBR_CTL,
    PENDING_DEBUG_EXCEPTIONS,
    PERF_GLOBAL_CTRL,
    RTIT_CTL,
    S_CET,
)
from quire.arch.layout import Layout
from quire.arch.legacy import PAE_PDPTE
from quire.arch.newer_msrs import FRED_CONFIG
from quire.arch.registers import CR0, CR3, CR4, EFER, RFLAGS
from quire.arch.segments import ACCESS_RIGHTS, SELECTOR

__all__ = ["VMCS_LAYOUTS"]

_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_BOTH = {
    "cr0": CR0,
    "cr3": CR3,
    "cr4": CR4,
    "ia32_efer": EFER,
    "ia32_perf_global_ctrl": PERF_GLOBAL_CTRL,
    "ia32_s_cet": S_CET,
    "ia32_fred_config": FRED_CONFIG,
    **{f"{segment}_selector": SELECTOR for segment in _SEGMENTS},
}
_GUEST = {
    "rflags": RFLAGS,
    "interruptibility_state": INTERRUPTIBILITY,
    "pending_debug_exceptions": PENDING_DEBUG_EXCEPTIONS,
    "ia32_debugctl": DEBUGCTL,
    "ia32_bndcfgs": BNDCFGS,
    "ia32_rtit_ctl": RTIT_CTL,
    "ia32_lbr_ctl": LBR_CTL,
    **{f"{segment}_access_rights": ACCESS_RIGHTS for segment in _SEGMENTS},
    **{f"pdpte{n}": PAE_PDPTE for n in range(4)},
}

#: Field name to the layout of its value.
VMCS_LAYOUTS: dict[str, Layout] = {
    "pin_based_controls": PIN_BASED,
    "primary_processor_based_controls": PRIMARY_CONTROLS,
    "secondary_processor_based_controls": SECONDARY_CONTROLS,
    "tertiary_processor_based_controls": TERTIARY_CONTROLS,
    "vm_exit_controls": EXIT_CONTROLS,
    "secondary_vm_exit_controls": SECONDARY_EXIT_CONTROLS,
    "vm_entry_controls": ENTRY_CONTROLS,
    "vm_function_controls": VM_FUNCTION_CONTROLS,
    "ept_pointer": EPTP,
    "page_fault_error_code_mask": PF_ERROR,
    "page_fault_error_code_match": PF_ERROR,
    "vm_entry_interruption_information": INTERRUPTION_INFO,
    "vm_exit_interruption_information": INTERRUPTION_INFO,
    "idt_vectoring_information": INTERRUPTION_INFO,
    "exit_reason": EXIT_REASON,
    "cr0_guest_host_mask": CR0,
    "cr0_read_shadow": CR0,
    "cr4_guest_host_mask": CR4,
    "cr4_read_shadow": CR4,
    **{f"guest_{name}": layout for name, layout in (*_BOTH.items(), *_GUEST.items())},
    **{f"host_{name}": layout for name, layout in _BOTH.items() if name != "ldtr_selector"},
}
