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
from quire.arch.layout import Layout


@pytest.mark.parametrize(
    ("layout", "name", "number"),
    [
        (PIN_BASED, "external_interrupt_exiting", 0),
        (PIN_BASED, "nmi_exiting", 3),
        (PIN_BASED, "virtual_nmis", 5),
        (PIN_BASED, "activate_preemption_timer", 6),
        (PRIMARY_CONTROLS, "interrupt_window_exiting", 2),
        (PRIMARY_CONTROLS, "hlt_exiting", 7),
        (PRIMARY_CONTROLS, "invlpg_exiting", 9),
        (PRIMARY_CONTROLS, "cr3_load_exiting", 15),
        (PRIMARY_CONTROLS, "cr3_store_exiting", 16),
        (PRIMARY_CONTROLS, "unconditional_io_exiting", 24),
        (PRIMARY_CONTROLS, "use_msr_bitmaps", 28),
        (PRIMARY_CONTROLS, "activate_secondary_controls", 31),
        (SECONDARY_CONTROLS, "enable_ept", 1),
        (SECONDARY_CONTROLS, "enable_vpid", 5),
        (SECONDARY_CONTROLS, "unrestricted_guest", 7),
        (SECONDARY_CONTROLS, "enable_invpcid", 12),
        (SECONDARY_CONTROLS, "enable_vm_functions", 13),
        (SECONDARY_CONTROLS, "enable_pml", 17),
        (SECONDARY_CONTROLS, "ept_violation_ve", 18),
        (SECONDARY_CONTROLS, "mode_based_execute", 22),
        (SECONDARY_CONTROLS, "sub_page_write_permissions", 23),
        (EXIT_CONTROLS, "host_address_space_size", 9),
        (EXIT_CONTROLS, "acknowledge_interrupt_on_exit", 15),
        (EXIT_CONTROLS, "save_efer", 20),
        (EXIT_CONTROLS, "load_efer", 21),
        (ENTRY_CONTROLS, "ia32e_guest", 9),
        (ENTRY_CONTROLS, "load_pat", 14),
        (ENTRY_CONTROLS, "load_efer", 15),
    ],
)
def test_bit_numbers(layout: Layout, name: str, number: int) -> None:
    assert layout.mask(name) == 1 << number


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


@pytest.mark.parametrize(
    ("layout", "name", "number"),
    [
        (TERTIARY_CONTROLS, "loadiwkey_exiting", 0),
        (TERTIARY_CONTROLS, "enable_hlat", 1),
        (TERTIARY_CONTROLS, "ept_paging_write", 2),
        (TERTIARY_CONTROLS, "guest_paging_verification", 3),
        (TERTIARY_CONTROLS, "ipi_virtualization", 4),
        (TERTIARY_CONTROLS, "virtualize_ia32_spec_ctrl", 7),
        (SECONDARY_EXIT_CONTROLS, "prematurely_busy_shadow_stack", 3),
        (VM_FUNCTION_CONTROLS, "eptp_switching", 0),
    ],
)
def test_bit_numbers_of_the_wide_fields(layout: Layout, name: str, number: int) -> None:
    assert layout.width == 64
    assert layout.mask(name) == 1 << number
