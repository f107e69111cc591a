"""VMFUNC: EPTP switching, and every way in which it leaves the guest."""

import pytest
from vmcs_words import apply, good_vmcs

from quire.arch import EPTP, SKYLAKE_X, ExitReason, profile_by_name
from quire.vcpu import Exit, Nested, Vmcs, VmSucceed, vmfunc

ARCHITECTURE = profile_by_name("architecture")
LIST = 0x8000
GOOD = EPTP.encode(MT=6, walk_length=3, AD=1, addr=0x9000)
LEAVES = Exit(ExitReason.VMFUNC, instruction_length=3)
UD = Nested(6)


@pytest.fixture
def vmcs() -> Vmcs:
    made = good_vmcs(ARCHITECTURE)
    apply(made, f"vmfunc eptp_list_address={LIST:#x}")
    made.memory.store(LIST + 8 * 511, GOOD)
    return made


def test_a_switch(vmcs: Vmcs) -> None:
    assert vmfunc(vmcs, ARCHITECTURE, 0, 511) == VmSucceed(GOOD)
    assert vmcs.read("ept_pointer") == GOOD
    assert vmcs.read("eptp_index") == 511


@pytest.mark.parametrize(
    "bad",
    [
        0xFFFF_FFFF_FFFF_FFFF,
        GOOD & ~7 | 1,
        GOOD & ~0x38,
        GOOD | 1 << 8,
        GOOD | 1 << 52,
    ],
)
def test_a_list_entry_that_no_entry_would_take(vmcs: Vmcs, bad: int) -> None:
    before = vmcs.read("ept_pointer")
    vmcs.memory.store(LIST, bad)
    assert vmfunc(vmcs, ARCHITECTURE, 0, 0) == LEAVES
    assert (vmcs.read("ept_pointer"), vmcs.read("eptp_index")) == (before, 0)


def test_the_processor_decides_what_a_good_pointer_is(vmcs: Vmcs) -> None:
    vmcs.memory.store(LIST, EPTP.encode(MT=6, walk_length=4, addr=0x9000))
    assert vmfunc(vmcs, SKYLAKE_X, 0, 0) == LEAVES
    assert isinstance(vmfunc(vmcs, ARCHITECTURE, 0, 0), VmSucceed)


@pytest.mark.parametrize(("eax", "ecx"), [(0, 512), (0, 0xFFFF_FFFF), (1, 0), (63, 0)])
def test_a_number_too_high_or_a_function_that_is_off(vmcs: Vmcs, eax: int, ecx: int) -> None:
    assert vmfunc(vmcs, ARCHITECTURE, eax, ecx) == LEAVES


def test_functions_that_do_not_exist_and_functions_off(vmcs: Vmcs) -> None:
    assert vmfunc(vmcs, ARCHITECTURE, 64, 0) == UD
    apply(vmcs, "vm_function_controls=0x0")
    assert vmfunc(vmcs, ARCHITECTURE, 0, 511) == LEAVES
    apply(vmcs, "secondary-enable_vm_functions")
    assert vmfunc(vmcs, ARCHITECTURE, 0, 511) == UD


def test_the_list_may_lie_outside_memory(vmcs: Vmcs) -> None:
    apply(vmcs, "eptp_list_address=0xffff000")
    assert vmfunc(vmcs, ARCHITECTURE, 0, 0) == LEAVES
