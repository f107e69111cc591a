"""VM-entry checks: a good VMCS enters; breaking one field breaks exactly its rule, with the whole message."""

import dataclasses

import pytest

from quire.arch import (
    CR0,
    CR4,
    EFER,
    EPTP,
    RFLAGS,
    SECONDARY_CONTROLS,
    SKYLAKE_X,
    ExitReason,
    InterruptionType,
)
from quire.memory import HostMemory
from quire.vcpu import EntryFailure, Event, Exit, LaunchState, Vmcs, VmxState, check_entry

GOOD_EPTP = EPTP.encode(MT=6, walk_length=3, AD=1, addr=0x5000)


@pytest.fixture
def vcpu() -> VmxState:
    made = VmxState(Vmcs(HostMemory(0x4000), 0x1000), SKYLAKE_X, vpid=1)
    made.enable_ept(GOOD_EPTP)
    return made


def test_a_good_vmcs_enters(vcpu: VmxState) -> None:
    vcpu.enter(0x400000, 0x7000, 0x202)
    assert check_entry(vcpu.vmcs, SKYLAKE_X) == []
    assert vcpu.vmcs.launch_state is LaunchState.LAUNCHED
    assert vcpu.entries == 1


BREAKS = [
    ("ept_pointer", GOOD_EPTP & ~7 | 1, "EPT pointer"),
    ("ept_pointer", GOOD_EPTP & ~0x38 | 2 << 3, "EPT pointer"),
    ("ept_pointer", GOOD_EPTP | 1 << 7, "EPT pointer"),
    ("ept_pointer", GOOD_EPTP | 1 << 8, "EPT pointer reserved bits"),
    ("ept_pointer", GOOD_EPTP | 1 << 46, "EPT pointer reserved bits"),
    ("virtual_processor_identifier", 0, "VPID"),
    ("guest_cr0", CR0.encode(PE=1, NE=1), "CR0"),
    ("guest_cr3", 1 << 46, "CR3"),
    ("guest_cr4", CR4.encode(PAE=1), "CR4"),
    ("guest_cr4", CR4.encode(VMXE=1), "IA-32e mode"),
    ("guest_ia32_efer", EFER.encode(SCE=1, NXE=1), "EFER"),
    ("vmcs_link_pointer", 0x123, "link pointer"),
]


@pytest.mark.parametrize(("field", "value", "rule"), BREAKS)
def test_one_broken_field_breaks_its_rule(vcpu: VmxState, field: str, value: int, rule: str) -> None:
    vcpu.vmcs.write(field, value)
    broken = check_entry(vcpu.vmcs, SKYLAKE_X)
    assert rule in [one.rule.name for one in broken]
    assert all(one.value == vcpu.vmcs.read(one.rule.field) for one in broken)
    with pytest.raises(EntryFailure):
        vcpu.enter(0x400000, 0x7000, 0x202)


def test_unrestricted_guest_needs_ept() -> None:
    vcpu = VmxState(Vmcs(HostMemory(0x4000), 0x1000), SKYLAKE_X, vpid=1)
    controls = vcpu.vmcs.read("secondary_processor_based_controls")
    vcpu.vmcs.write(
        "secondary_processor_based_controls", controls | SECONDARY_CONTROLS.mask("unrestricted_guest")
    )
    assert [one.rule.name for one in check_entry(vcpu.vmcs, SKYLAKE_X)] == ["unrestricted guest needs EPT"]


@pytest.mark.parametrize(("rip", "rflags", "rule"), [(1 << 48, 2, "RIP"), (0, 0x200, "RFLAGS")])
def test_moving_fields_are_checked_at_every_entry(vcpu: VmxState, rip: int, rflags: int, rule: str) -> None:
    vcpu.enter(0x400000, 0x7000, 0x202)
    with pytest.raises(EntryFailure) as error:
        vcpu.enter(rip, 0x7000, rflags)
    assert [one.rule.name for one in error.value.broken] == [rule]
    assert vcpu.vmcs.read("exit_reason") == ExitReason.ENTRY_FAILURE_GUEST_STATE | 1 << 31


def test_fields_that_move_only_with_an_event_are_checked_after_an_entry_that_passed(vcpu: VmxState) -> None:
    vcpu.enter(0x400000, 0x7000, 0x2)
    vcpu.vmcs.write("guest_activity_state", 9)
    with pytest.raises(EntryFailure):
        vcpu.enter(0x400000, 0x7000, 0x2)
    vcpu.vmcs.write("guest_activity_state", 0)
    vcpu.inject(Event(32, InterruptionType.EXTERNAL_INTERRUPT))
    with pytest.raises(EntryFailure) as error:  # IF is clear
        vcpu.enter(0x400000, 0x7000, 0x2)
    assert [one.rule.name for one in error.value.broken] == ["interrupt flag"]


def test_a_field_that_changes_is_checked_after_an_entry_that_passed(vcpu: VmxState) -> None:
    vcpu.enter(0x400000, 0x7000, 0x202)
    vcpu.vmcs.write("virtual_processor_identifier", 0)
    with pytest.raises(EntryFailure):
        vcpu.enter(0x400000, 0x7000, 0x202)


@pytest.mark.parametrize("flag", ["CF", "PF", "AF", "ZF", "SF", "DF", "OF"])
def test_no_check_reads_what_arithmetic_leaves(vcpu: VmxState, flag: str) -> None:
    """An entry that passed is taken for one with other such flags: no rule may tell them apart."""
    mask = RFLAGS.mask(flag)
    for rflags in (0x2, 0x202, 0x0, 0x2 | 1 << 17, 0x2 | 1 << 8, 0xFFFF_0002):
        found = []
        for value in (rflags & ~mask, rflags | mask):
            vcpu.vmcs.write("guest_rflags", value)
            found.append([one.rule.name for one in check_entry(vcpu.vmcs, SKYLAKE_X)])
        assert found[0] == found[1]


def test_rip_need_not_be_canonical(vcpu: VmxState) -> None:
    """SDM 3C §26.3.1.4 compares bits 63:48 with each other and not with bit 47."""
    vcpu.enter(0x8000_0000_0000, 0x7000, 2)


def test_a_failed_control_check_is_vmfail_7_with_the_whole_message(vcpu: VmxState) -> None:
    vcpu.vmcs.write("virtual_processor_identifier", 0)
    with pytest.raises(EntryFailure) as error:
        vcpu.enter(0, 0, 2)
    assert str(error.value) == (
        "VM-entry check 'VPID' (SDM 3C §26.2.1.1): virtual_processor_identifier is 0x0; "
        "it must be 1 to 0xffff with VPIDs"
    )
    assert vcpu.vmcs.read("vm_instruction_error") == 7


def test_an_exit_is_complete_in_the_vmcs(vcpu: VmxState) -> None:
    vcpu.exit(Exit(ExitReason.EPT_VIOLATION, 0x781, 0x123456, 0x7F001234), 0x400010, 0x7FF0, 0x246)
    assert vcpu.vmcs.read("exit_reason") == 48
    assert vcpu.vmcs.read("exit_qualification") == 0x781
    assert vcpu.vmcs.read("guest_physical_address") == 0x123456
    assert vcpu.vmcs.read("guest_linear_address") == 0x7F001234
    assert vcpu.vmcs.read("guest_rip") == 0x400010
    assert vcpu.exits == {ExitReason.EPT_VIOLATION: 1}


def test_a_huge_msr_list_is_not_read_beyond_what_the_processor_recommends(vcpu: VmxState) -> None:
    vcpu.vmcs.write_many(vm_entry_msr_load_count=0xFFFF_FFFF, vm_entry_msr_load_address=0x2000)
    broken = check_entry(vcpu.vmcs, SKYLAKE_X)  # at once, not after 2^32 entries
    assert [one.rule.name for one in broken] == ["MSR value"]


def test_a_pending_rtm_exception_wants_a_processor_with_rtm(vcpu: VmxState) -> None:
    vcpu.vmcs.write("guest_pending_debug_exceptions", 0x11000)
    assert check_entry(vcpu.vmcs, SKYLAKE_X) == []
    broken = check_entry(vcpu.vmcs, dataclasses.replace(SKYLAKE_X, rtm=False))
    assert [one.rule.name for one in broken] == ["pending RTM exception"]
