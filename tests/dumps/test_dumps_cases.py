"""Real cases of bug reports, pasted: what is said of them, with their values."""

from dataclasses import replace
from typing import Any

from answers import AROUND
from log_printers import ept_misconfiguration, linux_oops
from vmcs_printers import kvm_6_vmcs, printed_by_kvm

from quire.arch import profile_by_name
from quire.arch.known_processor import KnownProcessor
from quire.dumps import Surroundings, explain_text

REGISTERS = {"EFLAGS": 0x10246, "CR0": 0x80050033, "CR3": 0x3412000, "CR4": 0x6B0}
RESERVED = list(
    linux_oops(
        0xFFFFC9000002D000, 0xB, [0x3400067, 0x3400067, 0x35A7067, 0x35A8067, 0x800000FFFFFEE163], REGISTERS
    )
)


def explained(text: str, around: Surroundings = AROUND) -> list[dict[str, Any]]:
    """Return the records of a text."""
    dumps: list[dict[str, Any]] = explain_text(text, around, "case")["dumps"]
    return dumps


def rules(dump: dict[str, Any]) -> list[str]:
    return [one["rule"] for one in dump["findings"]]


def test_umip_is_named_where_the_processor_has_none() -> None:
    fields = dict.fromkeys(printed_by_kvm(), 0) | {"guest_cr4": 0x342AF0}
    text = "\n".join(kvm_6_vmcs(fields))
    for name, expected in (("icelake-sp", []), ("sapphire-rapids", []), ("skylake-x", ["bit 11 (UMIP)"])):
        around = replace(AROUND, processor=KnownProcessor.of(profile_by_name(name)))
        (dump,) = explained(text, around)
        texts = [one["text"] for one in dump["findings"] if one["rule"] == "CR4"]
        assert ["bit 11 (UMIP)" for one in texts if "bit 11 (UMIP)" in one] == expected
        assert len(texts) == len(expected)


def test_a_reserved_bit_turns_on_the_width() -> None:
    (narrow,) = explained("\n".join(RESERVED), replace(AROUND, maxphyaddr=39))
    assert rules(narrow) == ["reserved bit"]
    assert narrow["walks"][0]["walk"]["fault"]["code"] == "0xb"
    assert narrow["walks"][0]["walk"]["fault"]["table"] == "PTE"
    (wide,) = explained("\n".join(RESERVED), replace(AROUND, maxphyaddr=46))
    assert wide["walks"][0]["walk"]["result"]["hpa"] == "0xfffffee000"
    assert [one["text"] for one in wide["findings"]] == [
        "the verdict turns on MAXPHYADDR: with 36 to 39 bits these entries give error code 0xb, with 46 they do not"
    ]


def test_an_ept_entry_allows_writes_without_reads() -> None:
    entries = [0x1000007ABB7007, 0x10000035A59007, 0x1000007A88A007, 0x1000005D48FC76]
    (dump,) = explained("\n".join(ept_misconfiguration(0x268FE10, entries)))
    assert [(one["rule"], one["text"]) for one in dump["findings"]] == [
        (
            "EPT write without read",
            "VM exit 49 at the EPT PTE, 0x001000005d48fc76: an EPT entry may not allow writes and forbid reads",
        )
    ]


def test_an_injection_without_the_interrupt_flag() -> None:
    typed = "guest_rflags 0x2\nvm_entry_interruption_information 0x800000d1\nguest_cr0 0x50032\nguest_cr4 0x2050\n"
    people = (
        "Guest RFLAGS = 2h, VM_ENTRY_INTR_INFO_FIELD: 800000d1\nGUEST_CR0=0x0005_0032\n  GuestCr4   2050h\n"
    )
    for text in (typed, people):
        (dump,) = explained(text)
        assert rules(dump) == ["interrupt flag"]
        unknown = {one["rule"]: one["text"] for one in dump["cannot_know"]}
        assert unknown["CR0"] == "guest_cr0 is 0x50032, bit 0 (PE), bit 31 (PG)"
        assert dump["given"].keys() == {
            "guest_rflags",
            "vm_entry_interruption_information",
            "guest_cr0",
            "guest_cr4",
        }


def test_an_inverted_entry_is_not_present() -> None:
    walk = [0x3A01067, 0x3A01067, 0x12FFFD067, 0x12FFB4067, 0x800FFFFED6F54060]
    (dump,) = explained("\n".join(linux_oops(0xFFFF8881290AB000, 0, walk, REGISTERS)))
    assert rules(dump) == ["not present"]
    assert dump["walks"][0]["walk"]["fault"]["code"] == "0x0"


def test_a_control_that_is_not_offered() -> None:
    alone = "SECONDARY_VM_EXEC_CONTROL 0x94006172"
    (dump,) = explained(alone)
    assert rules(dump) == []
    assert "IA32_VMX_PROCBASED_CTLS2 (0x48b)" in [one["without"] for one in dump["cannot_know"]]
    with_msr, _ = explained(f"{alone}\n0x48b = 0x00553cfe00000000")
    (finding,) = with_msr["findings"]
    assert [n for n in range(32) if f"bit {n} (" in finding["text"]] == [8, 14, 26, 28, 31]
