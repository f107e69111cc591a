"""Control fields: the bits of SDM 3C §24.6 to §24.8, cross-checked by the default1 classes of SDM 3D §A."""

import pytest

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
from quire.arch.decode_controls import decode_controls
from quire.arch.layout import Layout

#: The manual's tables, bit by bit from 0: a name, 1 for a nameless control of the default1 class, - for another.
#: Written from SDM 3C §24.6 to §24.8 and from the FRED and APIC-timer extensions, not from the layouts.
WORDS: dict[str, tuple[Layout, str]] = {
    "pin": (PIN_BASED, "external_interrupt_exiting 1 1 nmi_exiting 1 virtual_nmis activate_preemption_timer "
                       "process_posted_interrupts"),
    "primary": (PRIMARY_CONTROLS, """
        - 1 interrupt_window_exiting use_tsc_offsetting 1 1 1 hlt_exiting
        1 invlpg_exiting mwait_exiting rdpmc_exiting rdtsc_exiting 1 1 cr3_load_exiting
        cr3_store_exiting activate_tertiary_controls - cr8_load_exiting cr8_store_exiting use_tpr_shadow
        nmi_window_exiting mov_dr_exiting unconditional_io_exiting use_io_bitmaps 1 monitor_trap_flag use_msr_bitmaps
        monitor_exiting pause_exiting activate_secondary_controls"""),
    "secondary": (SECONDARY_CONTROLS, """
        virtualize_apic_accesses enable_ept descriptor_table_exiting enable_rdtscp virtualize_x2apic_mode enable_vpid
        wbinvd_exiting unrestricted_guest apic_register_virtualization virtual_interrupt_delivery pause_loop_exiting
        rdrand_exiting enable_invpcid enable_vm_functions vmcs_shadowing enable_encls_exiting rdseed_exiting enable_pml
        ept_violation_ve conceal_vmx_from_pt enable_xsaves_xrstors enable_pasid_translation mode_based_execute
        sub_page_write_permissions intel_pt_uses_guest_physical use_tsc_scaling enable_user_wait_and_pause
        enable_pconfig enable_enclv_exiting - bus_lock_detection instruction_timeout"""),
    "tertiary": (TERTIARY_CONTROLS, """
        loadiwkey_exiting enable_hlat ept_paging_write guest_paging_verification ipi_virtualization
        seam_guest_physical_width enable_msr_list_instructions virtualize_ia32_spec_ctrl virtualize_apic_timer"""),
    "exit": (EXIT_CONTROLS, """
        1 1 save_debug_controls 1 1 1 1 1 1 host_address_space_size 1 1 load_perf_global_ctrl 1 1
        acknowledge_interrupt_on_exit 1 1 save_pat load_pat save_efer load_efer save_preemption_timer clear_bndcfgs
        conceal_vmx_from_pt clear_rtit_ctl clear_lbr_ctl clear_uinv load_cet load_pkrs save_perf_global_ctrl
        activate_secondary_controls"""),
    "secondary exit": (SECONDARY_EXIT_CONTROLS, "save_fred load_fred - prematurely_busy_shadow_stack"),
    "entry": (ENTRY_CONTROLS, """
        1 1 load_debug_controls 1 1 1 1 1 1 ia32e_guest entry_to_smm deactivate_dual_monitor 1 load_perf_global_ctrl
        load_pat load_efer load_bndcfgs conceal_vmx_from_pt load_rtit_ctl load_uinv load_cet load_lbr_ctl load_pkrs
        load_fred"""),
    "VM functions": (VM_FUNCTION_CONTROLS, "eptp_switching"),
}  # fmt: skip
DEFAULT1_WITH_A_NAME = {
    "cr3_load_exiting", "cr3_store_exiting", "save_debug_controls", "load_debug_controls",
}  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_every_bit_of_every_control_word(word: str) -> None:
    """Set alone, a bit is decoded by its name, as default 1, or as one that a capability MSR must allow."""
    layout, text = WORDS[word]
    bits = text.split()
    bits += ["-"] * (layout.width - len(bits))
    for n, name in enumerate(bits):
        record = decode_controls(layout, 1 << n)
        (said,) = [one for one in record["fields"] if one["set"]]
        if name == "-":
            assert said["kind"] == "reserved" and said["name"] in record["reserved_set"]
            assert f"bit {n} without a name is 1" in record["words"]
        elif name == "1":
            assert said["kind"] == "default1" and record["reserved_set"] == []
        else:
            assert (said["kind"], said["name"], said["bits"]) == ("field", name, str(n))
        normal = name == "1" or name in DEFAULT1_WITH_A_NAME
        assert bool(layout.default1_mask & 1 << n) == normal


@pytest.mark.parametrize("word", WORDS)
def test_default1_bits_that_are_0_are_pointed_at(word: str) -> None:
    layout, text = WORDS[word]
    nameless = [n for n, name in enumerate(text.split()) if name == "1"]
    whole = sum(1 << n for n in nameless)
    assert decode_controls(layout, whole)["words"] is None
    for n in nameless:
        words = decode_controls(layout, whole & ~(1 << n))["words"]
        assert words.startswith(f"bit {n} without a name, default 1, is 0: VM entry fails unless IA32_VMX_")


@pytest.mark.parametrize(
    ("layout", "default1", "named"),
    [
        (PIN_BASED, 0x0000_0016, ()),
        (PRIMARY_CONTROLS, 0x0401_E172, ("cr3_load_exiting", "cr3_store_exiting")),
        (EXIT_CONTROLS, 0x0003_6DFF, ("save_debug_controls",)),
        (ENTRY_CONTROLS, 0x0000_11FF, ("load_debug_controls",)),
    ],
)
def test_default1_bits_are_nameless_but_for_those_freed_later(
    layout: Layout, default1: int, named: tuple[str, ...]
) -> None:
    """Intel gave these bits of the default1 class a name when it allowed them to be 0; no other has one."""
    assert default1 & ~layout.reserved_mask == layout.mask(*named)
