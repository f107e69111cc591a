"""The report of `quire tlb` from a plain record: the table whole, and a chart that is the same each time."""

import io
from typing import Any
from xml.etree import ElementTree

from quire.report.heat_map import heat_map
from quire.report.tlb import render_tlb

SVG = "{http://www.w3.org/2000/svg}"
PAGE = {
    "structure": "L1D 4K", "level": 1, "set": 3, "way": 0, "class": "combined", "kind": "page",
    "address": 0x7FFF00003000, "size": 4096, "hpa": 0x77000, "vpid": 1, "pcid": 3, "ep4ta": 0x5000, "global": False,
    "RW": True, "US": True, "XD": True, "ept_R": True, "ept_W": True, "ept_X": True, "ept_XU": True, "dirty": True,
    "memory_type": "WB", "pkey": 0, "walk_size": 4096, "age": 1234,
}  # fmt: skip
CODE = PAGE | {
    "structure": "L2", "class": "linear", "size": 2 << 20, "pcid": None, "ep4ta": None, "global": True,
    "RW": True, "US": False, "XD": False, "ept_W": False, "dirty": False, "memory_type": "UC-",
}  # fmt: skip
NESTED = PAGE | dict.fromkeys(("hpa", "vpid", "pcid", "RW", "memory_type")) | {
    "structure": "PDE cache", "class": "guest-physical", "kind": "PDE", "address": 0, "size": 2 << 20,
}  # fmt: skip
UNBOUNDED = CODE | {"set": None, "way": None}


def structure(
    name: str, used: int, kinds: dict[str, int], sets: dict[str, list[int]] | None
) -> dict[str, Any]:
    shape = (
        {"level": 1, "capacity": 8, "sets": 4, "ways": 2}
        if sets
        else dict.fromkeys(("capacity", "sets", "ways"))
    )
    return {"name": name, **shape, "used": used, "by_kind": kinds, "set_use": sets}


RECORD = {
    "program": {"path": "/bin/true", "argv": ["true"]},
    "config": {"mmu": "ept", "guest_page": 4096, "host_page": 2 << 20, "profile": "mine"},
    "ended": {"at": "before main", "reached": True, "status": 0},
    "structures": [
        structure("L1D 4K", 3, {"2M": 1, "4K": 2}, {"used": [0, 1, 2, 0], "fills": [0, 5, 9, 0]}),
        structure("PDE cache", 1, {"PDE": 1}, {"used": [0, 0, 0, 1], "fills": [0, 0, 0, 1]}),
        structure("L2", 2, {"2M": 2}, None),
        structure("spare", 0, {}, {"used": [0] * 4, "fills": [0] * 4}),
    ],
    "matching": 5,
    "entries": [PAGE, CODE, NESTED, UNBOUNDED],
}

TABLE = """\
quire tlb: true under ept, 4KiB x 2MiB pages, mine; before main
  structure  used         of  by page size or kind
  L1D 4K        3          8  2M 1, 4K 2
  PDE cache     1          8  PDE 1
  L2            2  unbounded  2M 2
  spare         0          8  -

the first 4 of 5 entries that match, of 6
structure set.way class    entry          address  -> hpa tags       rights type   age
L1D 4K        3.0 combined 4K page 0x7fff00003000 0x77000 1/3/0x5000 RW-U-D WB   1_234
L2            3.0 linear   2M page 0x7fff00003000 0x77000 1/-/-      R-X-G- UC-  1_234
PDE cache     3.0 physical PDE                0x0       - -/-/0x5000 -      -    1_234
L2              - linear   2M page 0x7fff00003000 0x77000 1/-/-      R-X-G- UC-  1_234
class: physical is guest-physical; tags: VPID/PCID/EP4TA
rights: read, write, execute, user, global, dirty; age: look-ups since the last use
"""


def shown(record: dict[str, Any]) -> list[str]:
    file = io.StringIO()
    render_tlb(record, file)
    return file.getvalue().splitlines()


def test_the_table() -> None:
    assert shown(RECORD) == TABLE.splitlines()


def test_how_many_are_shown() -> None:
    def count(entries: int, matching: int) -> str:
        return shown(RECORD | {"entries": [PAGE] * entries, "matching": matching})[7]

    assert count(6, 6) == "6 entries"
    assert count(2, 2) == "2 of 6 entries match"
    assert count(2, 6) == "the first 2 of 6 entries"
    assert count(0, 6) == "6 entries, not listed"
    assert count(0, 5) == "5 entries that match, of 6, not listed"


def test_a_breakpoint_that_was_not_reached_and_a_processor_without_caches() -> None:
    ended = {"at": "before main", "reached": False, "status": 3}
    assert shown(RECORD | {"ended": ended, "structures": [], "entries": []}) == [
        "quire tlb: true under ept, 4KiB x 2MiB pages, mine; the end of the program",
        "  the program ended first: before main was never reached",
        "  the profile has no TLB and no walk cache",
    ]


def test_the_heat_map() -> None:
    chart = heat_map(RECORD)
    assert chart == heat_map(RECORD)
    texts = [
        element.text for element in ElementTree.fromstring(chart).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert [text for text in texts if text and not text.strip(" %").isdigit()] == [
        *("fills", "used, of 2", "0 to 9 a set", "0 to 2 a set", "L1D 4K: 3 of 8 entries used, 14 fills"),
        *(
            "set",
            "fills",
            "used, of 2",
            "0 to 1 a set",
            "0 to 1 a set",
            "PDE cache: 1 of 8 entries used, 1 fills",
        ),
        *("share of the ways, or of the fills of the busiest set",),
        *(
            "true on mine under ept, pages GUEST/HOST 4 KiB/2 MiB: TLBs and walk caches by set",
            "never filled: spare",
        ),
    ]
    assert b"never filled: none" in heat_map(RECORD | {"structures": RECORD["structures"][:1]})


def test_the_heat_map_of_a_processor_without_sets() -> None:
    native = RECORD["config"] | {"mmu": "native", "host_page": None}
    chart = heat_map(RECORD | {"structures": RECORD["structures"][2:3], "config": native})
    assert b"no structure has sets: nothing to compare" in chart and b"never filled" not in chart
    assert b"true on mine under native, pages 4 KiB: TLBs" in chart
    assert b"<desc>Nothing was filled.</desc>" in chart


def test_cells_are_parted_where_they_are_wide_enough() -> None:
    def lines(sets: int) -> int:
        uses = {"used": [1] * sets, "fills": [2] * sets}
        one = structure("L2", sets, {"4K": sets}, uses) | {"sets": sets}
        return heat_map(RECORD | {"structures": [one]}).count(b"stroke-width: 0.6")

    assert (lines(64) > 0, lines(128)) == (True, 0)


def test_structures_of_one_set_are_bars() -> None:
    """A single set has nothing to be compared with: no map, and no scale of colours."""
    one = structure("nested TLB", 5, {"page": 5}, {"used": [5], "fills": [7]}) | {"sets": 1, "ways": 8}
    chart = heat_map(RECORD | {"structures": [one]})
    texts = [element.text for element in ElementTree.fromstring(chart).iter(f"{SVG}text")]
    assert {"structures of one set", "nested TLB", "5 of 8, 7 fills", "ways used"} <= set(texts)
    assert not any("share" in text for text in texts if text)
    assert ElementTree.fromstring(chart).findtext(f"{SVG}desc") == "nested TLB: 5 of 8 entries used, 7 fills."


def test_other_forms_of_the_heat_map() -> None:
    assert heat_map(RECORD, "png").startswith(b"\x89PNG")
    assert heat_map(RECORD, "pdf").startswith(b"%PDF")
