"""A VMCS as a plain dict checked like VM entry does: all broken rules, rules that want memory, missing fields."""

import pytest

from quire.arch import ARCHITECTURE, SKYLAKE_X
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging.lint import Findings, Severity
from quire.vcpu import Vmcs, check_entry
from quire.vcpu.lint import lint_vmcs
from quire.vcpu.process_state import process_state

SOUND = {**process_state(SKYLAKE_X, 1), "guest_rip": 0x40_1000, "guest_cr3": 0x1000}


class Bytes:
    """Physical memory of one page at `start`."""

    def __init__(self, start: int, content: bytes) -> None:
        self.start, self.content = start, content

    def read(self, address: int, length: int) -> memoryview | None:
        offset = address - self.start
        return (
            memoryview(self.content)[offset : offset + length]
            if 0 <= offset <= len(self.content) - length
            else None
        )


def test_a_vmcs_that_enters() -> None:
    findings = Findings()
    assert lint_vmcs(SOUND, SKYLAKE_X, findings) == []
    assert findings.kept == []


def test_every_broken_rule_is_found() -> None:
    """The same rules as VM entry's, of which the processor would report the first."""
    fields = {**SOUND, "guest_cr0": 0x20, "host_cs_selector": 3, "guest_rflags": 0, "cr3_target_count": 5}
    findings = Findings()
    lint_vmcs(fields, SKYLAKE_X, findings)
    with HostMemory(4096) as memory:
        vmcs = Vmcs(memory, 0)
        vmcs.write_many(**fields)
        expected = [broken.rule.name for broken in check_entry(vmcs, SKYLAKE_X)]
    assert [one.rule for one in findings.kept] == expected
    assert len(expected) >= 4
    first = findings.kept[0]
    assert (first.severity, first.subject, first.section) == (Severity.ERROR, "VMCS", "SDM 3C §26.2.1.1")
    assert first.text == "cr3_target_count is 0x5: VM entry fails with VM-instruction error 7"
    assert first.fix == "make it at most what IA32_VMX_MISC says, 4"
    said = {one.text.rpartition(": ")[2] for one in findings.kept}
    assert said == {
        "VM entry fails with VM-instruction error 7",
        "VM entry fails with VM-instruction error 8",
        "VM entry fails with exit reason 33",
    }


def test_rules_that_want_memory() -> None:
    """An MSR-load area is checked if its memory is given, and named if not; a hole reads as all ones."""
    fields = {**SOUND, "vm_entry_msr_load_count": 1, "vm_entry_msr_load_address": 0x8000}
    findings = Findings()
    unchecked = lint_vmcs(fields, SKYLAKE_X, findings)
    assert findings.kept == [] and unchecked
    legal = (0x174).to_bytes(8, "little") + bytes(8)
    assert lint_vmcs(fields, SKYLAKE_X, findings, Bytes(0x8000, legal)) == []
    assert findings.kept == []
    lint_vmcs(fields, SKYLAKE_X, findings, Bytes(0x9000, legal))
    assert {one.rule for one in findings.kept} <= set(unchecked)
    assert findings.kept[0].text.endswith("VM entry fails with exit reason 34")


def test_field_that_the_processor_lacks() -> None:
    findings = Findings()
    lint_vmcs({**SOUND, "hlat_pointer": 0x1000}, SKYLAKE_X, findings)
    assert [(one.rule, one.severity) for one in findings.kept] == [("unsupported field", Severity.WARNING)]
    assert findings.kept[0].text == (
        "hlat_pointer does not exist on skylake-x: VMWRITE fails with VM-instruction error 12"
    )
    findings = Findings()
    lint_vmcs({**SOUND, "hlat_pointer": 0x1000}, ARCHITECTURE, findings)
    assert findings.kept == []


def test_fields_that_cannot_be() -> None:
    with pytest.raises(MisuseError, match="No VMCS field is called 'guest_cr9'"):
        lint_vmcs({"guest_cr9": 1}, SKYLAKE_X, Findings())
    with pytest.raises(MisuseError, match="has 16 bits"):
        lint_vmcs({"guest_cs_selector": 0x10000}, SKYLAKE_X, Findings())
