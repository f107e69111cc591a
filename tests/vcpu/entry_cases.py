"""Cases of VM-entry rules: the rule, what makes it bind, what breaks it and no other, a neighbour that does not.

In the words of :mod:`vmcs_words`, for the architecture profile.
"""

HIGH = "0x10000000000000"  # bit 52: beyond any physical address
FAR = "0x200000000000000"  # bit 57: not canonical on a processor with 57 linear bits

CASES = [
    # VM-execution controls
    ("pin-based controls", "", "pin_based_controls=0x9", "pin+activate_preemption_timer"),
    ("primary controls", "", "primary_processor_based_controls=0x80000000", "primary+invlpg_exiting"),
    ("secondary controls", "", "secondary_processor_based_controls=0x20000022", "secondary+enable_rdtscp"),
    (
        "tertiary controls",
        "tertiary",
        "tertiary_processor_based_controls=0x200",
        "tertiary+loadiwkey_exiting",
    ),
    ("CR3-target count", "", "cr3_target_count=0x5", "cr3_target_count=0x4"),
    ("TPR threshold bits", "apic", "tpr_threshold=0x10", "tpr_threshold=0x0"),
    (
        "TPR threshold reached",
        "apic",
        "tpr_threshold=0x1",
        "secondary+virtualize_apic_accesses tpr_threshold=0x1",
    ),
    ("virtual NMIs", "pin+virtual_nmis", "pin-nmi_exiting", ""),
    ("NMI-window exiting", "primary+nmi_window_exiting", "pin-virtual_nmis", "pin+virtual_nmis"),
    ("TPR shadow", "", "secondary+virtualize_x2apic_mode", "secondary+virtualize_apic_accesses"),
    (
        "TPR shadow",
        "",
        "secondary+apic_register_virtualization",
        "apic secondary+apic_register_virtualization",
    ),
    ("TPR shadow", "", "secondary+virtual_interrupt_delivery", "apic secondary+virtual_interrupt_delivery"),
    ("TPR shadow", "tertiary", "tertiary+ipi_virtualization", "apic tertiary+ipi_virtualization"),
    ("x2APIC mode", "apic secondary+virtualize_x2apic_mode", "secondary+virtualize_apic_accesses", ""),
    (
        "virtual-interrupt delivery",
        "apic secondary+virtual_interrupt_delivery",
        "pin-external_interrupt_exiting",
        "",
    ),
    ("posted interrupts", "posted", "secondary-virtual_interrupt_delivery", ""),
    ("posted-interrupt acknowledgement", "posted", "exit-acknowledge_interrupt_on_exit", ""),
    (
        "posted-interrupt vector",
        "posted",
        "posted_interrupt_notification_vector=0x100",
        "posted_interrupt_notification_vector=0xff",
    ),
    ("posted-interrupt descriptor", "posted", "posted_interrupt_descriptor_address=0x20", ""),
    (
        "posted-interrupt descriptor",
        "posted",
        f"posted_interrupt_descriptor_address={HIGH}",
        "posted_interrupt_descriptor_address=0x40",
    ),
    (
        "VPID",
        "",
        "virtual_processor_identifier=0x0",
        "secondary-enable_vpid virtual_processor_identifier=0x0",
    ),
    ("EPT pointer", "", "ept_pointer=0x501d", "ept_pointer=0x5018"),  # memory type 5; 0 is UC
    ("EPT pointer", "", "ept_pointer=0x5016", "ept_pointer=0x5026"),  # walk length 3; 5
    ("EPT pointer reserved bits", "", "ept_pointer=0x511e", "ept_pointer=0x50de"),
    ("EPT pointer reserved bits", "", "ept_pointer=0x1000000000501e", "ept_pointer=0x800000000501e"),
    ("enable pml needs EPT", "secondary+enable_pml", "secondary-enable_ept", ""),
    ("unrestricted guest needs EPT", "secondary+unrestricted_guest", "secondary-enable_ept", ""),
    ("mode based execute needs EPT", "secondary+mode_based_execute", "secondary-enable_ept", ""),
    (
        "sub page write permissions needs EPT",
        "secondary+sub_page_write_permissions",
        "secondary-enable_ept",
        "",
    ),
    (
        "intel pt uses guest physical needs EPT",
        "secondary+intel_pt_uses_guest_physical entry+load_rtit_ctl exit+clear_rtit_ctl",
        "secondary-enable_ept",
        "",
    ),
    (
        "Intel PT in guest-physical memory",
        "secondary+intel_pt_uses_guest_physical entry+load_rtit_ctl",
        "exit-clear_rtit_ctl",
        "exit+clear_rtit_ctl",
    ),
    ("VM functions", "vmfunc", "vm_function_controls=0x3", ""),
    ("EPTP switching needs EPT", "vmfunc", "secondary-enable_ept", ""),
    ("EPTP list", "vmfunc", "eptp_list_address=0x800", "eptp_list_address=0x1000"),
    ("TSC multiplier", "secondary+use_tsc_scaling", "tsc_multiplier=0x0", "tsc_multiplier=0x1"),
    (
        "paging-write and verification need EPT",
        "tertiary tertiary+ept_paging_write",
        "secondary-enable_ept",
        "",
    ),
    (
        "paging-write and verification need EPT",
        "tertiary tertiary+guest_paging_verification",
        "secondary-enable_ept",
        "",
    ),
    ("HLAT pointer", "tertiary tertiary+enable_hlat", "hlat_pointer=0x5020", "hlat_pointer=0x5018"),
    ("HLAT prefix", "tertiary tertiary+enable_hlat", "hlat_prefix_size=0x40", "hlat_prefix_size=0x0"),
    (
        "PID-pointer table",
        "apic tertiary tertiary+ipi_virtualization",
        "pid_pointer_table_address=0x4",
        "pid_pointer_table_address=0x8",
    ),
    (
        "end of PID-pointer table",
        "apic tertiary tertiary+ipi_virtualization pid_pointer_table_address=0xffffffffffff8",
        "last_pid_pointer_index=0x1",
        "last_pid_pointer_index=0x0",
    ),
    # VM-exit and VM-entry controls
    ("VM-exit controls", "", "vm_exit_controls=0x336ffa", "exit+save_pat"),
    (
        "secondary VM-exit controls",
        "exit+activate_secondary_controls",
        "secondary_vm_exit_controls=0x4",
        "secondary_vm_exit_controls=0x8",
    ),
    (
        "preemption timer",
        "exit+save_preemption_timer",
        "pin-activate_preemption_timer",
        "pin+activate_preemption_timer",
    ),
    ("VM-entry controls", "", "vm_entry_controls=0x93fa", "entry+load_pat"),
    ("event type", "", "event=0x80000100", "event=0x00000100"),
    ("event vector", "", "event=0x80000203", "event=0x80000202"),
    ("event vector", "", "event=0x80000320", "event=0x8000031f"),
    ("event vector", "", "event=0x80000701", "event=0x80000700"),
    ("deliver error code", "", "event=0x80000820", "event=0x80000020"),
    ("deliver error code", "real", "event=0x80000b0e", "event=0x8000030e"),
    ("event reserved bits", "", "event=0x80001020", ""),
    ("event reserved bits", "", "event=0xc0000020", ""),
    (
        "event error code",
        "event=0x80000b0e",
        "vm_entry_exception_error_code=0x10000",
        "vm_entry_exception_error_code=0xffff",
    ),
    (
        "event instruction length",
        "event=0x80000480",
        "vm_entry_instruction_length=0x10",
        "vm_entry_instruction_length=0xf",
    ),
    (
        "event instruction length",
        "event=0x80000603",
        "vm_entry_instruction_length=0x0",
        "vm_entry_instruction_length=0x1",
    ),
    ("system-management mode", "", "entry+entry_to_smm", ""),
    ("system-management mode", "", "entry+deactivate_dual_monitor", ""),
    # Host state
    ("host CR0", "", "host_cr0-NE", "host_cr0+CD"),
    ("host CR0", "", "host_cr0=0x180050033", ""),
    ("host CR4", "", "host_cr4-VMXE", "host_cr4+PGE"),
    ("host CET", "host_cr4+CET", "host_cr0-WP", ""),
    ("host CR3", "", f"host_cr3={HIGH}", "host_cr3=0xffffffffff000"),
    ("host CR3", "", "host_cr3=0x8000000000000000", "host_cr3=0x6000000000000000"),
    ("host EFER reserved bits", "", "host_ia32_efer=0xd02", ""),
    ("host EFER", "", "host_efer-LMA", "exit-load_efer host_efer-LMA"),
    ("host EFER", "", "host_efer-LME", ""),
    ("host SSP", "exit+load_cet", "host_ssp=0x2", "host_ssp=0x4"),
    ("host SSP", "exit+load_cet", f"host_ssp={FAR}", "exit-load_cet"),
    ("host CS null", "", "host_cs_selector=0x0", ""),
    ("host TR null", "", "host_tr_selector=0x0", "host_ss_selector=0x0"),
    ("host address-space size", "exit-load_efer", "exit-host_address_space_size", ""),
    ("host PAE", "", "host_cr4-PAE", ""),
    ("host RIP", "", "host_rip=0x800000000000", "host_cr4+LA57 host_rip=0x800000000000"),
    # Guest registers
    ("CR0", "", "cr0-NE", "cr0+NW cr0+CD"),
    ("CR0", "", "guest_cr0=0x180050033", ""),
    ("paging", "real", "cr0+PG", "cr0+PG cr0+PE"),
    ("CR4", "", "cr4-VMXE", "cr4+PCIDE"),
    ("CET", "cr4+CET", "cr0-WP", ""),
    ("IA-32e mode", "", "cr4-PAE", "32-bit cr4-PAE"),
    ("PCIDE", "cr4+PCIDE", "32-bit", ""),
    ("CR3", "", f"guest_cr3={HIGH}", "guest_cr3=0xffffffffff000"),
    ("CR3", "", "guest_cr3=0x8000000000000000", "guest_cr3=0x6000000000000000"),
    ("FRED", "cr4+FRED", "32-bit", ""),
    ("DR7", "entry+load_debug_controls", "guest_dr7=0x100000000", "guest_dr7=0xffffffff"),
    ("EFER reserved bits", "", "guest_ia32_efer=0xd03", "entry-load_efer guest_ia32_efer=0xd03"),
    ("EFER", "", "efer-LMA", "entry-load_efer efer-LMA"),
    ("EFER", "", "efer-LME", "efer-NXE"),
    ("UINV", "entry+load_uinv", "guest_uinv=0x100", "guest_uinv=0xff"),
    ("RIP", "", "guest_rip=0x200000000000000", "guest_rip=0x100000000000000"),
    ("RIP", "cs-L cs+DB", "guest_rip=0x100000000", "guest_rip=0xffffffff"),
    ("RIP", "32-bit", "guest_rip=0x100000000", "guest_rip=0xffffffff"),
    ("RFLAGS", "", "rflags-always_1", "rflags+TF"),
    ("RFLAGS", "", "guest_rflags=0x400202", ""),
    ("virtual-8086 mode", "v8086", "entry+ia32e_guest efer+LMA efer+LME", ""),
    ("interrupt flag", "event=0x80000020", "rflags-IF", ""),
    ("SSP alignment", "entry+load_cet", "guest_ssp=0x2", "guest_ssp=0x4"),
    ("SSP", "entry+load_cet", f"guest_ssp={FAR}", "entry-load_cet"),
    # Guest segments
    ("TR selector", "", "guest_tr_selector=0x44", ""),
    ("LDTR selector", "ldt", "guest_ldtr_selector=0x54", "ldtr+unusable guest_ldtr_selector=0x54"),
    ("SS selector", "", "guest_cs_selector=0x30", "secondary+unrestricted_guest guest_cs_selector=0x30"),
    ("CS type", "", "cs.type=0x8", "cs.type=0x9"),
    ("CS type", "real cs.type=0x3", "secondary-unrestricted_guest cr0+PE cr0+PG", ""),
    ("SS type", "", "ss.type=0x1", "ss.type=0x7"),
    ("SS type", "", "ss.type=0xb", "ss+unusable ss.type=0xb"),
    ("CS privilege", "", "cs.DPL=0x0", "cs.DPL=0x0 cs.type=0xf"),
    ("CS privilege", "ring-0 cs.type=0xf", "cs.DPL=0x1", ""),
    ("CS privilege", "real cs.type=0x3", "cs.DPL=0x1", ""),
    ("SS privilege", "cs.type=0xf cs.DPL=0x0", "ss.DPL=0x0", ""),
    ("SS privilege", "real cs.type=0xf", "ss.DPL=0x1", "cr0+PE ss.DPL=0x1"),
    ("CS default size", "", "cs+DB", "cs-L cs+DB"),
    ("TR type", "", "tr.type=0x3", "32-bit tr.type=0x3"),
    ("TR type", "", "tr.type=0x9", ""),
    ("TR unusable", "", "tr+unusable", ""),
    ("LDTR type", "ldt", "ldtr.type=0x3", ""),
    # Non-register state
    ("activity state", "", "activity=0x4", "activity=0x2"),
    ("HLT state", "", "activity=0x1", "ring-0 activity=0x1"),
    ("active in shadow", "blocking+blocking_by_mov_ss", "activity=0x2", ""),
    ("event in activity state", "activity=0x2", "event=0x80000020", "event=0x80000202"),
    ("event in activity state", "activity=0x2", "event=0x80000301", "event=0x80000312"),
    ("event in activity state", "activity=0x3", "event=0x80000202", ""),
    ("event in activity state", "ring-0 activity=0x1", "event=0x80000306", "event=0x80000301"),
    ("interruptibility reserved bits", "", "blocking=0x20", ""),
    ("STI and MOV SS", "", "blocking=0x3", "blocking=0x1"),
    ("blocking by STI", "blocking=0x1", "rflags-IF", ""),
    ("interrupt in shadow", "event=0x80000020", "blocking=0x1", "blocking=0x8"),
    ("interrupt in shadow", "event=0x80000020", "blocking=0x2", ""),
    ("NMI in shadow", "event=0x80000202", "blocking=0x2", "blocking=0x1"),
    ("blocking by SMI", "", "blocking=0x4", ""),
    ("blocking by NMI", "event=0x80000202 pin+virtual_nmis", "blocking=0x8", "pin-virtual_nmis blocking=0x8"),
    ("enclave interruption", "", "blocking=0x12", "blocking=0x10"),
    ("pending debug reserved bits", "", "pending=0x10", "pending=0x580f"),
    ("pending single step", "blocking=0x2 rflags+TF", "pending=0x0", "pending=0x4000"),
    ("pending single step", "blocking=0x1", "pending=0x4000", ""),
    ("pending single step", "blocking=0x2 rflags+TF guest_ia32_debugctl=0x2", "pending=0x4000", ""),
    ("pending single step", "ring-0 activity=0x1", "pending=0x4000", "activity=0x0 pending=0x4000"),
    ("pending RTM exception", "", "pending=0x10000", "pending=0x11000"),
    ("pending RTM exception", "pending=0x11000", "blocking=0x2", ""),
    ("link pointer", "", "vmcs_link_pointer=0x123", "vmcs_link_pointer=0x4000"),
    ("link pointer", "", f"vmcs_link_pointer={HIGH}", ""),
    ("linked VMCS", "", "vmcs_link_pointer=0x3000", "vmcs_link_pointer=0x4000"),
    ("linked VMCS", "", "vmcs_link_pointer=0x5000", "secondary+vmcs_shadowing vmcs_link_pointer=0x5000"),
    ("link to itself", "", "vmcs_link_pointer=0x1000", ""),
    ("PDPTEs", "32-bit", "guest_pdpte0=0x3", "guest_pdpte0=0x2"),
    ("PDPTEs", "32-bit secondary-enable_ept", "guest_cr3=0x4020", "guest_cr3=0x3000"),
]
ADDRESSES = [
    ("I/O bitmap A", "primary+use_io_bitmaps", "io_bitmap_a_address"),
    ("I/O bitmap B", "primary+use_io_bitmaps", "io_bitmap_b_address"),
    ("MSR bitmaps", "primary+use_msr_bitmaps", "msr_bitmaps_address"),
    ("virtual-APIC page", "primary+use_tpr_shadow", "virtual_apic_address"),
    ("APIC-access page", "secondary+virtualize_apic_accesses", "apic_access_address"),
    ("PML address", "secondary+enable_pml", "pml_address"),
    ("SPP table", "secondary+sub_page_write_permissions", "sub_page_permission_table_pointer"),
    ("VMREAD bitmap", "secondary+vmcs_shadowing", "vmread_bitmap_address"),
    ("VMWRITE bitmap", "secondary+vmcs_shadowing", "vmwrite_bitmap_address"),
    ("#VE information", "secondary+ept_violation_ve", "virtualization_exception_information_address"),
    ("low PASID directory", "secondary+enable_pasid_translation", "low_pasid_directory_address"),
    ("high PASID directory", "secondary+enable_pasid_translation", "high_pasid_directory_address"),
]
CASES += [
    (name, control, f"{field}={value}", f"{field}=0xffffffffff000")
    for name, control, field in ADDRESSES
    for value in ("0x800", HIGH)
]
CASES += [
    case
    for words, prefix in (
        ("VM-exit MSR-store", "vm_exit_msr_store"),
        ("VM-exit MSR-load", "vm_exit_msr_load"),
        ("VM-entry MSR-load", "vm_entry_msr_load"),
    )
    for case in (
        (f"{words} area", f"{prefix}_count=0x1", f"{prefix}_address=0x8", f"{prefix}_count=0x0"),
        (
            f"end of {words} area",
            f"{prefix}_address=0xffffffffffff0",
            f"{prefix}_count=0x2",
            f"{prefix}_count=0x0",
        ),
    )
]
# MSRs with a field of their own: name, field without side, control, bad, good.
MSRS = [
    ("SYSENTER ESP", "ia32_sysenter_esp", "", FAR, "0x1000"),
    ("SYSENTER EIP", "ia32_sysenter_eip", "", FAR, "0xff00000000000000"),
    ("PERF_GLOBAL_CTRL", "ia32_perf_global_ctrl", "load_perf_global_ctrl", "0x100", "0x70000000f"),
    ("PAT", "ia32_pat", "load_pat", "0x0007040600070402", "0x0007040600070406"),
    ("PKRS", "ia32_pkrs", "load_pkrs", "0x100000000", "0xffffffff"),
    ("S_CET", "ia32_s_cet", "load_cet", "0x40", "0x3f"),
    ("S_CET", "ia32_s_cet", "load_cet", "0xc00", "0x400"),
    ("S_CET", "ia32_s_cet", "load_cet", FAR, "0x800"),
    ("interrupt SSP table", "ia32_interrupt_ssp_table_address", "load_cet", FAR, "0x1000"),
]
for name, msr, control, bad, good in MSRS:
    for side, prefix, group in (("guest", "", "entry"), ("host", "host ", "exit")):
        on = f"{group}+{control}" if control else ""
        CASES.append((prefix + name, on, f"{side}_{msr}={bad}", f"{side}_{msr}={good}"))
        if control:
            CASES.append((prefix + name, on, f"{side}_{msr}={bad}", f"{group}-{control} {side}_{msr}={bad}"))
# FRED's MSRs: what each may not hold, and what it may.
_FRED = [
    *(("config", bad, "0xffff8000000006cb") for bad in ("0x4", "0x10", "0x20", "0x800", FAR)),
    *((f"rsp{level}", bad, "0xffff800000000040") for level in (1, 2, 3) for bad in ("0x20", FAR)),
    *((f"ssp{level}", bad, "0xffff800000000008") for level in (1, 2, 3) for bad in ("0x4", FAR)),
]
for part, bad, good in _FRED:
    for side, prefix, on in (
        ("guest", "", "entry+load_fred"),
        ("host", "host ", "exit+activate_secondary_controls secondary_exit+load_fred"),
    ):
        field, off = f"{side}_ia32_fred_{part}", on.replace("+load_fred", "-load_fred")
        CASES.append((f"{prefix}FRED_{part.upper()}", on, f"{field}={bad}", f"{field}={good}"))
        CASES.append((f"{prefix}FRED_{part.upper()}", on, f"{field}={bad}", f"{off} {field}={bad}"))
CASES.append(("FRED_RSP1", "entry+load_fred", "guest_ia32_fred_rsp1=0x1", "32-bit guest_ia32_fred_rsp1=0x1"))
CASES += [
    (name, f"entry+{control}", f"guest_{msr}={bad}", f"guest_{msr}={good}")
    for name, msr, control, bad, good in (
        ("DEBUGCTL", "ia32_debugctl", "load_debug_controls", "0x8", "0xffc7"),
        ("BNDCFGS", "ia32_bndcfgs", "load_bndcfgs", "0x4", "0x1003"),
        ("BNDCFGS", "ia32_bndcfgs", "load_bndcfgs", FAR, "0x1003"),
        ("RTIT_CTL", "ia32_rtit_ctl", "load_rtit_ctl", "0x40000", "0x2000"),
        ("LBR_CTL", "ia32_lbr_ctl", "load_lbr_ctl", "0x10", "0x7f000f"),
    )
]
for name in ("es", "cs", "ss", "ds", "fs", "gs", "tr"):
    CASES.append((f"host {name.upper()} selector", "", f"host_{name}_selector=0x11", ""))
    CASES.append(
        (f"host {name.upper()} selector", "", f"host_{name}_selector=0x14", f"host_{name}_selector=0x10")
    )
for name in ("fs", "gs", "gdtr", "idtr", "tr"):
    CASES.append((f"host {name.upper()} base", "", f"host_{name}_base={FAR}", f"host_{name}_base=0x1000"))
for name in ("fs", "gs", "tr", "gdtr", "idtr"):
    CASES.append((f"{name.upper()} base", "", f"guest_{name}_base={FAR}", f"guest_{name}_base=0x1000"))
CASES.append(("LDTR base", "ldt", f"guest_ldtr_base={FAR}", f"ldtr+unusable guest_ldtr_base={FAR}"))
for name in ("gdtr", "idtr"):
    CASES.append((f"{name.upper()} limit", "", f"guest_{name}_limit=0x10000", f"guest_{name}_limit=0xffff"))
for name in ("cs", "ss", "ds", "es"):
    high = f"guest_{name}_base=0x100000000"
    CASES.append((f"{name.upper()} base", "data", high, f"guest_{name}_base=0xffffffff"))
for name in ("cs", "ss", "ds", "es", "fs", "gs"):
    for part, bad in (("base", "0x10001"), ("limit", "0xfffe"), ("access_rights", "0xf7")):
        rule = f"{name.upper()} {part.replace('_', ' ')} in virtual-8086 mode"
        CASES.append((rule, "v8086", f"guest_{name}_{part}={bad}", ""))
for name in ("ds", "es", "fs", "gs"):
    CASES.append((f"{name.upper()} type", "data", f"{name}.type=0x2", f"{name}.type=0x1"))
    CASES.append((f"{name.upper()} type", "data", f"{name}.type=0x9", f"{name}.type=0xb"))
    CASES.append((f"{name.upper()} privilege", "data", f"{name}.DPL=0x2", f"{name}.type=0xf {name}.DPL=0x2"))
for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr"):
    sign = "+" if name in ("tr", "ldtr") else "-"
    off = "" if name in ("cs", "ss", "tr") else f"{name}+unusable "
    for rule, bad in (
        ("S bit", f"{name}{sign}S"),
        ("present", f"{name}-P"),
        ("granularity", f"{name}+G guest_{name}_limit=0xff000"),
        ("granularity", f"{name}-G guest_{name}_limit=0x100fff"),
    ):
        CASES.append((f"{name.upper()} {rule}", "data ldt", bad, off + bad if off else ""))
