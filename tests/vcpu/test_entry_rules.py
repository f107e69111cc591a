"""Every VM-entry rule: a VMCS that breaks it and no other, and a neighbour that passes."""

import pytest
from entry_cases import CASES
from vmcs_words import apply, broken, good_vmcs

from quire.arch import ENTRY_FAILURE, MSR_ENTRY, SKYLAKE_X, VMCS_FIELDS, ExitReason, profile_by_name
from quire.vcpu import EntryExit, VmFailValid, VmSucceed, check_entry, enter
from quire.vcpu.checks import RULES, VmcsView

ARCHITECTURE = profile_by_name("architecture")


@pytest.mark.parametrize(("rule", "setup", "breaks", "holds"), CASES)
def test_a_rule_and_its_neighbour(rule: str, setup: str, breaks: str, holds: str) -> None:
    assert broken(ARCHITECTURE, f"{setup} {breaks}") == [rule]
    assert broken(ARCHITECTURE, f"{setup} {holds}") == []


RESERVED_RIGHTS = [name for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")]


@pytest.mark.parametrize("name", RESERVED_RIGHTS)
@pytest.mark.parametrize("bit", [8, 11, 17, 31])
def test_reserved_bits_of_access_rights(name: str, bit: int) -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, "data ldt")
    field = f"guest_{name}_access_rights"
    vmcs.write(field, vmcs.read(field) | 1 << bit)
    assert [one.rule.name for one in check_entry(vmcs, ARCHITECTURE)] == [f"{name.upper()} reserved bits"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("deliver error code", "event=0x8000030e"),  # a page fault without its error code
        ("deliver error code", "event=0x80000b06"),  # an invalid opcode with one
        ("EPT pointer", "ept_pointer=0x5026"),  # walk length 5
        ("EPT pointer", "ept_pointer=0x509e"),  # shadow stacks
        ("EPT pointer reserved bits", "ept_pointer=0x40000000501e"),  # bit 46
        ("CR4", "cr4+LA57"),
        ("CR3", "guest_cr3=0x2000000000000000"),  # LAM
        ("host CR3", "host_cr3=0x4000000000000000"),
        ("host CR4", "host_cr4+CET"),
        ("RIP", "guest_rip=0x1000000000000"),
        ("SYSENTER ESP", "guest_ia32_sysenter_esp=0x800000000000"),
        ("enclave interruption", "blocking=0x10"),
        ("pending debug reserved bits", "pending=0x800"),
        ("primary controls", "tertiary"),
        ("secondary controls", "secondary+sub_page_write_permissions"),
        ("VM-exit controls", "exit+load_cet"),
        ("VM-entry controls", "entry+load_pkrs"),
    ],
)
def test_what_a_smaller_processor_refuses(rule: str, words: str) -> None:
    assert broken(SKYLAKE_X, words) == [rule]


def test_a_software_event_of_length_0_where_the_processor_takes_it() -> None:
    assert broken(SKYLAKE_X, "event=0x80000480") == []


# MSR loading: rule, entries, exit qualification.
MSR_LISTS = [
    (None, [(0x277, 0x0007040600070406), (0xC0000080, 0xD01), (0xC0000102, 0)], 0),
    (None, [(0xC0000081, (1 << 64) - 1), (0xC0000084, 0x47700), (0x10, 5), (0x48, 7)], 0),
    ("MSR entry", [(0xC0000100, 0)], 1),
    ("MSR entry", [(0x10, 0), (0xC0000101, 0)], 2),
    ("MSR entry", [(0x10, 0), (0x10, 0), (0x808, 0)], 3),
    ("MSR entry", [(0x9B, 0)], 1),
    ("MSR entry", [(0x9E, 0)], 1),
    ("MSR value", [(0x277, 2)], 1),
    ("MSR value", [(0x12345, 0)], 1),
    ("MSR value", [(0xC0000082, 1 << 57)], 1),
    ("MSR value", [(0xC0000084, 1 << 32)], 1),
    ("MSR value", [(0xC0000080, 2)], 1),
    ("MSR value", [(0xC0000080, 0x401)], 1),  # EFER.LME cannot change while paging
    ("MSR entry reserved bits", [(0x10, 0), (1 << 32 | 0x10, 0)], 2),
]


@pytest.mark.parametrize(("rule", "entries", "number"), MSR_LISTS)
def test_msr_loading(rule: str | None, entries: list[tuple[int, int]], number: int) -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    for n, (index, data) in enumerate(entries):
        vmcs.memory.write(0x6000 + 16 * n, (index | data << 64).to_bytes(16, "little"))
    vmcs.write_many(vm_entry_msr_load_count=len(entries), vm_entry_msr_load_address=0x6000)
    found = enter(vmcs, ARCHITECTURE, launch=True)
    if rule is None:
        assert found == VmSucceed()
        return
    assert isinstance(found, EntryExit)
    assert [one.rule.name for one in found.broken] == [rule]
    assert (found.reason, found.qualification) == (34 | ENTRY_FAILURE, number)
    assert MSR_ENTRY.get(entries[number - 1][0], "index") == entries[number - 1][0] & 0xFFFF_FFFF


def test_every_rule_is_broken_by_some_case() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    reserved = {f"{name.upper()} reserved bits" for name in RESERVED_RIGHTS}
    assert {case[0] for case in CASES} | {case[0] for case in MSR_LISTS if case[0]} | reserved == set(names)


# What a failed entry leaves behind


@pytest.mark.parametrize(
    ("words", "error"),
    [("virtual_processor_identifier=0x0", 7), ("entry+entry_to_smm", 7), ("host_cs_selector=0x0", 8)],
)
def test_vmfail(words: str, error: int) -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, words)
    found = enter(vmcs, ARCHITECTURE, launch=True)
    assert isinstance(found, VmFailValid)
    assert found.error == vmcs.read("vm_instruction_error") == error
    assert vmcs.read("exit_reason") == 0


@pytest.mark.parametrize(
    ("words", "qualification"),
    [
        ("cr0-NE", 0),
        ("32-bit guest_pdpte0=0x3", 2),
        ("event=0x80000202 blocking=0x2", 0),
        ("vmcs_link_pointer=0x1000", 4),
    ],
)
def test_entry_failure_33(words: str, qualification: int) -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, words)
    found = enter(vmcs, ARCHITECTURE, launch=True)
    assert isinstance(found, EntryExit)
    assert found.reason == vmcs.read("exit_reason") == ExitReason.ENTRY_FAILURE_GUEST_STATE | ENTRY_FAILURE
    assert found.qualification == vmcs.read("exit_qualification") == qualification


def test_controls_decide_before_host_before_guest_state() -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, "cr0-NE host_cs_selector=0x0 virtual_processor_identifier=0x0")
    assert [one.rule.result for one in check_entry(vmcs, ARCHITECTURE)] == [7, 8, 33]


def test_only_moving_rules_read_what_moves() -> None:
    """A rule that reads a field which does not count as a change must be made at every entry."""
    moving = set()
    vmcs = good_vmcs(ARCHITECTURE)
    for field in VMCS_FIELDS:
        before = vmcs.generation
        vmcs.write(field.name, vmcs.read(field.name))
        if vmcs.generation == before:
            moving.add(field.name)
    for _, setup, breaks, _ in CASES:
        apply(vmcs := good_vmcs(ARCHITECTURE), f"{setup} {breaks}")
        for rule in RULES:
            view = VmcsView(vmcs, ARCHITECTURE)
            rule.holds(view)
            read = set(view._values) & moving
            # RFLAGS.VM makes the whole check anew, see enter.
            assert rule.moving or read <= {"guest_rflags"}, (rule.name, read)


def test_rflags_vm_makes_the_whole_check_anew() -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, "32-bit")
    assert enter(vmcs, ARCHITECTURE, launch=True) == VmSucceed()
    apply(vmcs, "rflags+VM")
    found = enter(vmcs, ARCHITECTURE, launch=False)
    assert isinstance(found, EntryExit)
    assert "CS limit in virtual-8086 mode" in [one.rule.name for one in found.broken]


@pytest.mark.parametrize(
    "words", ["", "rflags-IF", "rflags+TF guest_rip=0x200000000000000", "rflags-always_1"]
)
def test_checking_what_moves_finds_what_the_whole_check_finds(words: str) -> None:
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, words)
    quick = [one.rule.name for one in check_entry(vmcs, ARCHITECTURE, moving_only=True)]
    assert quick == broken(ARCHITECTURE, words)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_checking_what_moves_finds_every_moving_rule(case: tuple[str, str, str, str]) -> None:
    moving = {rule.name for rule in RULES if rule.moving}
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, f"{case[1]} {case[2]}")
    found = [one.rule.name for one in check_entry(vmcs, ARCHITECTURE, moving_only=True)]
    assert found == [name for name in [case[0]] if name in moving]
