"""``quire lint``: its sources, exit statuses, JSON and refusals; what it finds is tested with the checks themselves."""

import json
import re
from pathlib import Path

import pytest
from commands import contents, example_files, lime, quire, refused

from quire.state.images import read_tables

CLEAN = """
cr3 = 0x1000
[[table]]
address = 0x1000
entries = { 0 = 0x2007 }
[[table]]
address = 0x2000
"""
JSON_FINDING = {
    "severity": "error",
    "subject": "guest",
    "rule": "reserved bit",
    "section": "SDM 3A §4.7",
    "start": "0x8000000000",
    "end": "0x10000000000",
    "entry": "0x1008",
    "count": 1,
    "text": "PML4E has reserved bits 0x80 set",
    "fix": "clear bits 0x80",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example_files(tmp_path)
    return tmp_path


def test_clean(folder: Path) -> None:
    (folder / "t.toml").write_text(CLEAN)
    outcome = quire(folder, "lint", "--tables", "t.toml")
    assert (outcome.stdout, outcome.status) == (
        "0 errors, 0 warnings, 0 notes in 2 tables in t.toml, skylake-x\n",
        0,
    )


def test_json(folder: Path) -> None:
    outcome = quire(folder, "lint", "--tables", "bad.toml", "--json")
    record = json.loads(outcome.stdout)
    assert outcome.status == 1
    assert record["findings"][0] == JSON_FINDING
    assert record["totals"] == {"error": 2, "warning": 2, "info": 2}
    assert (record["left_out"], record["unchecked"]) == (0, [])
    assert [one["severity"] for one in record["findings"]] == ["error"] * 2 + ["warning"] * 2 + ["info"] * 2


def test_exit_status(folder: Path) -> None:
    assert quire(folder, "lint", "--tables", "bad.toml", "--error-exitcode", "7").status == 7
    assert quire(folder, "lint", "--tables", "bad.toml", "--error-exitcode", "0").status == 0
    assert quire(folder, "lint", "--tables", "tables.toml", "--error-exitcode", "7").status == 0


def test_limit(folder: Path) -> None:
    last = quire(folder, "lint", "--tables", "bad.toml", "--limit", "2").stdout.splitlines()[-1]
    assert last == (
        "2 errors, 2 warnings, 2 notes in 5 tables in bad.toml, skylake-x; 4 of them not shown (--limit)"
    )


def test_image_and_description_agree(folder: Path) -> None:
    """What an image holds is checked like the description of the same tables."""
    memory = contents(read_tables(str(folder / "bad.toml")).memory)[1:]
    (folder / "bad.lime").write_bytes(lime(memory))
    found = []
    for source in (["--tables", "bad.toml"], ["--image", "bad.lime", "--cr3", "0x1000"]):
        record = json.loads(quire(folder, "lint", *source, "--json").stdout)
        found.append([one for one in record["findings"] if one["rule"] != "page outside memory"])
    assert found[0] == found[1]


def test_ept_alone_needs_no_cr3(folder: Path) -> None:
    outcome = quire(folder, "lint", "--image", "host.lime", "--eptp", "0x1001e", "--json")
    record = json.loads(outcome.stdout)
    assert {one["subject"] for one in record["findings"]} == {"EPT"}


def test_vmcs_as_json_and_with_memory(folder: Path) -> None:
    fields = dict(re.findall(r"^(\w+) = (\w+)$", (folder / "vmcs.toml").read_text(), re.MULTILINE))
    (folder / "vmcs.json").write_text(json.dumps(fields))
    whole = ("--absent-is-zero", "--profile", "skylake-x", "--json")
    found = [quire(folder, "lint", "--vmcs", name, *whole) for name in ("vmcs.toml", "vmcs.json")]
    records = [json.loads(one.stdout) for one in found]
    assert records[0]["findings"] == records[1]["findings"]
    assert found[1].status == 1 and records[0]["unchecked"] == ["linked VMCS", "PDPTEs"]
    both = quire(folder, "lint", "--vmcs", "vmcs.toml", "--tables", "tables.toml", *whole)
    record = json.loads(both.stdout)
    assert record["unchecked"] == []
    assert record["source"] == "4 tables in tables.toml and vmcs.toml"


PARTIAL = """\
error    VMCS   secondary controls: secondary_processor_based_controls is 0x94006172: bit 8 \
(apic_register_virtualization), bit 14 (vmcs_shadowing), bit 26 (enable_user_wait_and_pause), bit 28 \
(enable_enclv_exiting), bit 31 (instruction_timeout) must be 0: IA32_VMX_PROCBASED_CTLS2 (0x48b) is 0x553cfe00000000: \
VM entry fails with VM-instruction error 7
                SDM 3C §26.2.1.1
                fix: make it 0x2072: as IA32_VMX_PROCBASED_CTLS2 allows
unknown  VMCS   TPR shadow: secondary_processor_based_controls is 0x94006172
                cannot know without use_tpr_shadow (bit 21 of primary_processor_based_controls), SDM 3C §26.2.1.1
not given, so not checked: """


def test_a_vmcs_in_part_and_the_capabilities_of_a_machine(folder: Path) -> None:
    (folder / "part.toml").write_text("secondary_processor_based_controls = 0x94006172")
    (folder / "caps.txt").write_text("0x48b = 0x00553cfe00000000\n")
    found = quire(folder, "lint", "--vmcs", "part.toml", "--caps", "caps.txt")
    assert found.stdout.startswith(PARTIAL) and found.status == 1
    assert found.stdout.endswith("1 error, 0 warnings, 0 notes in part.toml, any processor\n")
    (folder / "part.toml").write_text("guest_cr3 = 0x4000000000000")
    statuses = [
        quire(folder, "lint", "--vmcs", "part.toml", "--maxphyaddr", width).status for width in ("46", "52")
    ]
    assert statuses == [1, 0]


REFUSALS = {
    "caps": (["--vmcs", "vmcs.toml", "--caps", "words"],
             "words: no VMX capability MSR is in it: give lines such as 0x48b = 0x553cfe00000000"),
    "caps alone": (["--tables", "tables.toml", "--caps", "words"],
                   "--absent-is-zero and --caps go with --vmcs: give a VMCS, or leave them out "
                   "(see quire lint --help)"),
    "amd": (["--vmcs", "vmcs.toml", "--profile", "zen3"],
            "zen3 is a processor of AMD's, which has no VMCS: choose a profile of Intel's, or none to be told what "
            "holds on any"),
    "no-source": ([], "give --image FILE or --tables FILE, one of them (see quire lint --help)"),
    "no-tables": (["--vmcs", "vmcs.toml", "--eptp", "0x1e"],
                  "--vmcs alone has no tables: give --image or --tables as well (see quire lint --help)"),
    "missing": (["--vmcs", "none.toml"], "none.toml: No such file or directory"),
    "syntax": (["--vmcs", "words"], "words is not TOML: Expected '=' after a key in a key/value pair "
               "(at line 1, column 7)"),
    "field": (["--vmcs", "field"],
              "field: No VMCS field is called 'guest_cr9' (did you mean 'guest_cr4'?): see VMCS_FIELDS"),
    "wide": (["--vmcs", "wide"], "wide: guest_cs_selector is 65536: it has 16 bits, give 0x0 to 0xffff"),
    "kind": (["--vmcs", "kind"], "kind: guest_cr0 is True: it has 64 bits, give 0x0 to 0xffffffffffffffff"),
    "number": (["--vmcs", "number"], "number: 'on' of guest_cr0 is not a number: give 0x1f, 0b11111 or 31"),
    "limit": (["--limit", "0"], "Invalid value for '--limit': 0 is not in the range x>=1. (see quire lint --help)"),
    "profile": (["--vmcs", "vmcs.toml", "--profile", "zen"],
                "No CPU profile is called 'zen' (did you mean 'zen4'?): there is skylake-x, icelake-sp, "
                "sapphire-rapids, zen2, zen3, zen4, ideal, none, architecture, or give a file that ends in .toml"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str, folder: Path) -> None:
    for file, text in (
        ("words", "hello world"),
        ("field", "guest_cr9 = 1"),
        ("wide", "guest_cs_selector = 0x1_0000"),
        ("kind", "guest_cr0 = true"),
        ("number", 'guest_cr0 = "on"'),
    ):
        (folder / file).write_text(text)
    argv, message = REFUSALS[name]
    assert refused(folder, "lint", *argv) == f"quire lint: {message}"


def test_a_dump_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    """AMD's control block is no VMCS, and a page fault is none: what is there is said, not how TOML is written."""
    for sample, title in (
        ("vmcb5-npf", "VMCB as KVM's dump_vmcb prints it"),
        ("oops-null", "page fault as Linux reports it (oops, #PF lines, PGD to PTE)"),
    ):
        text = (Path(__file__).parents[1] / "dumps" / "samples" / f"{sample}.txt").read_text()
        (tmp_path / "dump.txt").write_text(text)
        outcome = quire(tmp_path, "lint", "--vmcs", "dump.txt")
        assert (outcome.status, outcome.stdout) == (125, "")
        assert outcome.stderr == (
            f"quire lint: dump.txt holds no VMCS, but this: {title}; quire explain says what it means\n"
        )
