"""The VMCS: how its fields are encoded, every field of SDM 3D Appendix B, and the VM-instruction errors.

An encoding is computed from (width, type, index, access) and never typed: the table below only says which
field has which index. Models the fields that Intel documents up to FRED and virtualization of the APIC timer. Holds
no values: the region that does is the business of the vcpu room. The layouts of the control
fields are in :mod:`quire.arch.controls` and are offered here too, next to the fields that hold them.

Fails with MisuseError for an index, access, name or encoding that does not exist.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from quire.arch.controls import (
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
)
from quire.arch.layout import WORD, Layout, bit, bits, reserved
from quire.errors import MisuseError, did_you_mean

__all__ = [
    "ENTRY_CONTROLS",
    "EXIT_CONTROLS",
    "NO_VMCS",
    "PIN_BASED",
    "PRIMARY_CONTROLS",
    "SECONDARY_CONTROLS",
    "VMCS_ENCODING",
    "VMCS_FIELDS",
    "VmInstructionError",
    "VmcsField",
    "VmcsType",
    "VmcsWidth",
    "encode",
    "field_by_encoding",
    "field_by_name",
]

#: The address that stands for no VMCS: of VMPTRST without a current one, and of a VMCS that links to none.
NO_VMCS = WORD


class VmcsWidth(IntEnum):
    """Width of a field, as bits 14:13 of its encoding (SDM 3C §24.11.2)."""

    BITS_16 = 0
    BITS_64 = 1
    BITS_32 = 2
    NATURAL = 3


class VmcsType(IntEnum):
    """Area of a field, as bits 11:10 of its encoding (SDM 3C §24.11.2)."""

    CONTROL = 0
    EXIT_INFO = 1  #: read-only, unless the processor can write all fields
    GUEST = 2
    HOST = 3


VMCS_ENCODING = Layout(
    "VMCS_ENCODING",
    32,
    "SDM 3C §24.11.2",
    (
        bit(0, "high", "access to bits 63:32 of a 64-bit field"),
        bits(1, 9, "index", "number of the field within its width and type"),
        bits(10, 11, "type", "see VmcsType"),
        reserved(12),
        bits(13, 14, "width", "see VmcsWidth"),
        reserved(15, 31),
    ),
)

_AREAS = ("control field", "exit information", "guest state", "host state")  # by type
# Natural-width fields have 64 bits on processors with Intel 64, the only kind that Quire models.
_BITS = {VmcsWidth.BITS_16: 16, VmcsWidth.BITS_64: 64, VmcsWidth.BITS_32: 32, VmcsWidth.NATURAL: 64}


def encode(width: VmcsWidth, type: VmcsType, index: int, access_high: bool = False) -> int:
    """Return the 32-bit encoding that VMREAD and VMWRITE take.

    SDM 3C §24.11.2. `access_high` asks for bits 63:32 of a 64-bit field. Raises MisuseError for an index
    wider than 9 bits, and for the high half of a field that has none.
    """
    if access_high and width is not VmcsWidth.BITS_64:
        raise MisuseError(
            f"VMCS fields of width {VmcsWidth(width).name} have no high half: "
            "only BITS_64 ones do, use the full access"
        )
    return VMCS_ENCODING.encode(high=int(access_high), index=index, type=type, width=width)


@dataclass(frozen=True, slots=True, repr=False)
class VmcsField:
    """One VMCS field: its name, worded as in the manual, and what its encoding is computed from."""

    name: str
    width: VmcsWidth
    type: VmcsType
    index: int

    def __repr__(self) -> str:
        return f"<VmcsField {self.name}: {self.encoding:#06x}, {self.bits} bits>"

    @property
    def encoding(self) -> int:
        """The encoding of the full access."""
        return encode(self.width, self.type, self.index)

    @property
    def encoding_high(self) -> int:
        """The encoding of the access to bits 63:32. MisuseError unless the field is a 64-bit one."""
        return encode(self.width, self.type, self.index, access_high=True)

    @property
    def bits(self) -> int:
        """The width in bits: 16, 32 or 64."""
        return _BITS[self.width]

    @property
    def area(self) -> str:
        """The area that it lies in, in words."""
        return _AREAS[self.type]

    @property
    def read_only(self) -> bool:
        """Whether VMWRITE to it fails with VM-instruction error 13."""
        return self.type is VmcsType.EXIT_INFO


# Names in the order of their indices, which is the order of the manual's tables; ``-`` is an index without a
# field.
_TABLE: tuple[tuple[VmcsWidth, VmcsType, str], ...] = (
    # 16-bit control fields, SDM 3D §B.1.1
    (
        VmcsWidth.BITS_16,
        VmcsType.CONTROL,
        """
        virtual_processor_identifier posted_interrupt_notification_vector eptp_index hlat_prefix_size
        last_pid_pointer_index virtual_timer_vector
    """,
    ),
    # 16-bit guest-state fields, SDM 3D §B.1.2
    (
        VmcsWidth.BITS_16,
        VmcsType.GUEST,
        """
        guest_es_selector guest_cs_selector guest_ss_selector guest_ds_selector guest_fs_selector
        guest_gs_selector guest_ldtr_selector guest_tr_selector guest_interrupt_status pml_index guest_uinv
    """,
    ),
    # 16-bit host-state fields, SDM 3D §B.1.3
    (
        VmcsWidth.BITS_16,
        VmcsType.HOST,
        """
        host_es_selector host_cs_selector host_ss_selector host_ds_selector host_fs_selector host_gs_selector
        host_tr_selector
    """,
    ),
    # 64-bit control fields, SDM 3D §B.2.1
    (
        VmcsWidth.BITS_64,
        VmcsType.CONTROL,
        """
        io_bitmap_a_address io_bitmap_b_address msr_bitmaps_address vm_exit_msr_store_address
        vm_exit_msr_load_address vm_entry_msr_load_address executive_vmcs_pointer pml_address tsc_offset
        virtual_apic_address apic_access_address posted_interrupt_descriptor_address vm_function_controls
        ept_pointer eoi_exit_bitmap_0 eoi_exit_bitmap_1 eoi_exit_bitmap_2 eoi_exit_bitmap_3 eptp_list_address
        vmread_bitmap_address vmwrite_bitmap_address virtualization_exception_information_address
        xss_exiting_bitmap encls_exiting_bitmap sub_page_permission_table_pointer tsc_multiplier
        tertiary_processor_based_controls enclv_exiting_bitmap low_pasid_directory_address
        high_pasid_directory_address shared_ept_pointer pconfig_exiting_bitmap hlat_pointer
        pid_pointer_table_address secondary_vm_exit_controls - - ia32_spec_ctrl_mask ia32_spec_ctrl_shadow
        guest_deadline_shadow - injected_event_data
    """,
    ),
    # 64-bit read-only data fields, SDM 3D §B.2.2
    (
        VmcsWidth.BITS_64,
        VmcsType.EXIT_INFO,
        """
        guest_physical_address msr_data original_event_data
    """,
    ),
    # 64-bit guest-state fields, SDM 3D §B.2.3
    (
        VmcsWidth.BITS_64,
        VmcsType.GUEST,
        """
        vmcs_link_pointer guest_ia32_debugctl guest_ia32_pat guest_ia32_efer guest_ia32_perf_global_ctrl
        guest_pdpte0 guest_pdpte1 guest_pdpte2 guest_pdpte3 guest_ia32_bndcfgs guest_ia32_rtit_ctl
        guest_ia32_lbr_ctl guest_ia32_pkrs guest_ia32_fred_config guest_ia32_fred_rsp1 guest_ia32_fred_rsp2
        guest_ia32_fred_rsp3 guest_ia32_fred_stklvls guest_ia32_fred_ssp1 guest_ia32_fred_ssp2 guest_ia32_fred_ssp3
        - - - guest_deadline
    """,
    ),
    # 64-bit host-state fields, SDM 3D §B.2.4
    (
        VmcsWidth.BITS_64,
        VmcsType.HOST,
        """
        host_ia32_pat host_ia32_efer host_ia32_perf_global_ctrl host_ia32_pkrs host_ia32_fred_config
        host_ia32_fred_rsp1 host_ia32_fred_rsp2 host_ia32_fred_rsp3 host_ia32_fred_stklvls host_ia32_fred_ssp1
        host_ia32_fred_ssp2 host_ia32_fred_ssp3
    """,
    ),
    # 32-bit control fields, SDM 3D §B.3.1
    (
        VmcsWidth.BITS_32,
        VmcsType.CONTROL,
        """
        pin_based_controls primary_processor_based_controls exception_bitmap page_fault_error_code_mask
        page_fault_error_code_match cr3_target_count vm_exit_controls vm_exit_msr_store_count
        vm_exit_msr_load_count vm_entry_controls vm_entry_msr_load_count vm_entry_interruption_information
        vm_entry_exception_error_code vm_entry_instruction_length tpr_threshold
        secondary_processor_based_controls ple_gap ple_window instruction_timeout_control
    """,
    ),
    # 32-bit read-only data fields, SDM 3D §B.3.2
    (
        VmcsWidth.BITS_32,
        VmcsType.EXIT_INFO,
        """
        vm_instruction_error exit_reason vm_exit_interruption_information vm_exit_interruption_error_code
        idt_vectoring_information idt_vectoring_error_code vm_exit_instruction_length
        vm_exit_instruction_information
    """,
    ),
    # 32-bit guest-state fields, SDM 3D §B.3.3
    (
        VmcsWidth.BITS_32,
        VmcsType.GUEST,
        """
        guest_es_limit guest_cs_limit guest_ss_limit guest_ds_limit guest_fs_limit guest_gs_limit
        guest_ldtr_limit guest_tr_limit guest_gdtr_limit guest_idtr_limit guest_es_access_rights
        guest_cs_access_rights guest_ss_access_rights guest_ds_access_rights guest_fs_access_rights
        guest_gs_access_rights guest_ldtr_access_rights guest_tr_access_rights guest_interruptibility_state
        guest_activity_state guest_smbase guest_ia32_sysenter_cs - vmx_preemption_timer_value
    """,
    ),
    # 32-bit host-state fields, SDM 3D §B.3.4
    (
        VmcsWidth.BITS_32,
        VmcsType.HOST,
        """
        host_ia32_sysenter_cs
    """,
    ),
    # Natural-width control fields, SDM 3D §B.4.1
    (
        VmcsWidth.NATURAL,
        VmcsType.CONTROL,
        """
        cr0_guest_host_mask cr4_guest_host_mask cr0_read_shadow cr4_read_shadow cr3_target_value_0
        cr3_target_value_1 cr3_target_value_2 cr3_target_value_3
    """,
    ),
    # Natural-width read-only data fields, SDM 3D §B.4.2
    (
        VmcsWidth.NATURAL,
        VmcsType.EXIT_INFO,
        """
        exit_qualification io_rcx io_rsi io_rdi io_rip guest_linear_address
    """,
    ),
    # Natural-width guest-state fields, SDM 3D §B.4.3
    (
        VmcsWidth.NATURAL,
        VmcsType.GUEST,
        """
        guest_cr0 guest_cr3 guest_cr4 guest_es_base guest_cs_base guest_ss_base guest_ds_base guest_fs_base
        guest_gs_base guest_ldtr_base guest_tr_base guest_gdtr_base guest_idtr_base guest_dr7 guest_rsp
        guest_rip guest_rflags guest_pending_debug_exceptions guest_ia32_sysenter_esp guest_ia32_sysenter_eip
        guest_ia32_s_cet guest_ssp guest_ia32_interrupt_ssp_table_address
    """,
    ),
    # Natural-width host-state fields, SDM 3D §B.4.4
    (
        VmcsWidth.NATURAL,
        VmcsType.HOST,
        """
        host_cr0 host_cr3 host_cr4 host_fs_base host_gs_base host_tr_base host_gdtr_base host_idtr_base
        host_ia32_sysenter_esp host_ia32_sysenter_eip host_rsp host_rip host_ia32_s_cet host_ssp
        host_ia32_interrupt_ssp_table_address
    """,
    ),
)

#: Every field, in the order of SDM 3D §B.
VMCS_FIELDS: tuple[VmcsField, ...] = tuple(
    VmcsField(name, width, type, index)
    for width, type, names in _TABLE
    for index, name in enumerate(names.split())
    if name != "-"
)

_BY_NAME = {field.name: field for field in VMCS_FIELDS}
_BY_ENCODING = {field.encoding: field for field in VMCS_FIELDS}


def field_by_name(name: str) -> VmcsField:
    """Return the VMCS field called `name`. Raises MisuseError, with the closest name, if there is none."""
    found = _BY_NAME.get(name)
    if found is None:
        raise MisuseError(f"No VMCS field is called {name!r}{did_you_mean(name, _BY_NAME)}: see VMCS_FIELDS")
    return found


def field_by_encoding(n: int) -> VmcsField:
    """Return the VMCS field that encoding `n` reaches; the high half of a 64-bit field gives that field.

    SDM 3D §B. Raises MisuseError, with the closest encoding, if there is none.
    """
    found = _BY_ENCODING.get(n)
    if found is None and n & VMCS_ENCODING.mask("high"):
        full = _BY_ENCODING.get(n ^ VMCS_ENCODING.mask("high"))
        found = full if full is not None and full.width is VmcsWidth.BITS_64 else None
    if found is None:
        near = min(VMCS_FIELDS, key=lambda field: (abs(field.encoding - n), field.encoding))
        raise MisuseError(
            f"No VMCS field has encoding {n:#x} (did you mean {near.encoding:#x}, {near.name!r}?): "
            "see VMCS_FIELDS"
        )
    return found


class VmInstructionError(IntEnum):
    """VM-instruction error numbers (SDM 3C §30.4); `text` is the manual's wording.

    14, 21 and 27 are not assigned.
    """

    text: str

    def __new__(cls, number: int, text: str) -> Self:
        """Give each member its number as value and the manual's wording as `text`."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.text = text
        return member

    VMCALL_IN_ROOT = 1, "VMCALL executed in VMX root operation"
    VMCLEAR_ADDRESS = 2, "VMCLEAR with invalid physical address"
    VMCLEAR_VMXON_POINTER = 3, "VMCLEAR with VMXON pointer"
    VMLAUNCH_NOT_CLEAR = 4, "VMLAUNCH with non-clear VMCS"
    VMRESUME_NOT_LAUNCHED = 5, "VMRESUME with non-launched VMCS"
    VMRESUME_AFTER_VMXOFF = 6, "VMRESUME after VMXOFF (VMXOFF and VMXON between VMLAUNCH and VMRESUME)"
    ENTRY_CONTROL_FIELDS = 7, "VM entry with invalid control field(s)"
    ENTRY_HOST_STATE_FIELDS = 8, "VM entry with invalid host-state field(s)"
    VMPTRLD_ADDRESS = 9, "VMPTRLD with invalid physical address"
    VMPTRLD_VMXON_POINTER = 10, "VMPTRLD with VMXON pointer"
    VMPTRLD_REVISION = 11, "VMPTRLD with incorrect VMCS revision identifier"
    UNSUPPORTED_COMPONENT = 12, "VMREAD/VMWRITE from/to unsupported VMCS component"
    VMWRITE_READ_ONLY = 13, "VMWRITE to read-only VMCS component"
    VMXON_IN_ROOT = 15, "VMXON executed in VMX root operation"
    ENTRY_EXECUTIVE_POINTER = 16, "VM entry with invalid executive-VMCS pointer"
    ENTRY_EXECUTIVE_NOT_LAUNCHED = 17, "VM entry with non-launched executive VMCS"
    ENTRY_EXECUTIVE_NOT_VMXON = (
        18,
        (
            "VM entry with executive-VMCS pointer not VMXON pointer (when attempting to deactivate "
            "the dual-monitor treatment of SMIs and SMM)"
        ),
    )
    VMCALL_NOT_CLEAR = (
        19,
        "VMCALL with non-clear VMCS (when attempting to activate the dual-monitor treatment of SMIs and SMM)",
    )
    VMCALL_EXIT_CONTROLS = 20, "VMCALL with invalid VM-exit control fields"
    VMCALL_MSEG_REVISION = (
        22,
        (
            "VMCALL with incorrect MSEG revision identifier (when attempting to activate "
            "the dual-monitor treatment of SMIs and SMM)"
        ),
    )
    VMXOFF_DUAL_MONITOR = 23, "VMXOFF under dual-monitor treatment of SMIs and SMM"
    VMCALL_SMM_FEATURES = (
        24,
        (
            "VMCALL with invalid SMM-monitor features (when attempting to activate "
            "the dual-monitor treatment of SMIs and SMM)"
        ),
    )
    ENTRY_EXECUTIVE_CONTROLS = (
        25,
        (
            "VM entry with invalid VM-execution control fields in executive VMCS "
            "(when attempting to return from SMM)"
        ),
    )
    ENTRY_BLOCKED_BY_MOV_SS = 26, "VM entry with events blocked by MOV SS"
    INVALID_OPERAND_TO_INVEPT_INVVPID = 28, "Invalid operand to INVEPT/INVVPID"
