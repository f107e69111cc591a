"""Reports from a plain record: the table whole, JSON as it came, quantities, a walk in lines."""

import io
import json
from typing import Any

import pytest

from quire.report import format_count, format_size, render_json, render_table, walk_lines
from quire.report.decode import render_decode_table

RECORD = {
    "schema": 1,
    "program": {"path": "/bin/true", "argv": ["true"]},
    "config": {
        "mmu": "ept",
        "guest_page": 4096,
        "host_page": 2 << 20,
        "profile": "skylake-x",
        "walls": ["table of effects", "landlock 7"],
    },
    "outcome": {"status": 130, "signal": "SIGINT", "partial": True},
    "instructions": 1234567,
    "accesses": {"read": 300, "write": 200, "fetch": 1234567},
    "tlb": {
        "l1d": {"hits": 490, "misses": 10},
        "l1i": {"hits": 1234560, "misses": 7},
        "l2": {"hits": 7, "misses": 10},
    },
    "walk_caches": {"linear PDE": 6, "linear PDPTE": 0, "guest-physical page": 1500},
    "size_conflicts": 2,
    "walks": {
        "count": 12,
        "to_set_dirty": 2,
        "references": {"guest": 48, "host": 180},
        "references_per_walk": {"guest": 4.0, "host": 15.0},
    },
    "page_faults": 9,
    "exits": {"EPT_VIOLATION": 3},
    "syscalls": {"write": 2},
    "unimplemented": {},
    "memory": {
        "guest": {"mapped": 3 << 20, "resident": 872 << 10, "table_pages": 13},
        "host": {"mapped": 2 << 20, "resident": 2 << 20, "table_pages": 3},
    },
    "time": {"wall_seconds": 1.5, "setup_seconds": 0.25},
}

TABLE = """\
quire run: true under ept, 4KiB x 2MiB pages, skylake-x
  status                                      130  SIGINT
  partial                                     yes  the guest was stopped from outside: counts end there
  wall time                               1.500 s  of it 0.250 s set-up
  walls of the sandbox                          2  table of effects, landlock 7
execution
  instructions                          1_234_567
  reads                                       300
  writes                                      200
  fetches                               1_234_567  one an instruction
translation
  L1 data TLB misses                           10  2.000 % of 500 look-ups
  L1 code TLB misses                            7  0.001 % of 1_234_567 look-ups
  L2 TLB misses                                10  58.824 % of 17 look-ups
  page walks                                   12  for TLB misses; 2 of them to set a dirty flag
  references per walk                       19.00
    in guest tables                          4.00  48 in all
    in EPT                                  15.00  180 in all
    linear PDE cache                            6  hits of walks
    guest-physical page cache               1_500  hits of walks
  guest page faults                             9
  page size conflicts                           2  look-ups of a page that a TLB still had with another size
memory
  guest-virtual mapped                      3 MiB
  guest-virtual resident                  872 KiB
  guest-virtual tables                         13  pages of 4 KiB
  guest-physical (EPT) mapped               2 MiB
  guest-physical (EPT) resident             2 MiB
  guest-physical (EPT) tables                   3  pages of 4 KiB
VM exits
  EPT_VIOLATION                                 3
system calls
  write                                         2
"""


def test_table() -> None:
    file = io.StringIO()
    render_table(RECORD, file)
    assert file.getvalue() == TABLE


def test_json_keeps_the_order_and_ends_with_a_newline() -> None:
    text = render_json(RECORD)
    assert list(json.loads(text)) == list(RECORD)
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (1536, "1.5 KiB"),
        (2 << 30, "2 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert format_size(count) == text


def test_counts() -> None:
    assert format_count(1234567) == "1_234_567"


REFERENCES = [
    {"number": 1, "dimension": "guest", "table": "PML4E", "index": 7, "hpa": "0x1038",
     "entry": "0x0000000000002027", "bits": "P RW US A"},
    {"number": 2, "dimension": "ept", "table": "EPT PTE", "index": 2, "hpa": "0x2010",
     "entry": "0x0000000000000000", "bits": ""},
]  # fmt: skip
FAULT = {"name": "#PF", "code": "0x4", "code_bits": "U", "words": "user read: page not present", "gpa": None,
         "cr2": "0x5000", "table": "PDPTE"}  # fmt: skip
RESULT = {"gpa": "0x5000", "hpa": "0x9000", "guest_page": 4096, "host_page": 2 << 20, "rights": "RW-",
          "memory_type": "WB", "global": True}  # fmt: skip
OUTCOMES = [
    ({"fault": FAULT}, "#PF at the PDPTE, error code 0x4 (U): user read: page not present; CR2 = 0x5000"),
    (
        {
            "fault": {
                **FAULT,
                "name": "#GP(0)",
                "code": None,
                "cr2": None,
                "table": None,
                "words": "not canonical",
            }
        },
        "#GP(0): not canonical",
    ),
    (
        {
            "fault": {
                **FAULT,
                "name": "VM exit 48",
                "code_bits": None,
                "cr2": None,
                "gpa": "0x5000",
                "words": "why",
            }
        },
        "VM exit 48 at the PDPTE, qualification 0x4: why; gpa 0x5000",
    ),
    (
        {"result": RESULT},
        "gpa 0x5000 in a page of 4 KiB -> hpa 0x9000 in a page of 2 MiB; allowed RW-, memory type WB, global",
    ),
    (
        {"result": {**RESULT, "guest_page": None, "global": False, "note": "not in the image"}},
        "gpa 0x5000 -> hpa 0x9000 in a page of 2 MiB; allowed RW-, memory type WB, not in the image",
    ),
    (
        {"result": {**RESULT, "host_page": None, "global": False}},
        "physical address 0x9000 in a page of 4 KiB; allowed RW-, memory type WB",
    ),
]


@pytest.mark.parametrize(("outcome", "last"), OUTCOMES)
def test_walk_lines(outcome: dict[str, object], last: str) -> None:
    walk = {"references": REFERENCES, "fault": None, "result": None, **outcome}
    assert walk_lines(walk) == [
        " 1  PML4E        [  7]  at hpa 0x0000001038  0x0000000000002027  P RW US A",
        " 2    EPT PTE    [  2]  at hpa 0x0000002010  0x0000000000000000  not present",
        f"    -> {last}",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours unless NO_COLOR is set; a file never does, and its lines are not folded."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    record = {"title": "PTE", "value": "0x1", "section": "SDM", "words": None, "reserved_set": ["reserved_7"],
              "fields": [{"bits": "7", "name": "reserved_7", "value": "0x1", "set": True, "kind": "reserved",
                          "meaning": "must be 0 " * 30}]}  # fmt: skip
    terminal, file = Terminal(), io.StringIO()
    render_decode_table(record, terminal)
    render_decode_table(record, file)
    assert "\x1b[" in terminal.getvalue() and "\x1b[" not in file.getvalue()
    assert len(file.getvalue().splitlines()) == 4
    assert len(terminal.getvalue().splitlines()) > 4


FLUSHES: dict[str, Any] = {
    "findings": [
        {
            "vcpu": "vCPU 0", "gva": "0x5000", "access": "write", "privilege": "user", "rip": "0x401000",
            "symbol": "main+0x10 in a.out", "used": True, "differs": "dirty flag",
            "mapping": {
                "kind": "translation", "class": "linear", "tags": {"vpid": "0x1", "pcid": "any"}, "start": "0x5000",
                "size": 4096, "step": 3,
            },
            "kept": {
                "hpa": "0x7000", "rights": "RW-", "dirty": True, "size": 4096, "memory_type": "WB",
            },
            "tables": {"rule": "not present", "section": "SDM 3A §4.7"},
            "entry": {
                "dimension": "guest", "level": 1, "hpa": "0x8028", "gpa": None, "kept": "0x0000000000007067",
                "now": "0x0000000000007027",
            },
            "changed": None,
            "missing": {
                "operation": "INVLPG", "when": "INVLPG", "section": "SDM 3A §4.10.4.1", "operand": "address 0x5000",
                "note": "",
            },
            "attempts": [],
            "count": 2,
        },
        {
            "vcpu": "vCPU 0", "gva": "0x6000", "access": "read", "privilege": "user", "rip": "0x401010",
            "symbol": None, "used": False, "differs": "address",
            "mapping": {
                "kind": "translation", "class": "linear", "tags": {"vpid": "0x1", "pcid": "0x0"}, "start": "0x6000",
                "size": 4096, "step": 4,
            },
            "kept": {
                "hpa": "0x7000", "rights": "R--", "dirty": False, "size": 4096, "memory_type": "WB",
            },
            "tables": {
                "hpa": "0x9000", "rights": "R--", "dirty": False, "size": 4096, "memory_type": "WB",
            },
            "entry": None,
            "changed": None,
            "missing": {
                "operation": "INVPCID_CONTEXT", "when": "INVPCID, type 1", "section": "SDM 3A §4.10.4.1",
                "operand": "PCID 0x0", "note": "or a reload",
            },
            "attempts": [
                {"step": 5, "operation": "MOV_CR3_KEEP", "when": "MOV to CR3", "spared": "invalidates nothing"},
            ],
            "count": 1,
        },
    ],
    "advice": [
        {
            "operation": "INVLPG", "when": "INVLPG", "by": "kernel", "rip": "0x401020", "symbol": "munmap in libc.so.6",
            "count": 1, "needed": 2, "dropped": 1,
        }
    ],
}  # fmt: skip
FLUSHES_TEXT = """\
stale translations: 2
1. user write of 0x5000 at rip 0x401000 (main+0x10 in a.out), vCPU 0, uses a stale translation, 2 times: \
the dirty flag was cleared and will not be set
   kept     linear mapping of 0x5000, 4 KiB, VPID 0x1, PCID any, since step 3: hpa 0x7000, RW-, dirty, 4 KiB, WB
   tables   refused: not present (SDM 3A §4.7)
   changed  guest entry of level 1 at hpa 0x8028, 0x0000000000007067 to 0x0000000000007027; nobody was seen to write it
   missing  INVLPG for address 0x5000 (SDM 3A §4.10.4.1)
2. user read of 0x6000 at rip 0x401010, vCPU 0, may use a stale translation: the tables give another address
   kept     linear mapping of 0x6000, 4 KiB, VPID 0x1, PCID 0x0, since step 4: hpa 0x7000, R--, clean, 4 KiB, WB
   tables   hpa 0x9000, R--, clean, 4 KiB, WB
   changed  the root: another address space has these tags
   missing  INVPCID, type 1 for PCID 0x0 (SDM 3A §4.10.4.1); or a reload
   but      MOV to CR3 at step 5 invalidates nothing
flushes that nothing needed
INVLPG by the kernel at rip 0x401020 (munmap in libc.so.6): once for nothing, needed 2 times; dropped 1 mapping that \
the tables still say
"""


def test_flushes_follow_the_table() -> None:
    """Each line as it is; a run without findings says so, one without a check says nothing."""
    record = RECORD | {"flushes": FLUSHES}
    shown, without = io.StringIO(), io.StringIO()
    render_table(record, shown)
    render_table(RECORD | {"flushes": None}, without)
    assert shown.getvalue() == without.getvalue() + FLUSHES_TEXT
    none = io.StringIO()
    render_table(RECORD | {"flushes": {"findings": [], "advice": []}}, none)
    assert none.getvalue() == without.getvalue() + "stale translations: none\n"
