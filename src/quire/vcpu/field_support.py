"""Which VMCS fields a processor has: many exist only where the control that uses them may be 1 (SDM 3D §B).

A field that the processor lacks is an unsupported component to VMREAD and VMWRITE, error 12.
"""

from quire.arch import CpuProfile, VmcsField

__all__ = ["field_exists"]

#: Control field and control to the fields that exist only with it.
_NEEDS = {
    (
        "pin",
        "process_posted_interrupts",
    ): "posted_interrupt_notification_vector posted_interrupt_descriptor_address",
    ("pin", "activate_preemption_timer"): "vmx_preemption_timer_value",
    ("primary", "use_msr_bitmaps"): "msr_bitmaps_address",
    ("primary", "use_tpr_shadow"): "virtual_apic_address tpr_threshold",
    ("primary", "activate_secondary_controls"): "secondary_processor_based_controls",
    ("primary", "activate_tertiary_controls"): "tertiary_processor_based_controls",
    ("secondary", "virtualize_apic_accesses"): "apic_access_address",
    ("secondary", "enable_vpid"): "virtual_processor_identifier",
    ("secondary", "enable_ept"): "ept_pointer guest_physical_address guest_pdpte0 guest_pdpte1 guest_pdpte2 "
    "guest_pdpte3",
    ("secondary", "virtual_interrupt_delivery"): "guest_interrupt_status eoi_exit_bitmap_0 eoi_exit_bitmap_1 "
    "eoi_exit_bitmap_2 eoi_exit_bitmap_3",
    ("secondary", "pause_loop_exiting"): "ple_gap ple_window",
    ("secondary", "enable_vm_functions"): "vm_function_controls eptp_list_address",
    ("secondary", "vmcs_shadowing"): "vmread_bitmap_address vmwrite_bitmap_address",
    ("secondary", "enable_encls_exiting"): "encls_exiting_bitmap",
    ("secondary", "enable_enclv_exiting"): "enclv_exiting_bitmap",
    ("secondary", "enable_pml"): "pml_address pml_index",
    ("secondary", "ept_violation_ve"): "virtualization_exception_information_address eptp_index",
    ("secondary", "enable_xsaves_xrstors"): "xss_exiting_bitmap",
    ("secondary", "enable_pasid_translation"): "low_pasid_directory_address high_pasid_directory_address",
    ("secondary", "sub_page_write_permissions"): "sub_page_permission_table_pointer",
    ("secondary", "use_tsc_scaling"): "tsc_multiplier",
    ("secondary", "enable_pconfig"): "pconfig_exiting_bitmap",
    ("secondary", "instruction_timeout"): "instruction_timeout_control",
    ("tertiary", "enable_hlat"): "hlat_pointer hlat_prefix_size",
    ("tertiary", "ipi_virtualization"): "pid_pointer_table_address last_pid_pointer_index",
    ("tertiary", "virtualize_ia32_spec_ctrl"): "ia32_spec_ctrl_mask ia32_spec_ctrl_shadow",
    ("tertiary", "enable_msr_list_instructions"): "msr_data",
    ("tertiary", "virtualize_apic_timer"): "virtual_timer_vector guest_deadline guest_deadline_shadow",
    ("exit", "activate_secondary_controls"): "secondary_vm_exit_controls",
    ("exit", "load_perf_global_ctrl"): "host_ia32_perf_global_ctrl",
    ("exit", "load_pat"): "host_ia32_pat",
    ("exit", "load_efer"): "host_ia32_efer",
    ("exit", "load_cet"): "host_ia32_s_cet host_ssp host_ia32_interrupt_ssp_table_address",
    ("exit", "load_pkrs"): "host_ia32_pkrs",
    ("secondary_exit", "load_fred"): "host_ia32_fred_config host_ia32_fred_rsp1 host_ia32_fred_rsp2 "
    "host_ia32_fred_rsp3 host_ia32_fred_stklvls host_ia32_fred_ssp1 host_ia32_fred_ssp2 host_ia32_fred_ssp3",
    ("entry", "load_perf_global_ctrl"): "guest_ia32_perf_global_ctrl",
    ("entry", "load_pat"): "guest_ia32_pat",
    ("entry", "load_efer"): "guest_ia32_efer",
    ("entry", "load_bndcfgs"): "guest_ia32_bndcfgs",
    ("entry", "load_rtit_ctl"): "guest_ia32_rtit_ctl",
    ("entry", "load_lbr_ctl"): "guest_ia32_lbr_ctl",
    ("entry", "load_uinv"): "guest_uinv",
    ("entry", "load_cet"): "guest_ia32_s_cet guest_ssp guest_ia32_interrupt_ssp_table_address",
    ("entry", "load_pkrs"): "guest_ia32_pkrs",
    ("entry", "load_fred"): "guest_ia32_fred_config guest_ia32_fred_rsp1 guest_ia32_fred_rsp2 "
    "guest_ia32_fred_rsp3 guest_ia32_fred_stklvls guest_ia32_fred_ssp1 guest_ia32_fred_ssp2 guest_ia32_fred_ssp3 "
    "injected_event_data original_event_data",
}
_NEEDED = {field: control for control, fields in _NEEDS.items() for field in fields.split()}


def field_exists(field: VmcsField, profile: CpuProfile) -> bool:
    """Return whether a processor of `profile` has `field`."""
    if field.index > profile.vmx.highest_index:
        return False
    control = _NEEDED.get(field.name)
    return control is None or profile.vmx.offers(*control)
