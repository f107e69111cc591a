"""Vectors, accesses and the page-fault error code in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch.faults import PF_ERROR, Access, Vector, describe_page_fault
from quire.errors import MisuseError


def test_numbers() -> None:
    names = ["READ", "WRITE", "FETCH", "SHADOW_READ", "SHADOW_WRITE"]
    assert [access.name for access in Access] == names
    assert list(Access) == [0, 1, 2, 3, 4]
    assert Vector.PF == 14
    assert Vector.VE == 20
    assert Vector.CP == 21
    assert [int(vector) for vector in Vector] == [*range(9), *range(10, 15), *range(16, 22)]
    bits = ("P", "W", "U", "RSVD", "ID", "PK", "SS", "HLAT", "SGX")
    assert [PF_ERROR.shift(name) for name in bits] == [*range(8), 15]


@pytest.mark.parametrize(
    ("error_code", "text"),
    [
        (0x0, "supervisor read: page not present"),
        (0x6, "user write: page not present"),
        (0x5, "user read: forbidden by access rights"),
        (0x15, "user instruction fetch: forbidden by access rights"),
        (0x9, "supervisor read: reserved bit set in a paging-structure entry"),
        (0x27, "user write: forbidden by protection key"),
        (0x8007, "user write: forbidden by SGX access control"),
        (0x47, "user write to a shadow stack: forbidden by access rights"),
        (0x84, "user read: page not present, during HLAT paging"),
    ],
)
def test_describe(error_code: int, text: str) -> None:
    assert describe_page_fault(error_code) == text


@given(st.integers(0, 0xFFFF).map(lambda code: code & ~PF_ERROR.reserved_mask))
def test_describe_any(error_code: int) -> None:
    assert describe_page_fault(error_code).startswith("user" if error_code & 4 else "supervisor")


def test_describe_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        describe_page_fault(0x107)
    assert str(caught.value) == (
        "Page-fault error code 0x107 has reserved bits 0x100 set: pass the code that the fault delivered"
    )
    with pytest.raises(MisuseError) as caught:
        describe_page_fault(1 << 32)
    assert str(caught.value) == (
        "PF_ERROR = 0x100000000 does not fit in 32 bits: give a value from 0x0 to 0xffffffff"
    )
