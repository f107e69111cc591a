"""The VMCB's fields lie apart, within their areas; exit codes have one name each."""

import pytest

from quire.arch.vmcb import VMCB_FIELDS, SvmExit, exit_code_name, vmcb_field
from quire.errors import MisuseError


def test_fields_lie_apart() -> None:
    taken: dict[int, str] = {}
    for field in VMCB_FIELDS:
        assert field.offset % (field.bits // 8) == 0
        for byte in range(field.offset, field.offset + field.bits // 8):
            assert taken.setdefault(byte, field.name) == field.name
    assert max(taken) < 0x1000
    assert len({field.name for field in VMCB_FIELDS}) == len(VMCB_FIELDS)


@pytest.mark.parametrize(
    ("name", "offset", "bits", "area"),
    [
        ("exitcode", 0x70, 64, "control"),
        ("n_cr3", 0xB0, 64, "control"),
        ("guest_asid", 0x58, 32, "control"),
        ("cs_selector", 0x410, 16, "state save"),
        ("tr_base", 0x498, 64, "state save"),
        ("efer", 0x4D0, 64, "state save"),
        ("rip", 0x578, 64, "state save"),
        ("rax", 0x5F8, 64, "state save"),
    ],
)
def test_offsets_of_the_manual(name: str, offset: int, bits: int, area: str) -> None:
    field = vmcb_field(name)
    assert (field.offset, field.bits, field.area) == (offset, bits, area)


def test_a_name_that_is_none() -> None:
    with pytest.raises(MisuseError) as caught:
        vmcb_field("exitcod")
    assert (
        str(caught.value) == "No VMCB field is called 'exitcod' (did you mean 'exitcode'?): see VMCB_FIELDS"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "read of CR0"),
        (0x13, "write of CR3"),
        (0x37, "write of DR7"),
        (0x4E, "exception #PF"),
        (0x49, "exception 9"),
        (0x94, "write trap of CR4"),
        (0x400, "NPF"),
        (0xFFFF_FFFF, "INVALID: VMRUN refused the state in the VMCB"),
        ((1 << 64) - 1, "INVALID: VMRUN refused the state in the VMCB"),
        (0x300, "exit code 0x300, not assigned"),
    ],
)
def test_exit_codes(code: int, words: str) -> None:
    assert exit_code_name(code) == words


def test_single_codes_are_in_no_range() -> None:
    assert {exit_code_name(code) for code in SvmExit} == {code.name for code in SvmExit}
