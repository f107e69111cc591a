"""VMCS fields by the names that other projects give them."""

import pytest

from quire.arch import VMCS_FIELDS
from quire.dumps import read_dumps
from quire.dumps.field_list import parse_hexadecimal
from quire.dumps.field_names import field_of, name_key

#: Our name, then those of Linux, HAXM, ia32-doc, VirtualBox and the manual.
NAMES = """
virtual_processor_identifier: VIRTUAL_PROCESSOR_ID, VMX_VPID, Virtual-processor identifier (VPID)
posted_interrupt_notification_vector: POSTED_INTR_NV, Posted-interrupt notification vector
guest_interrupt_status: GUEST_INTR_STATUS
pml_index: GUEST_PML_INDEX
io_bitmap_a_address: IO_BITMAP_A, VMCS_CTRL_BITMAP_OF_IO_A_ADDRESS, Address of I/O bitmap A (full)
msr_bitmaps_address: MSR_BITMAP, VMCS_CTRL_MSR_BITMAP_ADDRESS, Address of MSR bitmaps (full)
vm_exit_msr_store_address: VM_EXIT_MSR_STORE_ADDR
virtual_apic_address: VIRTUAL_APIC_PAGE_ADDR, VMCS_CTRL_VIRTUAL_APIC_ADDRESS
apic_access_address: APIC_ACCESS_ADDR
posted_interrupt_descriptor_address: POSTED_INTR_DESC_ADDR
vm_function_controls: VM_FUNCTION_CONTROL
ept_pointer: EPT_POINTER, VMX_EPTP, EPT pointer (EPTP; full), VMCS_CTRL_EPT_POINTER
eptp_list_address: EPTP_LIST_ADDRESS
eoi_exit_bitmap_0: EOI_EXIT_BITMAP0
xss_exiting_bitmap: XSS_EXIT_BITMAP
tertiary_processor_based_controls: TERTIARY_VM_EXEC_CONTROL
pid_pointer_table_address: PID_POINTER_TABLE
guest_physical_address: GUEST_PHYSICAL_ADDRESS, VM_EXIT_INFO_GUEST_PHYSICAL_ADDRESS, Guest-physical address (full)
vmcs_link_pointer: VMCS_LINK_POINTER, GUEST_VMCS_LINK_PTR, VMCS_GUEST_VMCS_LINK_POINTER, VMCS link pointer (full)
guest_ia32_efer: GUEST_IA32_EFER, GUEST_EFER, Guest IA32_EFER (full)
guest_pdpte0: GUEST_PDPTR0
pin_based_controls: PIN_BASED_VM_EXEC_CONTROL, VMX_PIN_CONTROLS, Pin-based VM-execution controls
primary_processor_based_controls: CPU_BASED_VM_EXEC_CONTROL, VMX_PRIMARY_PROCESSOR_CONTROLS
secondary_processor_based_controls: SECONDARY_VM_EXEC_CONTROL, VMX_SECONDARY_PROCESSOR_CONTROLS, secondary controls
vm_exit_controls: VM_EXIT_CONTROLS, VMX_EXIT_CONTROLS, VMCS_CTRL_PRIMARY_VMEXIT_CONTROLS
vm_entry_controls: VM_ENTRY_CONTROLS, VMX_ENTRY_CONTROLS, VMCS_CTRL_VMENTRY_CONTROLS
vm_entry_interruption_information: VM_ENTRY_INTR_INFO_FIELD, VMX_ENTRY_INTERRUPT_INFO, vm_entry_intr_info
vm_entry_exception_error_code: VM_ENTRY_EXCEPTION_ERROR_CODE, VMX_ENTRY_EXCEPTION_ERROR_CODE
vm_entry_instruction_length: VM_ENTRY_INSTRUCTION_LEN
instruction_timeout_control: NOTIFY_WINDOW
vm_instruction_error: VM_INSTRUCTION_ERROR, VM_INSTRUCTION_ERROR_CODE
exit_reason: VM_EXIT_REASON, VM_EXIT_INFO_REASON, VMCS_EXIT_REASON, Exit reason
vm_exit_interruption_information: VM_EXIT_INTR_INFO, VM_EXIT_INFO_INTERRUPT_INFO
vm_exit_interruption_error_code: VM_EXIT_INTR_ERROR_CODE, VM_EXIT_INFO_EXCEPTION_ERROR_CODE
idt_vectoring_information: IDT_VECTORING_INFO_FIELD, VM_EXIT_INFO_IDT_VECTORING, IDT-vectoring information field
vm_exit_instruction_length: VM_EXIT_INSTRUCTION_LEN, VM_EXIT_INFO_INSTRUCTION_LENGTH
vm_exit_instruction_information: VMX_INSTRUCTION_INFO, VM_EXIT_INFO_INSTRUCTION_INFO
guest_es_access_rights: GUEST_ES_AR_BYTES, VMCS_GUEST_ES_ACCESS_RIGHTS
guest_cs_access_rights: GUEST_CS_AR, Guest CS access rights
guest_cs_selector: GUEST_CS_SELECTOR, VMX_VMCS16_GUEST_CS_SEL
guest_interruptibility_state: GUEST_INTERRUPTIBILITY_INFO, GUEST_INTERRUPTIBILITY, Guest interruptibility state
guest_ia32_sysenter_cs: GUEST_SYSENTER_CS
vmx_preemption_timer_value: VMX_PREEMPTION_TIMER_VALUE
cr0_guest_host_mask: CR0_GUEST_HOST_MASK, VMX_CR0_MASK
cr3_target_value_0: CR3_TARGET_VALUE0, CR3-target value 0
exit_qualification: EXIT_QUALIFICATION, VM_EXIT_INFO_QUALIFICATION
io_rcx: EXIT_IO_RCX, VM_EXIT_INFO_IO_ECX, I/O RCX
guest_pending_debug_exceptions: GUEST_PENDING_DBG_EXCEPTIONS, GUEST_PENDING_DBE
guest_ia32_s_cet: GUEST_S_CET
guest_ia32_interrupt_ssp_table_address: GUEST_INTR_SSP_TABLE
guest_cr0: GUEST_CR0, GuestCr0, Guest CR0, VMCS_GUEST_CR0
guest_rflags: GUEST_RFLAGS, guestRflags
"""
PAIRS = [
    (name, other.strip())
    for name, others in (line.split(": ") for line in NAMES.strip().splitlines())
    for other in others.split(",")
]


@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_other_names(name: str, other: str) -> None:
    found = field_of(other)
    assert found is not None
    assert found.name == name


def test_our_names_mean_themselves_in_any_case() -> None:
    for field in VMCS_FIELDS:
        for spelling in (
            field.name,
            field.name.upper(),
            field.name.replace("_", "-"),
            field.name.replace("_", " "),
        ):
            assert field_of(spelling) is field
    assert len({name_key(field.name) for field in VMCS_FIELDS}) == len(VMCS_FIELDS)


@pytest.mark.parametrize("name", ["rip", "cr0", "x", "", "guest", "0x6820", "PGD", "RAX", "exit", "field"])
def test_words_that_are_no_names(name: str) -> None:
    assert field_of(name) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x1f", 31), ("1fh", 31), ("10", 10), ("0010", 16), ("80050033", 0x80050033), ("0x8000_0031", 0x80000031),
        ("ff", 255), ("2147483697", 2147483697), ("0x0010`04af", 0x1004AF),
    ],
)  # fmt: skip
def test_numbers(text: str, value: int) -> None:
    assert parse_hexadecimal(text) == value


@pytest.mark.parametrize(
    "line",
    [
        "session closed, exit reason: 1", "480 600", "489 be", "process exit reason 30", "CPU0: 1 2 3",
        "eth0: link up, 1000 Mbps", "Mem-Info: active_anon:480 inactive_anon:481", "0x7c00: 55 aa", "usb 1-1: 0x480",
        "guest: 5", "reserve setup: offset = 0x10", "audit: type=1400 res=1", "page:00000000 count:1 mapcount:0",
        "FS:  00007f4c2b1ff740(0000) GS:ffff98d7efb40000(0000) knlGS:0000000000000000",
    ],
)  # fmt: skip
def test_ordinary_lines_are_not_read(line: str) -> None:
    assert read_dumps(line).dumps == []
