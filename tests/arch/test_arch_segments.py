"""Segments, gates and the TSS: descriptors as Linux has them, offsets of SDM 3A §7.7 typed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch.segments import (
    ACCESS_RIGHTS,
    GATE_SIZE,
    IDT_GATE,
    SEGMENT_DESCRIPTOR,
    SELECTOR,
    SELECTOR_ERROR,
    GateType,
    access_rights,
    gate_offset,
    ist_offset,
    rsp_offset,
)
from quire.errors import MisuseError

# The descriptors of Linux's GDT and the access rights that KVM shows of them.
DESCRIPTORS = {
    0x00AF_9B00_0000_FFFF: 0xA09B,  # 64-bit kernel code
    0x00CF_9300_0000_FFFF: 0xC093,  # kernel data
    0x00AF_FB00_0000_FFFF: 0xA0FB,  # 64-bit user code
    0x00CF_F300_0000_FFFF: 0xC0F3,  # user data
    0x0000_8B00_0000_0067: 0x008B,  # busy TSS, low half
}


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=hex)
def test_access_rights(descriptor: int) -> None:
    assert access_rights(descriptor) == DESCRIPTORS[descriptor]


@given(st.integers(0, (1 << 64) - 1))
def test_access_rights_are_the_attributes_of_the_descriptor(descriptor: int) -> None:
    assert access_rights(descriptor) == (descriptor >> 40 & 0xFF) | (descriptor >> 52 & 0xF) << 12
    assert not access_rights(descriptor) & (ACCESS_RIGHTS.reserved_mask | ACCESS_RIGHTS.mask("unusable"))


@given(st.integers(0, (1 << 64) - 1))
def test_gate_offset(offset: int) -> None:
    gate = IDT_GATE.encode(
        offset_low=offset & 0xFFFF,
        offset_middle=offset >> 16 & 0xFFFF,
        offset_high=offset >> 32,
        selector=0x10,
        type=GateType.INTERRUPT,
        P=1,
    )
    assert gate_offset(gate) == offset
    assert gate.to_bytes(GATE_SIZE, "little")[5] == 0x8E


def test_stacks_of_the_tss() -> None:
    assert [rsp_offset(level) for level in range(3)] == [4, 12, 20]
    assert [ist_offset(number) for number in range(1, 8)] == [36, 44, 52, 60, 68, 76, 84]


def test_stacks_that_do_not_exist() -> None:
    with pytest.raises(MisuseError) as caught:
        rsp_offset(3)
    assert str(caught.value) == ("The TSS has no stack of privilege level 0x3: give a level from 0x0 to 0x2")
    for number in (0, 8):
        with pytest.raises(MisuseError, match=f"no interrupt stack {number:#x}"):
            ist_offset(number)


def test_numbers() -> None:
    assert SELECTOR.decode(0x2B) == {"RPL": 3, "TI": 0, "index": 5}
    assert SELECTOR_ERROR.encode(EXT=1, IDT=1, index=14) == 0x73
    assert SEGMENT_DESCRIPTOR.mask("L") == 1 << 53
    assert [int(kind) for kind in GateType] == [14, 15]
