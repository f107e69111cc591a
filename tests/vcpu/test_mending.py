"""What is said to mend a broken rule does, on every rule's own broken VMCS, and no bit of the change is needless."""

import pytest
from entry_cases import CASES
from vmcs_words import apply, good_vmcs

from quire.arch import VMCS_FIELDS, profile_by_name
from quire.memory import HostMemory
from quire.vcpu.checks import RULES
from quire.vcpu.checks.mending import deciding, mend, name_bits
from quire.vcpu.checks.partial import try_rule

ARCHITECTURE = profile_by_name("architecture")
#: Cases in which another field than the rule's own offends.
NOT_MENDED = {"tertiary+ipi_virtualization", "guest_pdpte0=0x3"}


class Memory:
    """The memory of a VMCS, as a check of a VMCS takes it."""

    def __init__(self, memory: HostMemory) -> None:
        self.memory = memory

    def read(self, address: int, length: int) -> memoryview | None:
        there = address + length <= self.memory.size
        return memoryview(self.memory.read(address, length)) if there else None


@pytest.mark.parametrize(("name", "setup", "breaks", "holds"), CASES)
def test_every_rule_can_be_mended(name: str, setup: str, breaks: str, holds: str) -> None:
    rule = next(one for one in RULES if one.name == name)
    vmcs = good_vmcs(ARCHITECTURE)
    apply(vmcs, f"{setup} {breaks}")
    fields, memory = {field.name: vmcs.read(field.name) for field in VMCS_FIELDS}, Memory(vmcs.memory)

    def certain(value: int) -> bool | None:
        return try_rule(rule, {**fields, rule.field: value}, ARCHITECTURE, memory).certain

    if name == "link to itself":  # the address of a VMCS is not among its fields
        assert certain(fields[rule.field]) is True
        return
    better = mend(rule, fields, ARCHITECTURE, memory)
    assert (better is None) == (breaks in NOT_MENDED)
    if better is None:
        return
    change = better ^ fields[rule.field]
    assert change and certain(better) is True
    for n in range(change.bit_length()):
        if change >> n & 1 and change != 1 << n:
            assert certain(better ^ 1 << n) is False


def test_names_of_bits() -> None:
    assert name_bits("guest_cr4", 1 << 11) == "bit 11 (UMIP)"
    assert name_bits("guest_cr4", 1 << 63 | 1 << 62 | 1 << 15 | 1) == "bit 0 (VME), bits 63:62, 15"
    assert name_bits("guest_ss_access_rights", 0x6F) == "bits 3:0 (type), bits 6:5 (DPL)"
    assert name_bits("guest_fs_base", 0xFFF) == "bits 11:0"
    assert name_bits("cr3_target_count", 1) == ""


def test_what_decides() -> None:
    fields = {"guest_cr3": 1 << 50, "guest_cr4": 1 << 27 | 0x2000, "pin_based_controls": 0x116}
    profile = profile_by_name("skylake-x")
    said = {
        name: [one.title for one in deciding(rule, fields, profile, None)]
        for name in ("CR3", "CR4", "pin-based controls", "CET")
        for rule in RULES
        if rule.name == name
    }
    assert said["CR3"] == ["MAXPHYADDR"]
    assert said["CR4"] == ["IA32_VMX_CR4_FIXED1 (0x489)"]
    assert said["pin-based controls"] == ["IA32_VMX_TRUE_PINBASED_CTLS (0x48d)"]
