"""Control registers, EFER and RFLAGS against the bit numbers of the manual."""

import pytest

from quire.arch.layout import Layout
from quire.arch.registers import CR0, CR3, CR4, DR6, EFER, MOV_TO_CR3, RFLAGS, pcid

BITS = {
    CR0: {
        "PE": 0,
        "MP": 1,
        "EM": 2,
        "TS": 3,
        "ET": 4,
        "NE": 5,
        "WP": 16,
        "AM": 18,
        "NW": 29,
        "CD": 30,
        "PG": 31,
    },
    CR3: {"PWT": 3, "PCD": 4, "addr": 12, "LAM_U57": 61, "LAM_U48": 62},
    CR4: {
        "VME": 0,
        "PVI": 1,
        "TSD": 2,
        "DE": 3,
        "PSE": 4,
        "PAE": 5,
        "MCE": 6,
        "PGE": 7,
        "PCE": 8,
        "OSFXSR": 9,
        "OSXMMEXCPT": 10,
        "UMIP": 11,
        "LA57": 12,
        "VMXE": 13,
        "SMXE": 14,
        "FSGSBASE": 16,
        "PCIDE": 17,
        "OSXSAVE": 18,
        "KL": 19,
        "SMEP": 20,
        "SMAP": 21,
        "PKE": 22,
        "CET": 23,
        "PKS": 24,
        "UINTR": 25,
        "LASS": 27,
        "LAM_SUP": 28,
        "FRED": 32,
    },
    EFER: {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11},
    DR6: {"B": 0, "BLD": 11, "BD": 13, "BS": 14, "BT": 15, "RTM": 16},
    MOV_TO_CR3: {"pcid": 0, "addr": 12, "LAM_U57": 61, "LAM_U48": 62, "no_flush": 63},
    RFLAGS: {
        "CF": 0,
        "always_1": 1,
        "PF": 2,
        "AF": 4,
        "ZF": 6,
        "SF": 7,
        "TF": 8,
        "IF": 9,
        "DF": 10,
        "OF": 11,
        "IOPL": 12,
        "NT": 14,
        "RF": 16,
        "VM": 17,
        "AC": 18,
        "VIF": 19,
        "VIP": 20,
        "ID": 21,
    },
}


@pytest.mark.parametrize("layout", BITS, ids=lambda layout: layout.name)
def test_bits(layout: Layout) -> None:
    assert {name: layout.shift(name) for name in layout.decode(0)} == BITS[layout]


def test_reserved() -> None:
    assert CR0.reserved_mask == 0xFFFF_FFFF_0000_0000
    assert CR3.reserved_mask == 0x9FF0_0000_0000_0000
    assert CR4.reserved_mask == 0xFFFF_FFFE_E400_8000
    assert EFER.reserved_mask == 0xFFFF_FFFF_FFFF_F2FE
    assert DR6.reserved_mask == 0xFFFF_FFFF_0000_0000
    assert MOV_TO_CR3.reserved_mask == 0x1FF0_0000_0000_0000
    assert RFLAGS.reserved_mask == 0xFFFF_FFFF_FFC0_8028


def test_flags_of_a_running_kernel() -> None:
    assert CR0.flags(0x8005_0033) == "PE MP ET NE WP AM PG"
    assert EFER.flags(0xD01) == "SCE LME LMA NXE"
    assert RFLAGS.flags(0x246) == "always_1 PF ZF IF"
    assert CR3.flags(0x1234_5018) == "PWT PCD addr=0x12345000"


def test_pcid() -> None:
    assert pcid(0x1234_5ABC) == 0xABC
    assert pcid(0x1234_5000) == 0
