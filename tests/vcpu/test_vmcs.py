"""The VMCS region: construct, read, write, wrong."""

import pytest

from quire.arch import VMCS_FIELDS, VMCS_REVISION
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.vcpu import LaunchState, Vmcs


@pytest.fixture
def vmcs() -> Vmcs:
    return Vmcs(HostMemory(0x4000), 0x2000)


def test_a_new_region_is_clear_and_has_its_revision(vmcs: Vmcs) -> None:
    assert vmcs.memory.load(0x2000) == VMCS_REVISION
    assert vmcs.launch_state is LaunchState.CLEAR
    assert vmcs.nonzero() == {}


def test_every_field_holds_its_own_widest_value(vmcs: Vmcs) -> None:
    for n, field in enumerate(VMCS_FIELDS):
        vmcs.write(field.name, (1 << field.bits) - 1 - n)
    for n, field in enumerate(VMCS_FIELDS):
        assert vmcs.read(field.name) == (1 << field.bits) - 1 - n
    assert vmcs.memory.load(0x2000) == VMCS_REVISION
    assert vmcs.memory.read(0x3000, 0x1000) == bytes(0x1000)


def test_a_value_too_wide_and_an_unknown_field(vmcs: Vmcs) -> None:
    with pytest.raises(MisuseError) as error:
        vmcs.write("virtual_processor_identifier", 0x10000)
    assert str(error.value) == (
        "VMCS field virtual_processor_identifier has 16 bits: 0x10000 does not fit, mask it first"
    )
    with pytest.raises(MisuseError, match="guest_cr3"):
        vmcs.read("guest_cr33")
