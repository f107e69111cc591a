"""VM-execution, VM-entry and VM-exit controls: what each bit of the control fields turns on.

Models the names and places, and the default1 class (SDM 3D §A.2): controls that are 1 unless a capability MSR lets
them be 0. Those of it that have no name are among the reserved ones, so ``reserved_mask`` here is no must-be-zero
mask. Which bits a processor offers is the business of its profile.
"""

from quire.arch.layout import Layout, bit, default1, reserved

__all__ = [
    "ENTRY_CONTROLS",
    "EXIT_CONTROLS",
    "PIN_BASED",
    "PRIMARY_CONTROLS",
    "SECONDARY_CONTROLS",
    "SECONDARY_EXIT_CONTROLS",
    "TERTIARY_CONTROLS",
    "VM_FUNCTION_CONTROLS",
]

PIN_BASED = Layout(
    "PIN_BASED",
    32,
    "SDM 3C §24.6.1",
    (
        bit(0, "external_interrupt_exiting", "external interrupts exit"),
        default1(1, 2),
        bit(3, "nmi_exiting", "NMIs exit"),
        default1(4),
        bit(5, "virtual_nmis", "track virtual-NMI blocking"),
        bit(6, "activate_preemption_timer", "count the VMX-preemption timer down"),
        bit(7, "process_posted_interrupts", "posted-interrupt processing"),
        reserved(8, 31),
    ),
)

PRIMARY_CONTROLS = Layout(
    "PRIMARY_CONTROLS",
    32,
    "SDM 3C §24.6.2",
    (
        reserved(0),
        default1(1),
        bit(2, "interrupt_window_exiting", "exit as soon as RFLAGS.IF = 1 and nothing blocks"),
        bit(3, "use_tsc_offsetting", "RDTSC and its family add the TSC offset"),
        default1(4, 6),
        bit(7, "hlt_exiting", "HLT exits"),
        default1(8),
        bit(9, "invlpg_exiting", "INVLPG exits"),
        bit(10, "mwait_exiting", "MWAIT exits"),
        bit(11, "rdpmc_exiting", "RDPMC exits"),
        bit(12, "rdtsc_exiting", "RDTSC and RDTSCP exit"),
        default1(13, 14),
        bit(15, "cr3_load_exiting", "MOV to CR3 exits, but for the CR3-target values", default1=True),
        bit(16, "cr3_store_exiting", "MOV from CR3 exits", default1=True),
        bit(17, "activate_tertiary_controls", "the tertiary controls are used; else as if 0"),
        reserved(18),
        bit(19, "cr8_load_exiting", "MOV to CR8 exits"),
        bit(20, "cr8_store_exiting", "MOV from CR8 exits"),
        bit(21, "use_tpr_shadow", "virtualize the TPR"),
        bit(22, "nmi_window_exiting", "exit as soon as virtual NMIs are not blocked"),
        bit(23, "mov_dr_exiting", "MOV DR exits"),
        bit(24, "unconditional_io_exiting", "I/O instructions exit"),
        bit(25, "use_io_bitmaps", "I/O bitmaps choose which I/O instructions exit"),
        default1(26),
        bit(27, "monitor_trap_flag", "exit after each instruction"),
        bit(28, "use_msr_bitmaps", "MSR bitmaps choose which RDMSR and WRMSR exit"),
        bit(29, "monitor_exiting", "MONITOR exits"),
        bit(30, "pause_exiting", "PAUSE exits"),
        bit(31, "activate_secondary_controls", "the secondary controls are used; else as if 0"),
    ),
)

SECONDARY_CONTROLS = Layout(
    "SECONDARY_CONTROLS",
    32,
    "SDM 3C §24.6.2",
    (
        bit(0, "virtualize_apic_accesses", "treat accesses to the APIC-access page specially"),
        bit(1, "enable_ept", "guest-physical addresses are translated by EPT"),
        bit(2, "descriptor_table_exiting", "LGDT, SGDT and their family exit"),
        bit(3, "enable_rdtscp", "RDTSCP does not cause #UD"),
        bit(4, "virtualize_x2apic_mode", "treat RDMSR and WRMSR to APIC MSRs specially"),
        bit(5, "enable_vpid", "cached linear mappings are tagged by a VPID"),
        bit(6, "wbinvd_exiting", "WBINVD and WBNOINVD exit"),
        bit(7, "unrestricted_guest", "the guest may run unpaged or in real mode"),
        bit(8, "apic_register_virtualization", "virtualize certain APIC accesses"),
        bit(9, "virtual_interrupt_delivery", "evaluate and deliver virtual interrupts"),
        bit(10, "pause_loop_exiting", "a series of PAUSE exits"),
        bit(11, "rdrand_exiting", "RDRAND exits"),
        bit(12, "enable_invpcid", "INVPCID does not cause #UD"),
        bit(13, "enable_vm_functions", "VMFUNC does not cause #UD"),
        bit(14, "vmcs_shadowing", "VMREAD and VMWRITE may access a shadow VMCS"),
        bit(15, "enable_encls_exiting", "the ENCLS-exiting bitmap chooses which ENCLS exit"),
        bit(16, "rdseed_exiting", "RDSEED exits"),
        bit(17, "enable_pml", "log the page of each access that sets an EPT dirty flag"),
        bit(18, "ept_violation_ve", "EPT violations may cause #VE instead of VM exits"),
        bit(19, "conceal_vmx_from_pt", "Intel PT suppresses indications of VMX non-root operation"),
        bit(20, "enable_xsaves_xrstors", "XSAVES and XRSTORS do not cause #UD"),
        bit(21, "enable_pasid_translation", "ENQCMD and ENQCMDS translate PASIDs"),
        bit(22, "mode_based_execute", "EPT execute rights differ for user and supervisor linear addresses"),
        bit(23, "sub_page_write_permissions", "EPT write rights may be per 128 bytes"),
        bit(24, "intel_pt_uses_guest_physical", "Intel PT output addresses are translated by EPT"),
        bit(25, "use_tsc_scaling", "RDTSC and its family multiply by the TSC multiplier"),
        bit(26, "enable_user_wait_and_pause", "TPAUSE, UMONITOR and UMWAIT do not cause #UD"),
        bit(27, "enable_pconfig", "PCONFIG does not cause #UD"),
        bit(28, "enable_enclv_exiting", "the ENCLV-exiting bitmap chooses which ENCLV exit"),
        reserved(29),
        bit(30, "bus_lock_detection", "bus locks exit"),
        bit(31, "instruction_timeout", "exit when no instruction retires for a configured time"),
    ),
)

TERTIARY_CONTROLS = Layout(
    "TERTIARY_CONTROLS",
    64,
    "SDM 3C §24.6.2",
    (
        bit(0, "loadiwkey_exiting", "LOADIWKEY exits"),
        bit(1, "enable_hlat", "hypervisor-managed linear-address translation is used"),
        bit(2, "ept_paging_write", "EPT entries may allow writes to guest paging structures alone"),
        bit(3, "guest_paging_verification", "EPT entries may demand paging-write of guest paging structures"),
        bit(4, "ipi_virtualization", "virtualize the sending of IPIs"),
        bit(
            5,
            "seam_guest_physical_width",
            "GPAW: a TD has 52 guest-physical address bits, not 48; the highest is its shared bit",
        ),
        bit(6, "enable_msr_list_instructions", "RDMSRLIST and WRMSRLIST do not cause #UD"),
        bit(7, "virtualize_ia32_spec_ctrl", "RDMSR and WRMSR of IA32_SPEC_CTRL use a mask and a shadow"),
        bit(8, "virtualize_apic_timer", "the guest's TSC-deadline timer is virtualized"),
        reserved(9, 63),
    ),
)

VM_FUNCTION_CONTROLS = Layout(
    "VM_FUNCTION_CONTROLS",
    64,
    "SDM 3C §24.6.14",
    (
        bit(0, "eptp_switching", "VMFUNC leaf 0 loads an EPT pointer from the EPTP list"),
        reserved(1, 63),
    ),
)

EXIT_CONTROLS = Layout(
    "EXIT_CONTROLS",
    32,
    "SDM 3C §24.7.1",
    (
        default1(0, 1),
        bit(2, "save_debug_controls", "save DR7 and IA32_DEBUGCTL", default1=True),
        default1(3, 8),
        bit(9, "host_address_space_size", "the host is in 64-bit mode after the exit"),
        default1(10, 11),
        bit(12, "load_perf_global_ctrl", "load IA32_PERF_GLOBAL_CTRL"),
        default1(13, 14),
        bit(15, "acknowledge_interrupt_on_exit", "an external-interrupt exit reads the vector"),
        default1(16, 17),
        bit(18, "save_pat", "save IA32_PAT"),
        bit(19, "load_pat", "load IA32_PAT"),
        bit(20, "save_efer", "save IA32_EFER"),
        bit(21, "load_efer", "load IA32_EFER"),
        bit(22, "save_preemption_timer", "save the VMX-preemption timer"),
        bit(23, "clear_bndcfgs", "clear IA32_BNDCFGS"),
        bit(24, "conceal_vmx_from_pt", "no Intel PT packets about the exit"),
        bit(25, "clear_rtit_ctl", "clear IA32_RTIT_CTL"),
        bit(26, "clear_lbr_ctl", "clear IA32_LBR_CTL"),
        bit(27, "clear_uinv", "clear the user-interrupt notification vector"),
        bit(28, "load_cet", "load the CET state"),
        bit(29, "load_pkrs", "load IA32_PKRS"),
        bit(30, "save_perf_global_ctrl", "save IA32_PERF_GLOBAL_CTRL"),
        bit(31, "activate_secondary_controls", "the secondary VM-exit controls are used; else as if 0"),
    ),
)

SECONDARY_EXIT_CONTROLS = Layout(
    "SECONDARY_EXIT_CONTROLS",
    64,
    "SDM 3C §24.7.1",
    (
        bit(0, "save_fred", "save the FRED state"),
        bit(1, "load_fred", "load the FRED state"),
        reserved(2),
        bit(3, "prematurely_busy_shadow_stack", "exits report a shadow-stack token left busy"),
        reserved(4, 63),
    ),
)

ENTRY_CONTROLS = Layout(
    "ENTRY_CONTROLS",
    32,
    "SDM 3C §24.8.1",
    (
        default1(0, 1),
        bit(2, "load_debug_controls", "load DR7 and IA32_DEBUGCTL", default1=True),
        default1(3, 8),
        bit(9, "ia32e_guest", "the guest is in IA-32e mode after the entry"),
        bit(10, "entry_to_smm", "the guest is in system-management mode after the entry"),
        bit(11, "deactivate_dual_monitor", "the default treatment of SMIs is in effect after the entry"),
        default1(12),
        bit(13, "load_perf_global_ctrl", "load IA32_PERF_GLOBAL_CTRL"),
        bit(14, "load_pat", "load IA32_PAT"),
        bit(15, "load_efer", "load IA32_EFER"),
        bit(16, "load_bndcfgs", "load IA32_BNDCFGS"),
        bit(17, "conceal_vmx_from_pt", "no Intel PT packets about the entry"),
        bit(18, "load_rtit_ctl", "load IA32_RTIT_CTL"),
        bit(19, "load_uinv", "load the user-interrupt notification vector"),
        bit(20, "load_cet", "load the CET state"),
        bit(21, "load_lbr_ctl", "load IA32_LBR_CTL"),
        bit(22, "load_pkrs", "load IA32_PKRS"),
        bit(23, "load_fred", "load the FRED state"),
        reserved(24, 31),
    ),
)
