"""``quire explain`` and ``quire fields``: sources, exit statuses, JSON, refusals; what is read is tested in dumps."""

import io
import json
import sys
from pathlib import Path

import pytest
from commands import quire, refused

EVENT = "guest_rflags = 0x2\nVM_ENTRY_INTR_INFO_FIELD: 0x800000d1\nnot a field\n"
NOTHING = (
    "quire explain: {} holds nothing that can be read: give VMCS in sections, as KVM's dump_vmcs and Xen's vmcs_dump "
    "print it; VMCB as KVM's dump_vmcb prints it; VM entry that failed, as KVM, QEMU or Xen report it; page fault as "
    "Linux reports it (oops, #PF lines, PGD to PTE); fault of a program, or a general protection fault, in one line of "
    "Linux's; EPT misconfiguration or violation with its entries; registers as QEMU's info registers prints them; "
    "mappings as QEMU's info tlb and info mem print them; VMX capability MSRs, VirtualBox's log of them, vmxcap's "
    "output; #NPF with EXITINFO1 (AMD); VM exits with their qualifications; list of VMCS fields by name or encoding"
)


class Stdin:
    """What a pipe gives."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(EVENT)
    outcome = quire(tmp_path, "explain", "log")
    lines = outcome.stdout.splitlines()
    assert outcome.status == 1
    assert lines[0] == "1. list of VMCS fields by name or encoding: lines 1-2"
    assert lines[1].startswith("error    VMCS   interrupt flag: guest_rflags is 0x2: bit 9 (IF) must be 1: ")
    assert lines[-3:] == [
        "1 line not understood:",
        "       3  not a field",
        "1 record, 1 error, 0 warnings, 0 notes in log; VMCSs for any processor, walks for skylake-x with "
        "46 physical-address bits",
    ]


def test_stdin_and_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"\xff\xfe comm: \x80\x1b[2J\r\nguest_rflags = 0x202\r\n"))
    outcome = quire(tmp_path, "explain")
    assert outcome.status == 0
    assert "       1  \\udcff\\udcfe comm: \\udc80" in outcome.stdout.splitlines()
    assert outcome.stdout.splitlines()[-1].startswith("1 record, 0 errors, 0 warnings, 0 notes in stdin; ")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_what_powershell_wrote(tmp_path: Path, encoding: str) -> None:
    """A file of `> dump.txt` in PowerShell: UTF-16 behind a byte order mark, lines that end in CR and LF."""
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "log").write_bytes((mark + EVENT.replace("\n", "\r\n")).encode(encoding))
    (tmp_path / "plain").write_text(EVENT)
    outcomes = [quire(tmp_path, "explain", name) for name in ("log", "plain")]
    assert outcomes[0].stdout == outcomes[1].stdout.replace("in plain", "in log")
    assert outcomes[0].status == outcomes[1].status == 1
    assert quire(tmp_path, "lint", "--vmcs", "log").status == 1


def test_json(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(EVENT)
    assert quire(tmp_path, "explain", "--json", "-o", "out", "log").stdout == ""
    record = json.loads((tmp_path / "out").read_text())
    assert (record["source"], record["processor"], record["maxphyaddr"]) == ("log", "any processor", 46)
    assert record["unread"] == [{"line": 3, "text": "not a field"}]
    (dump,) = record["dumps"]
    assert (dump["lines"], dump["damaged"]) == ([1, 2], [])
    assert dump["given"] == {"guest_rflags": "0x2", "vm_entry_interruption_information": "0x800000d1"}
    assert [one["rule"] for one in dump["findings"]] == ["interrupt flag"]


def test_only_ten_lines_are_shown_and_all_are_in_the_record(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(EVENT + "hello\n" * 30)
    shown = quire(tmp_path, "explain", "log").stdout.splitlines()
    assert "31 lines not understood:" in shown
    assert "  and 21 more: --json has all" in shown
    assert len(json.loads(quire(tmp_path, "explain", "--json", "log").stdout)["unread"]) == 31


def test_options_change_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("guest_cr4 0x342af0\n")
    assert quire(tmp_path, "explain", "log").status == 0
    assert quire(tmp_path, "explain", "--profile", "skylake-x", "log").status == 1
    assert quire(tmp_path, "explain", "--profile", "icelake-sp", "log").status == 0
    (tmp_path / "caps").write_text("0x489 = 0x3727ff\n")
    outcome = quire(tmp_path, "explain", "--caps", "caps", "log")
    assert outcome.status == 1
    assert "bit 11 (UMIP) must be 0: IA32_VMX_CR4_FIXED1 (0x489) is 0x3727ff" in outcome.stdout


def test_an_amd_profile_checks_no_vmcs(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("guest_cr4 0x342af0\n")
    outcome = quire(tmp_path, "explain", "--profile", "zen3", "log")
    assert outcome.status == 0
    assert outcome.stdout.splitlines()[1].startswith(
        "   not checked: zen3 is a processor of AMD's, which has no VMCS"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\nworld\n", NOTHING.format("log")),
        (b"", NOTHING.format("log")),
        (b"\0" * ((16 << 20) + 1), "quire explain: log has more than 16 MiB: give a smaller file"),
    ],
    ids=["nothing", "empty", "large"],
)
def test_refusals(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log").write_bytes(content)
    assert refused(tmp_path, "explain", "log") == message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path, "explain", "gone") == "quire explain: gone: No such file or directory"


def test_lint_takes_a_dump_and_the_names_of_others(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"[    1.5][  T7] kvm: {EVENT}")
    outcome = quire(tmp_path, "lint", "--vmcs", "log")
    assert outcome.status == 1
    assert outcome.stdout.splitlines()[-1] == "1 error, 0 warnings, 0 notes in log, any processor"
    (tmp_path / "two").write_text("*** Guest State ***\nCR3 = 0x0000000000001000\n" * 2)
    assert refused(tmp_path, "lint", "--vmcs", "two") == (
        "quire lint: two has 2 VMCSs: give one, or the file to quire explain, which takes all"
    )


def test_decode_takes_the_names_of_others(tmp_path: Path) -> None:
    ours = quire(tmp_path, "decode", "interruption-info", "0x80000b0e").stdout
    assert quire(tmp_path, "decode", "VM_ENTRY_INTR_INFO_FIELD", "0x80000b0e").stdout == ours
    field = quire(tmp_path, "decode", "vmcs-field", "ept_pointer").stdout
    assert quire(tmp_path, "decode", "vmcs-field", "VMX_EPTP").stdout == field


def test_fields(tmp_path: Path) -> None:
    assert quire(tmp_path, "fields", "exit_qualification").stdout.splitlines() == [
        "VMCS (SDM 3D §B)",
        "encoding  name                bits  area",
        "0x6400    exit_qualification    64  exit information",
    ]
    assert quire(tmp_path, "fields", "exitinfo1").stdout.splitlines() == [
        "VMCB (APM 2 §B)",
        "offset  name       bits  area",
        "0x078   exitinfo1    64  control",
    ]
    named = quire(tmp_path, "fields", "VM_ENTRY_INTR_INFO_FIELD").stdout
    assert named == quire(tmp_path, "fields", "0x4016").stdout
    record = json.loads(quire(tmp_path, "fields", "--json").stdout)
    assert len(record["vmcs"]) > 150 and len(record["vmcb"]) > 90


def test_a_template_is_filled_in_and_linted(tmp_path: Path) -> None:
    quire(tmp_path, "fields", "--template", "-o", "vmcs.toml")
    template = (tmp_path / "vmcs.toml").read_text()
    assert quire(tmp_path, "lint", "--vmcs", "vmcs.toml").stdout.splitlines()[-1] == (
        "0 errors, 0 warnings, 0 notes in vmcs.toml, any processor"
    )
    (tmp_path / "vmcs.toml").write_text(template.replace("# guest_rflags = 0x0", "guest_rflags = 0x0"))
    outcome = quire(tmp_path, "lint", "--vmcs", "vmcs.toml")
    assert outcome.status == 1
    assert "RFLAGS: guest_rflags is 0x0: bit 1 (always_1) must be 1" in outcome.stdout


def test_fields_refusals(tmp_path: Path) -> None:
    assert refused(tmp_path, "fields", "nothing_like_it") == (
        "quire fields: no field of the VMCS or the VMCB has 'nothing_like_it' in its name or as encoding: "
        "quire fields lists them all"
    )
    assert refused(tmp_path, "fields", "--template", "--json") == (
        "quire fields: --template writes TOML and --json JSON: give one of them (see quire fields --help)"
    )
