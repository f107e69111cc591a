"""``quire decode``: every declared layout, what is flagged, what is put into words, and each refusal."""

import json
from pathlib import Path

import pytest
from commands import quire, refused

import quire.arch as arch
from quire.arch import Layout
from quire.arch.decode import SUBJECTS, decode_subject
from quire.arch.layout import Kind

LAYOUTS = [value for name in arch.__all__ if isinstance(value := getattr(arch, name), Layout)]
RESERVED = """\
PML4E = 0x0000000000002087  (SDM 3A §4.5)
 bits  name        value   meaning
    0  P           0x1     present
    1  RW          0x1     writes allowed
    2  US          0x1     user-mode accesses allowed
    7  reserved_7  0x1     RESERVED, must be 0
51:12  addr        0x2000  physical address of the page-directory-pointer table
reserved bits are set: reserved_7
"""
WHOLE = """\
SELECTOR = 0x0033  (SDM 3A §3.4.2)
bits  name   value  meaning
 1:0  RPL    0x3    requested privilege level
   2  TI     0x0    the descriptor is in the LDT, not in the GDT
15:3  index  0x6    number of the descriptor in its table
"""
WORDS = {
    "pf-error 0x19": "supervisor instruction fetch: reserved bit set in a paging-structure entry",
    "exit-reason 48": "EPT_VIOLATION",
    "pin-based 0x29": "bits 1, 2, 4 without a name, default 1, are 0: VM entry fails unless "
    "IA32_VMX_TRUE_PINBASED_CTLS (0x48d) allows that",
    "secondary-controls 0x20000000": "bit 29 without a name is 1: VM entry fails unless "
    "IA32_VMX_PROCBASED_CTLS2 (0x48b) allows that",
    "pte 0x800ffffed6f54060": "not present, the rest is ignored",
    "pde 0x12345880": "not present, the rest is ignored",
    "pte 0x800000fffffee163": "address bit 39 is 1: reserved where MAXPHYADDR is 39 or less (--maxphyaddr N)",
    "ept-pte 0x1000005d48fc76": "EPT misconfiguration, exit 49: it allows writes without reads (SDM 3C §28.3.3.1)",
    "ept-pte 0x101f": "EPT misconfiguration, exit 49: its memory type does not exist (SDM 3C §28.3.3.1)",
    "ept-pde 0x1097": "EPT misconfiguration, exit 49: a reserved bit is set (SDM 3C §28.3.3.1)",
    "ept-pte 0x1004": "it allows fetches without reads: an EPT misconfiguration, exit 49, unless execute_only (bit 0) "
    "of IA32_VMX_EPT_VPID_CAP (0x48c) is 1",
    "ept-pte 0x1400": "not present, the rest is ignored, but for suppress_VE (bit 63) where EPT violations may cause "
    "#VE; with mode-based execute control XU (bit 10) alone makes it present",
    "cpuid-80000008-eax 0x3934": "52 bits of a physical address, 57 of a linear one; GuestPhysBits is 0: under 4-level "
    "EPT a guest that uses more than 48 exits for ever",
    "cpuid-80000008-eax 0x303934": "52 bits of a physical address, 57 of a linear one; a guest may use 48 of the "
    "physical ones",
    "cpuid-80000008-eax 0x302e": "46 bits of a physical address, 48 of a linear one",
    "cr3 0x12345006": "with CR4.PCIDE = 1 its PCID is 0x6",
    "efer 0x1d01": "as AMD's EFER, since Intel reserves bits that are 1: SCE LME LMA NXE SVME",
    "pf-error 0x80000003": "supervisor write: forbidden by the reverse map table of SNP, which only AMD has",
    "npf-exitinfo1 0x100000014": "nested page fault: instruction fetch, page not present, "
    "of the final guest-physical address",
    "exit-reason 0x80000022": "VM entry failed, ENTRY_FAILURE_MSR_LOADING",
    "exit-reason 35": "exit reason 0x23, not assigned",
    "exit-qualification --reason 28 0x300": "CR_ACCESS: MOV to CR0 from RBX",
    "exit-qualification --reason cr-access 0x10": "CR_ACCESS: MOV from CR0 to RAX",
    "exit-qualification --reason 0 --vector PF 0x1000": "EXCEPTION_OR_NMI: linear address 0x1000",
    "exit-qualification --reason 0 --vector 1 0x4000": "EXCEPTION_OR_NMI: single step",
    "exit-qualification --reason 14 0x1000": "INVLPG: linear address 0x1000",
    "vmcs-field 0x2001": "0x2000 io_bitmap_a_address: bits 63:32 of the field, control field, read and write",
    "vmcs-field exit_reason": "0x4402 exit_reason: 32 bits, exit information, read-only",
    "vmcs-encoding 0x6c00": "host_cr0",
    "vmcs-encoding 0x6cfe": "no field",
    "vm-instruction-error VMPTRLD_ADDRESS": "9: VMPTRLD with invalid physical address",
    "interruption-info 0": "no event",
    "interruption-info 0x80000202": "nmi vector 0x2",
    "interruption-info 0x80000603": "software exception #BP",
    "ia32-vmx-cr0-fixed0 0x80000021": "a bit that is 1 here must be 1 in VMX operation",
}
REFUSALS = {
    "ptee 1": "Nothing that is called 'ptee' can be decoded (did you mean 'pte'?): quire decode --list shows what can",
    "pte zz": "'zz' is not a number: give 0x1f, 0b11111 or 31",
    "pte 7f_": "'7f_' is not a number: give 0x1f, 0b11111 or 31",
    "pte 7f": "'7f' is not a number: give 0x1f, 0b11111 or 31, or 0x7f if it is hexadecimal",
    "selector 0x10000": "SELECTOR = 0x10000 does not fit in 16 bits: give a value from 0x0 to 0xffff",
    "pte": "give WHAT and VALUE; --list shows what can be decoded (see quire decode --help)",
    "vmcs-field 0x6000_0": "No VMCS field has encoding 0x60000 (did you mean 0x6c1c, "
    "'host_ia32_interrupt_ssp_table_address'?): see VMCS_FIELDS",
    "vmcs-field gest_cr3": "No VMCS field is called 'gest_cr3' (did you mean 'guest_cr3'?): see VMCS_FIELDS",
    "vm-instruction-error 14": "VM-instruction error 14 is not assigned: they are 1 to 28, without 14, 21, 27",
    "vm-instruction-error VMPTRLD": "No vm-instruction-error is called 'VMPTRLD' (did you mean 'VMPTRLD_ADDRESS'?): "
    "give its number, or a name such as VMCALL_IN_ROOT",
    "exit-qualification 1": "An exit qualification means nothing without its exit: give --reason 48 or a name",
    "pte 1 --reason 48": "--reason and --vector go with exit-qualification, not with pte: leave them out",
    "pte 1 --profile zen": "No CPU profile is called 'zen' (did you mean 'zen4'?): there is skylake-x, "
    "icelake-sp, sapphire-rapids, zen2, zen3, zen4, ideal, none, architecture, or give a file that ends in .toml",
    "ia32-vmx-misc 0x1_0000_0000_0000_0000": "VMX_MISC = 0x10000000000000000 does not fit in 64 bits: "
    "give a value from 0x0 to 0xffffffffffffffff",
}


def test_reserved_bits_are_flagged(tmp_path: Path) -> None:
    outcome = quire(tmp_path, "decode", "pml4e", "0x2087")
    assert (outcome.stdout, outcome.status) == (RESERVED, 0)


def test_all_shows_zeros(tmp_path: Path) -> None:
    assert quire(tmp_path, "decode", "selector", "0x33", "--all").stdout == WHOLE
    assert (
        quire(tmp_path, "decode", "cr0", "0").stdout
        == "CR0 = 0x0000000000000000  (SDM 3A §2.5)\n  nothing is set\n"
    )


@pytest.mark.parametrize("command", WORDS)
def test_words(command: str, tmp_path: Path) -> None:
    outcome = quire(tmp_path, "decode", *command.split())
    assert outcome.stdout.splitlines()[1] == f"  {WORDS[command]}"
    assert outcome.status == 0


@pytest.mark.parametrize("command", REFUSALS)
def test_refusal(command: str, tmp_path: Path) -> None:
    assert refused(tmp_path, "decode", *command.split()) == f"quire decode: {REFUSALS[command]}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_is_a_subject(layout: Layout) -> None:
    """All ones: every bit is shown once, every reserved range flagged; zero: nothing is."""
    name = layout.name.lower().replace("_", "-")
    found = decode_subject(name, (1 << layout.width) - 1)
    if found["title"] == layout.name:  # not one whose PS bit made it another
        assert [one["name"] for one in found["fields"]] == [one.name for one in layout.fields]
        must_be_0 = [one for one in layout.fields if one.kind is Kind.RESERVED and not one.default1]
        assert found["reserved_set"] == [one.name for one in must_be_0]
        assert not found["default1_clear"]
    nothing = decode_subject(name, 0)
    assert not any(one["set"] for one in nothing["fields"])
    assert nothing["section"] == layout.section
    nameless = [one for one in layout.fields if one.kind is Kind.RESERVED and one.default1]
    assert nothing["default1_clear"] == [one.name for one in nameless]


def test_names_of_values() -> None:
    def meaning(subject: str, value: int, name: str) -> str:
        fields = {one["name"]: one for one in decode_subject(subject, value)["fields"]}
        return str(fields[name]["meaning"])

    assert meaning("ept-pte", 6 << 3 | 1, "MT") == "memory type of the page: WB"
    assert meaning("ept-pte", 2 << 3 | 1, "MT") == "memory type of the page: not assigned"
    assert (
        meaning("ept-pte", 7 << 3 | 1, "MT") == "memory type of the page: not assigned"
    )  # UC- is one of IA32_PAT
    assert meaning("eptp", 7, "MT").endswith(": not assigned")
    assert meaning("exit-reason", 7, "basic").endswith(": INTERRUPT_WINDOW")
    assert meaning("exit-reason", 12, "basic") == "basic exit reason, see ExitReason: HLT"


def test_entries_that_map_a_page() -> None:
    for name in ("pde", "pdpte", "pae-pde", "ept-pde", "ept-pdpte"):
        assert decode_subject(name, 0x87)["title"].rpartition("_")[2] in ("2M", "1G")
        assert decode_subject(name, 0x07)["title"] == name.upper().replace("-", "_")


def test_control_msr() -> None:
    fields = {
        one["name"]: one["value"]
        for one in decode_subject("ia32-vmx-pinbased-ctls", 0x29_0000_0008)["fields"]
    }
    assert fields["external_interrupt_exiting"] == "may be 0 or 1"
    assert fields["virtual_nmis"] == "may be 0 or 1"
    assert fields["process_posted_interrupts"] == "must be 0"
    assert fields["nmi_exiting"] == "must be 1"


def test_entries_of_tables_for_ipis_pasids_and_user_interrupts() -> None:
    """A descriptor lies at a multiple of 64, a PASID table at one of 4096; what lies between must be 0."""

    def said(subject: str, value: int, width: int | None = None) -> dict[str, str]:
        return {
            one["name"]: one["value"] for one in decode_subject(subject, value, maxphyaddr=width)["fields"]
        }

    assert said("pid-pointer", 0x1234_5041) == {
        "V": "0x1", "reserved_5_1": "0x0", "addr": "0x12345040", "reserved_63_52": "0x0",
    }  # fmt: skip
    assert decode_subject("pid-pointer", 0x23)["reserved_set"] == ["reserved_5_1"]
    assert decode_subject("pid-pointer", 1 << 47 | 1, maxphyaddr=46)["reserved_set"] == ["reserved_51_46"]
    assert said("pasid-directory-entry", 0x1234_5001)["addr"] == "0x12345000"
    assert decode_subject("pasid-directory-entry", 0x841)["reserved_set"] == ["reserved_11_1"]
    assert said("pasid-table-entry", 0x800A_BCDE) == {"pasid": "0xabcde", "reserved_30_20": "0x0", "V": "0x1"}
    assert said("upid", 1 << 67 | 0x5_00EC_0001) == {
        "ON": "0x1", "SN": "0x0", "reserved_15_2": "0x0", "NV": "0xec", "reserved_31_24": "0x0", "NDST": "0x5",
        "PIR": "0x8",
    }  # fmt: skip
    entry = said("uitt-entry", 0x7F00_0040 << 64 | 0x0301)
    assert (entry["V"], entry["vector"], entry["descriptor"]) == ("0x1", "0x3", "0x7f000040")


def test_list_and_json(tmp_path: Path) -> None:
    listed = quire(tmp_path, "decode", "--list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(SUBJECTS)
    assert json.loads(quire(tmp_path, "decode", "--list", "--json").stdout) == SUBJECTS
    record = json.loads(quire(tmp_path, "decode", "pml4e", "0x2087", "--json").stdout)
    assert record["value"] == "0x0000000000002087"
    assert record["reserved_set"] == ["reserved_7"]
    assert record["fields"][0] == {
        "bits": "0", "name": "P", "value": "0x1", "set": True, "kind": "field", "meaning": "present",
    }  # fmt: skip
