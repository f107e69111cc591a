"""VMCSs in sections: what our own printers of the formats print is read back, field for field."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vmcs_printers import kvm_5_vmcs, kvm_6_vmcs, printed_by_kvm, xen_vmcs

from quire.arch import field_by_name
from quire.dumps import read_dumps

NAMES = printed_by_kvm()
#: Fields that Xen prints as well, or as 0, and those that it does not print.
XEN_ZERO = {
    "tertiary_processor_based_controls": 0,
    "vmx_preemption_timer_value": 0,
    "guest_smbase": 0,
    "tsc_multiplier": 0,
    "posted_interrupt_notification_vector": 0,
    "eptp_index": 0,
    "vm_function_controls": 0,
}
XEN_LACKS = {"apic_access_address", "virtual_apic_address"}


def bits(name: str) -> int:
    """Return how many bits of a field its printer shows: access rights in 5 digits, thresholds in 2."""
    return {"tpr_threshold": 8}.get(name, 20 if name.endswith("access_rights") else field_by_name(name).bits)


vmcss = st.fixed_dictionaries({name: st.integers(0, (1 << bits(name)) - 1) for name in NAMES})


@given(vmcss)
@settings(max_examples=20, deadline=None)
def test_round_trip(fields: dict[str, int]) -> None:
    (old,) = read_dumps("\n".join(kvm_5_vmcs(fields))).dumps
    (new,) = read_dumps("\n".join(kvm_6_vmcs(fields))).dumps
    (xen,) = read_dumps("\n".join(f"(XEN) {line}" for line in xen_vmcs(fields))).dumps
    assert (old.given, old.damaged) == (fields, [])
    assert (new.given, new.damaged) == ({**fields, "tertiary_processor_based_controls": 0}, [])
    printed = {name: value for name, value in fields.items() if name not in XEN_LACKS}
    assert (xen.given, xen.damaged) == ({**printed, **XEN_ZERO}, [])


@given(vmcss, st.integers(48, 90))
@settings(max_examples=10, deadline=None)
def test_wrapped_by_a_mail_program(fields: dict[str, int], width: int) -> None:
    for printer, prefix in ((kvm_5_vmcs, "[ 4021.113000] "), (kvm_6_vmcs, ""), (xen_vmcs, "(XEN) ")):
        lines = [prefix + line for line in printer(fields)]
        wrapped = [
            part
            for line in lines
            for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        ]
        (plain,) = read_dumps("\n".join(lines)).dumps
        (dump,) = read_dumps("\n".join(f"> {part}" for part in wrapped)).dumps
        assert (dump.given, dump.damaged) == (plain.given, [])


@pytest.mark.parametrize("printer", [kvm_5_vmcs, kvm_6_vmcs, xen_vmcs])
def test_every_line_is_used(printer: object) -> None:
    text = "\n".join(printer(dict.fromkeys(NAMES, 1)))  # type: ignore[operator]
    reading = read_dumps(text)
    assert reading.unread == []
    assert reading.dumps[0].lines == list(range(1, text.count("\n") + 2))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("RFLAGS=0x0000024", "7 of 8 digits are there"),
        ("RFLAGS=0x", "0 of 8 digits are there"),
        ("DR7 = 0x00000000000004000", None),
        ("DR7 = 0x10000000000000400", "0x10000000000000400 does not fit in its 64 bits"),
        ("Interruptibility = 000000100", None),
        ("Interruptibility = 100000000", "0x100000000 does not fit in its 32 bits"),
        ("CS:   sel=0x00", "2 of 4 digits are there"),
        ("CS: 0010 0a09b fff", "the columns of the segment are not whole"),
    ],
)
def test_damage(line: str, why: str | None) -> None:
    (dump,) = read_dumps(f"*** Guest State ***\nCR3 = 0x0000000000001000\n{line}").dumps
    assert [(one.line, one.why) for one in dump.damaged] == ([] if why is None else [(3, why)])
    assert dump.given["guest_cr3"] == 0x1000


def test_a_field_with_two_values_is_damaged_and_not_used() -> None:
    text = "*** Guest State ***\nCR3 = 0x0000000000001000\nRSP = 0x0000000000000010\nCR3 = 0x0000000000002000"
    (dump,) = read_dumps(text).dumps
    assert dump.given == {"guest_rsp": 0x10}
    (damage,) = dump.damaged
    assert (damage.line, damage.name) == (4, "guest_cr3")
    assert damage.why == "the dump says 0x1000 and 0x2000: two dumps are mixed, or one is cut"


def test_effective_values_of_kvm_are_not_the_field() -> None:
    text = "*** Guest State ***\nCR3 = 0x0000000000001000\nEFER= 0x0000000000000d01 (effective)"
    reading = read_dumps(text)
    assert (reading.dumps[0].given, reading.unread) == ({"guest_cr3": 0x1000}, [])
