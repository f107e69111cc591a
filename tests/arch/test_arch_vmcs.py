"""VMCS encodings against SDM 3D Appendix B, whose numbers are typed here and only here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch.vmcs import (
    SECONDARY_CONTROLS,
    VMCS_ENCODING,
    VMCS_FIELDS,
    VmcsField,
    VmcsType,
    VmcsWidth,
    VmInstructionError,
    encode,
    field_by_encoding,
    field_by_name,
)
from quire.errors import MisuseError

GOLDEN = {
    # 16-bit
    "virtual_processor_identifier": 0x0000,
    "posted_interrupt_notification_vector": 0x0002,
    "eptp_index": 0x0004,
    "hlat_prefix_size": 0x0006,
    "last_pid_pointer_index": 0x0008,
    "guest_es_selector": 0x0800,
    "guest_cs_selector": 0x0802,
    "guest_tr_selector": 0x080E,
    "guest_interrupt_status": 0x0810,
    "pml_index": 0x0812,
    "guest_uinv": 0x0814,
    "host_es_selector": 0x0C00,
    "host_gs_selector": 0x0C0A,
    "host_tr_selector": 0x0C0C,
    # 64-bit
    "io_bitmap_a_address": 0x2000,
    "msr_bitmaps_address": 0x2004,
    "executive_vmcs_pointer": 0x200C,
    "pml_address": 0x200E,
    "tsc_offset": 0x2010,
    "apic_access_address": 0x2014,
    "vm_function_controls": 0x2018,
    "ept_pointer": 0x201A,
    "eoi_exit_bitmap_3": 0x2022,
    "eptp_list_address": 0x2024,
    "vmwrite_bitmap_address": 0x2028,
    "virtualization_exception_information_address": 0x202A,
    "xss_exiting_bitmap": 0x202C,
    "encls_exiting_bitmap": 0x202E,
    "sub_page_permission_table_pointer": 0x2030,
    "tsc_multiplier": 0x2032,
    "tertiary_processor_based_controls": 0x2034,
    "shared_ept_pointer": 0x203C,
    "hlat_pointer": 0x2040,
    "secondary_vm_exit_controls": 0x2044,
    "ia32_spec_ctrl_mask": 0x204A,
    "ia32_spec_ctrl_shadow": 0x204C,
    "guest_physical_address": 0x2400,
    "msr_data": 0x2402,
    "vmcs_link_pointer": 0x2800,
    "guest_ia32_pat": 0x2804,
    "guest_ia32_efer": 0x2806,
    "guest_pdpte0": 0x280A,
    "guest_pdpte3": 0x2810,
    "guest_ia32_bndcfgs": 0x2812,
    "guest_ia32_pkrs": 0x2818,
    "host_ia32_pat": 0x2C00,
    "host_ia32_efer": 0x2C02,
    "host_ia32_pkrs": 0x2C06,
    # 32-bit
    "pin_based_controls": 0x4000,
    "primary_processor_based_controls": 0x4002,
    "exception_bitmap": 0x4004,
    "page_fault_error_code_mask": 0x4006,
    "page_fault_error_code_match": 0x4008,
    "cr3_target_count": 0x400A,
    "vm_exit_controls": 0x400C,
    "vm_entry_controls": 0x4012,
    "vm_entry_interruption_information": 0x4016,
    "vm_entry_exception_error_code": 0x4018,
    "vm_entry_instruction_length": 0x401A,
    "tpr_threshold": 0x401C,
    "secondary_processor_based_controls": 0x401E,
    "ple_window": 0x4022,
    "instruction_timeout_control": 0x4024,
    "vm_instruction_error": 0x4400,
    "exit_reason": 0x4402,
    "vm_exit_interruption_information": 0x4404,
    "vm_exit_interruption_error_code": 0x4406,
    "idt_vectoring_information": 0x4408,
    "idt_vectoring_error_code": 0x440A,
    "vm_exit_instruction_length": 0x440C,
    "vm_exit_instruction_information": 0x440E,
    "guest_es_limit": 0x4800,
    "guest_idtr_limit": 0x4812,
    "guest_es_access_rights": 0x4814,
    "guest_tr_access_rights": 0x4822,
    "guest_interruptibility_state": 0x4824,
    "guest_activity_state": 0x4826,
    "guest_smbase": 0x4828,
    "guest_ia32_sysenter_cs": 0x482A,
    "vmx_preemption_timer_value": 0x482E,
    "host_ia32_sysenter_cs": 0x4C00,
    # natural width
    "cr0_guest_host_mask": 0x6000,
    "cr4_guest_host_mask": 0x6002,
    "cr0_read_shadow": 0x6004,
    "cr4_read_shadow": 0x6006,
    "cr3_target_value_0": 0x6008,
    "cr3_target_value_3": 0x600E,
    "exit_qualification": 0x6400,
    "io_rcx": 0x6402,
    "guest_linear_address": 0x640A,
    "guest_cr0": 0x6800,
    "guest_cr3": 0x6802,
    "guest_cr4": 0x6804,
    "guest_es_base": 0x6806,
    "guest_fs_base": 0x680E,
    "guest_gdtr_base": 0x6816,
    "guest_idtr_base": 0x6818,
    "guest_dr7": 0x681A,
    "guest_rsp": 0x681C,
    "guest_rip": 0x681E,
    "guest_rflags": 0x6820,
    "guest_pending_debug_exceptions": 0x6822,
    "guest_ia32_sysenter_eip": 0x6826,
    "guest_ssp": 0x682A,
    "guest_ia32_interrupt_ssp_table_address": 0x682C,
    "host_cr0": 0x6C00,
    "host_cr3": 0x6C02,
    "host_fs_base": 0x6C06,
    "host_idtr_base": 0x6C0E,
    "host_rsp": 0x6C14,
    "host_rip": 0x6C16,
    "host_ia32_interrupt_ssp_table_address": 0x6C1C,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_encoding(name: str) -> None:
    assert field_by_name(name).encoding == GOLDEN[name]
    assert field_by_encoding(GOLDEN[name]).name == name


def test_fields_are_unique_and_whole() -> None:
    # Rows of the tables of Appendix B: 24 of 16 bits, 76 of 64, 51 of 32, 52 of natural width.
    assert [sum(field.width is width for field in VMCS_FIELDS) for width in VmcsWidth] == [24, 76, 51, 52]
    assert len({field.name for field in VMCS_FIELDS}) == len(VMCS_FIELDS)
    assert len({field.encoding for field in VMCS_FIELDS}) == len(VMCS_FIELDS)


def test_order_is_the_manuals() -> None:
    """Appendix B goes by width (16, 64, 32, natural), then control, read-only, guest, host: by encoding."""
    assert [field.encoding for field in VMCS_FIELDS] == sorted(field.encoding for field in VMCS_FIELDS)


def test_properties() -> None:
    pointer = field_by_name("ept_pointer")
    assert pointer == VmcsField("ept_pointer", VmcsWidth.BITS_64, VmcsType.CONTROL, 13)
    assert repr(pointer) == "<VmcsField ept_pointer: 0x201a, 64 bits>"
    assert pointer.encoding_high == 0x201B
    assert field_by_encoding(0x201B) is pointer
    assert not pointer.read_only
    assert field_by_name("exit_reason").read_only
    assert {field.type for field in VMCS_FIELDS if field.read_only} == {VmcsType.EXIT_INFO}
    names = ("guest_cs_selector", "exit_reason", "guest_rip", "tsc_offset")
    assert [field_by_name(name).bits for name in names] == [16, 32, 64, 64]


@given(st.sampled_from(VmcsWidth), st.sampled_from(VmcsType), st.integers(0, 511), st.booleans())
def test_encode_round_trip(width: VmcsWidth, type: VmcsType, index: int, high: bool) -> None:
    high = high and width is VmcsWidth.BITS_64
    assert VMCS_ENCODING.decode(encode(width, type, index, high)) == {
        "high": high,
        "index": index,
        "type": type,
        "width": width,
    }


def test_encode_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        encode(VmcsWidth.BITS_32, VmcsType.GUEST, 512)
    assert str(caught.value) == (
        "VMCS_ENCODING.index = 0x200 does not fit in bits 9:1: give a value from 0x0 to 0x1ff"
    )
    with pytest.raises(MisuseError) as caught:
        _ = field_by_name("guest_cr3").encoding_high
    assert str(caught.value) == (
        "VMCS fields of width NATURAL have no high half: only BITS_64 ones do, use the full access"
    )


def test_field_by_name_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        field_by_name("ept_pointr")
    assert str(caught.value) == (
        "No VMCS field is called 'ept_pointr' (did you mean 'ept_pointer'?): see VMCS_FIELDS"
    )


@pytest.mark.parametrize(
    ("n", "near"),
    [
        (0x2046, "0x2044, 'secondary_vm_exit_controls'"),
        (0x4403, "0x4402, 'exit_reason'"),
        (-1, None),
        (1 << 40, None),
    ],
)
def test_field_by_encoding_wrong(n: int, near: str | None) -> None:
    nearest = {-1: "0x0, 'virtual_processor_identifier'"}.get(
        n, "0x6c1c, 'host_ia32_interrupt_ssp_table_address'"
    )
    with pytest.raises(MisuseError) as caught:
        field_by_encoding(n)
    assert str(caught.value) == (
        f"No VMCS field has encoding {n:#x} (did you mean {near or nearest}?): see VMCS_FIELDS"
    )


def test_instruction_errors() -> None:
    assert set(range(1, 29)) - {int(error) for error in VmInstructionError} == {14, 21, 27}
    assert VmInstructionError(7).text == "VM entry with invalid control field(s)"
    assert VmInstructionError(28) is VmInstructionError.INVALID_OPERAND_TO_INVEPT_INVVPID
    assert VmInstructionError.VMWRITE_READ_ONLY == 13
    assert all(error.text for error in VmInstructionError)


def test_control_layouts_are_offered_next_to_their_fields() -> None:
    assert SECONDARY_CONTROLS.mask("enable_ept") == 2
