"""A VMCS as a plain dict checked like VM entry does: all broken rules, rules that want memory, missing fields."""

import pytest

from quire.arch import SKYLAKE_X, VMCS_FIELDS, profile_by_name
from quire.arch.known_processor import ANY_PROCESSOR, KnownProcessor
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging.lint import Finding, Findings, Severity
from quire.vcpu import Vmcs, check_entry
from quire.vcpu.lint import CannotKnow, VmcsChecks, lint_vmcs
from quire.vcpu.process_state import process_state

ZEROS = {field.name: 0 for field in VMCS_FIELDS}
SOUND = {**ZEROS, **process_state(SKYLAKE_X, 1), "guest_rip": 0x40_1000, "guest_cr3": 0x1000}
SKYLAKE = KnownProcessor.of(SKYLAKE_X)


def profile(name: str) -> KnownProcessor:
    return KnownProcessor.of(profile_by_name(name))


def found(
    fields: dict[str, int], processor: KnownProcessor = ANY_PROCESSOR
) -> tuple[list[Finding], VmcsChecks]:
    findings = Findings()
    return findings.kept, lint_vmcs(fields, processor, findings)


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
    assert lint_vmcs(SOUND, SKYLAKE, findings) == VmcsChecks()
    assert findings.kept == []


def test_every_broken_rule_is_found() -> None:
    """The same rules as VM entry's, of which the processor would report the first."""
    fields = {**SOUND, "guest_cr0": 0x20, "host_cs_selector": 3, "guest_rflags": 0, "cr3_target_count": 5}
    findings = Findings()
    lint_vmcs(fields, SKYLAKE, findings)
    with HostMemory(4096) as memory:
        vmcs = Vmcs(memory, 0)
        vmcs.write_many(**fields)
        expected = [broken.rule.name for broken in check_entry(vmcs, SKYLAKE_X)]
    assert [one.rule for one in findings.kept] == expected
    assert len(expected) >= 4
    first = findings.kept[0]
    assert (first.severity, first.subject, first.section) == (Severity.ERROR, "VMCS", "SDM 3C §26.2.1.1")
    assert first.text == (
        "cr3_target_count is 0x5: IA32_VMX_MISC (0x485) is 0x7004c1e7: VM entry fails with VM-instruction error 7"
    )
    assert first.fix == "make it 0x4: at most what IA32_VMX_MISC says, 4"
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
    unchecked = lint_vmcs(fields, SKYLAKE, findings).want_memory
    assert findings.kept == [] and unchecked
    legal = (0x174).to_bytes(8, "little") + bytes(8)
    assert lint_vmcs(fields, SKYLAKE, findings, Bytes(0x8000, legal)).want_memory == []
    assert findings.kept == []
    lint_vmcs(fields, SKYLAKE, findings, Bytes(0x9000, legal))
    assert {one.rule for one in findings.kept} <= set(unchecked)
    assert findings.kept[0].text.endswith("VM entry fails with exit reason 34")


def test_field_that_the_processor_lacks() -> None:
    findings = Findings()
    lint_vmcs({**SOUND, "hlat_pointer": 0x1000}, SKYLAKE, findings)
    assert [(one.rule, one.severity) for one in findings.kept] == [("unsupported field", Severity.WARNING)]
    assert findings.kept[0].text == (
        "hlat_pointer does not exist on skylake-x: VMWRITE fails with VM-instruction error 12"
    )
    findings = Findings()
    lint_vmcs({**SOUND, "hlat_pointer": 0x1000}, profile("architecture"), findings)
    assert findings.kept == []


def test_fields_that_cannot_be() -> None:
    with pytest.raises(MisuseError, match="No VMCS field is called 'guest_cr9'"):
        lint_vmcs({"guest_cr9": 1}, SKYLAKE, Findings())
    with pytest.raises(MisuseError, match="has 16 bits"):
        lint_vmcs({"guest_cs_selector": 0x10000}, SKYLAKE, Findings())


def test_a_failed_injection_of_which_four_fields_are_known() -> None:
    """The interrupt flag is wrong on any processor; whether CR0 is depends on a control that nobody gave."""
    fields = {
        "guest_rflags": 0x2,
        "vm_entry_interruption_information": 0x8000_00D1,
        "guest_cr0": 0x5_0032,
        "guest_cr4": 0x2050,
    }
    kept, checks = found(fields)
    assert [(one.rule, one.text, one.fix) for one in kept] == [
        (
            "interrupt flag",
            "guest_rflags is 0x2: bit 9 (IF) must be 1: VM entry fails with exit reason 33",
            "make it 0x202: with IF set when an external interrupt is injected",
        )
    ]
    assert checks.cannot_know == [
        CannotKnow(
            "CR0",
            "SDM 3C §26.3.1.1",
            "guest_cr0 is 0x50032, bit 0 (PE), bit 31 (PG)",
            "unrestricted_guest (bit 7 of secondary_processor_based_controls)",
        ),
        CannotKnow(
            "IA-32e mode",
            "SDM 3C §26.3.1.1",
            "guest_cr4 is 0x2050",
            "ia32e_guest (bit 9 of vm_entry_controls)",
        ),
    ]
    assert not set(checks.not_given) & set(fields) and "guest_ss_selector" in checks.not_given
    restricted = {**fields, "primary_processor_based_controls": 0}
    assert "CR0" in [one.rule for one in found(restricted)[0]]
    unrestricted = {**fields, "secondary_processor_based_controls": 0x82}
    assert "CR0" not in [one.rule for one in found(unrestricted)[0]]
    assert "CR0" not in [one.rule for one in found(unrestricted)[1].cannot_know]


def test_bits_of_cr4_belong_to_a_processor() -> None:
    fields = {"guest_cr4": 0x34_2AF0}
    for name in ("icelake-sp", "sapphire-rapids", "architecture"):
        assert found(fields, profile(name))[0] == []
    (only,) = found(fields, SKYLAKE)[0]
    assert only.text == (
        "guest_cr4 is 0x342af0: bit 11 (UMIP) must be 0: IA32_VMX_CR4_FIXED1 (0x489) is 0x7767ff: "
        "VM entry fails with exit reason 33"
    )
    assert only.fix.startswith("make it 0x3422f0: ")
    kept, checks = found(fields)
    assert kept == [] and checks.cannot_know[0].without == "IA32_VMX_CR4_FIXED1 (0x489)"
    assert checks.cannot_know[0].text == "guest_cr4 is 0x342af0, bit 11 (UMIP)" + (
        ", bit 18 (OSXSAVE), bit 20 (SMEP), bit 21 (SMAP)"
    )


def test_controls_that_the_capability_msr_does_not_offer() -> None:
    fields = {"secondary_processor_based_controls": 0x9400_6172}
    told = ANY_PROCESSOR.with_msrs({0x48B: 0x0055_3CFE_0000_0000})
    (only,) = found(fields, told)[0]
    assert only.text == (
        "secondary_processor_based_controls is 0x94006172: bit 8 (apic_register_virtualization), "
        "bit 14 (vmcs_shadowing), bit 26 (enable_user_wait_and_pause), bit 28 (enable_enclv_exiting), "
        "bit 31 (instruction_timeout) must be 0: IA32_VMX_PROCBASED_CTLS2 (0x48b) is 0x553cfe00000000: "
        "VM entry fails with VM-instruction error 7"
    )
    kept, checks = found(fields)
    assert kept == []
    assert checks.cannot_know[0].without == "IA32_VMX_PROCBASED_CTLS2 (0x48b)"


def test_older_capability_msrs_do_not_bind_controls_that_got_a_name() -> None:
    """IA32_VMX_PROCBASED_CTLS says that CR3 exiting must be 1; whether it must the TRUE MSR alone tells."""
    fields = {"primary_processor_based_controls": 0x0400_6172}
    old = {0x482: 0xFFF9_FFFE_0401_E172}
    assert found(fields, ANY_PROCESSOR.with_msrs(old))[0] == []
    new = {**old, 0x48E: 0xFFF9_FFFE_0401_E172}
    assert "bit 15 (cr3_load_exiting), bit 16 (cr3_store_exiting) must be 1" in (
        found(fields, ANY_PROCESSOR.with_msrs(new))[0][0].text
    )


def test_a_width_is_a_machines() -> None:
    fields = {"guest_cr3": 1 << 50}
    for name in ("icelake-sp", "sapphire-rapids"):
        kept, checks = found(fields, profile(name))
        assert (kept, [one.without for one in checks.cannot_know]) == ([], ["MAXPHYADDR"])
    (only,) = found(fields, profile("icelake-sp").with_width(46))[0]
    assert only.text == (
        "guest_cr3 is 0x4000000000000: bit 50 (addr) must be 0: MAXPHYADDR is 46 (--maxphyaddr N for another "
        "machine): VM entry fails with exit reason 33"
    )
    assert found(fields, profile("icelake-sp").with_width(52))[0] == []
    assert found({"guest_cr3": 1 << 60})[0][0].rule == "CR3"


def test_link_pointers() -> None:
    kept, checks = found({"vmcs_link_pointer": 0})
    assert [(one.severity, one.text, one.fix) for one in kept] == [
        (
            Severity.ERROR,
            "vmcs_link_pointer is 0x0: VM entry reads the revision of a VMCS there, and page 0 holds none",
            "make it 0xffffffffffffffff: no VMCS is linked, unless VMCS shadowing is on",
        )
    ]
    assert checks.want_memory == ["linked VMCS"]
    assert found({"vmcs_link_pointer": 0x5000})[0][0].severity is Severity.WARNING
    assert found({"vmcs_link_pointer": 2**64 - 1})[0] == []


def test_a_processor_without_vmx() -> None:
    with pytest.raises(MisuseError, match=r"^zen3 is a processor of AMD's, which has no VMCS"):
        lint_vmcs(SOUND, profile("zen3"), Findings())


@pytest.mark.parametrize("field", ["guest_cr3", "host_cr3"])
@pytest.mark.parametrize("bit", [61, 62])
def test_lam_bits_of_cr3_belong_to_a_processor(field: str, bit: int) -> None:
    """With LAM the processor takes bits 62:61 of CR3, which Linux sets for programs that tag their pointers."""
    fields = {field: 0x10B2_C000 | 1 << bit}
    kept, checks = found(fields)
    assert kept == []
    (open_question,) = checks.cannot_know
    assert open_question.without == "IA32_VMX_CR4_FIXED1 (0x489)"
    with_lam, without = 0x1000_0000 | 0x3F7_7FFF, 0x3F7_7FFF
    assert found(fields, ANY_PROCESSOR.with_msrs({0x489: with_lam}))[0] == []
    (refused,) = found(fields, ANY_PROCESSOR.with_msrs({0x489: without}))[0]
    name = {61: "LAM_U57", 62: "LAM_U48"}[bit]
    assert f"bit {bit} ({name}) must be 0: IA32_VMX_CR4_FIXED1 (0x489) is 0x3f77fff" in refused.text
    assert refused.fix == (
        "make it 0x10b2c000: below 1 << MAXPHYADDR, but for the bits of LAM where the processor has it"
    )
    assert found({field: 1 << 63}, ANY_PROCESSOR.with_msrs({0x489: with_lam}))[0] != []


def test_which_fields_exist_is_not_known_where_the_highest_index_is_not() -> None:
    """IPI virtualization of a server newer than the profiles' controls: nobody has published what its VMCS holds."""
    fields = {"tertiary_processor_based_controls": 0x10, "pid_pointer_table_address": 0x1234_5000}
    for name in ("sapphire-rapids", "icelake-sp"):
        assert found(fields, profile(name))[0] == []
    told = profile("sapphire-rapids").with_msrs({0x48A: 0x2A})  # the highest index is 21
    assert [one.rule for one in found(fields, told)[0]] == ["unsupported field", "unsupported field"]
    assert found(fields, profile("sapphire-rapids").with_msrs({0x48A: 0x46}))[0] == []


def test_default_1_controls_may_be_1_on_any_processor() -> None:
    """SDM 3D §A.2: what is not known of those without a name is whether they may be 0."""
    default1 = {"pin_based_controls": 0x16, "vm_exit_controls": 0x36DFF, "vm_entry_controls": 0x11FF}
    for name, value in default1.items():
        assert [one for one in found({name: value})[1].cannot_know if one.rule.endswith("controls")] == []
    assert found({"pin_based_controls": 0})[1].cannot_know[0] == CannotKnow(
        "pin-based controls",
        "SDM 3C §26.2.1.1",
        "pin_based_controls is 0x0, bits 4, 2:1",
        "IA32_VMX_TRUE_PINBASED_CTLS (0x48d)",
    )
