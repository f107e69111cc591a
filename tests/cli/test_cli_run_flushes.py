"""What ``quire run --check-flushes`` does with findings: text where no report shows them, and the exit status."""

import pytest

from quire.cli.run import checked_status

FINDING = {
    "vcpu": "vCPU 0", "gva": "0x6000", "access": "read", "privilege": "user", "rip": "0x401010", "symbol": None,
    "used": False, "differs": "address", "count": 1, "attempts": [], "changed": None, "entry": None,
    "mapping": {"kind": "translation", "class": "linear", "tags": {"vpid": "0x1"}, "start": "0x6000", "size": 4096,
                "step": 4},
    "kept": {"rule": "not present", "section": "SDM 3A §4.7"},
    "tables": {"rule": "not present", "section": "SDM 3A §4.7"},
    "missing": {"when": "INVLPG", "section": "SDM 3A §4.10.4.1", "operand": "address 0x6000", "note": ""},
}  # fmt: skip
TEXT = """\
1. user read of 0x6000 at rip 0x401010, vCPU 0, may use a stale translation: the tables give another address
   kept     linear mapping of 0x6000, 4 KiB, VPID 0x1, since step 4: refused: not present (SDM 3A §4.7)
   tables   refused: not present (SDM 3A §4.7)
   changed  the root: another address space has these tags
   missing  INVLPG for address 0x6000 (SDM 3A §4.10.4.1)
"""


@pytest.mark.parametrize(
    ("flushes", "kind", "error_status", "expected", "said"),
    [
        (None, "none", None, 3, ""),
        ({"findings": [], "advice": []}, "none", 9, 3, ""),
        ({"findings": [FINDING], "advice": []}, "none", 9, 9, TEXT),
        ({"findings": [FINDING], "advice": []}, "none", None, 3, TEXT),
        ({"findings": [FINDING], "advice": []}, "table", 9, 9, ""),
    ],
    ids=["no check", "no finding", "finding", "finding without a code", "the report has it"],
)
def test_status_and_text(
    flushes: dict[str, object] | None,
    kind: str,
    error_status: int | None,
    expected: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checked_status({"flushes": flushes}, kind, error_status, 3) == expected
    assert capsys.readouterr().err == said
