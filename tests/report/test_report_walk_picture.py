"""The picture and the page of a walk: what they say, the same bytes each time, nothing from outside, a size."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from walk_worlds import GUEST, HOST, World

from quire.arch import Access
from quire.paging import Context
from quire.report.picture import ALARM, BY_NIGHT, EPT_TINT, GUEST_TINT, INK, MUTED, PAPER
from quire.report.walk_page import walk_page
from quire.report.walk_picture import address_boxes, walk_picture

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 200_000


def refused() -> dict[str, Any]:
    """A write that EPT forbids to the page, at the last of 24 references."""
    world = World()
    world.edit(HOST, 3, 5, 0x5035)
    return world.walk(access=Access.WRITE)


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


def test_the_picture_of_a_refused_write() -> None:
    record = refused()
    svg = walk_picture(record)
    shown = texts(svg)
    assert [text for text in shown if text.isdigit()] == [str(number) for number in range(1, 25)]
    assert shown.count("EPTP") == 5 and shown.count("EPT PDPTE") == 6 and shown.count("not reached") == 1
    assert {
        "walk ends here",
        "to blame: W = 0",
        "gpa bits 38:30",
        "guest's entry",
        "W = 0 in 24, the EPT PTE",
    } <= set(shown)
    assert {"at 0x13028", "0x0000000000005035", "allows R-X", "gpa 0x4028", "[5]"} <= set(shown)
    assert (
        "Numbers and arrows: the order of the walk; double outline: the walk ends; dashes: not reached."
        in shown
    )
    root = ElementTree.fromstring(svg)
    assert root.findtext(f"{SVG}title") == (
        "user write of gva 0x0000000000005678: 4-level paging under 4-level EPT, skylake-x"
    )
    assert (root.findtext(f"{SVG}desc") or "").startswith(
        "24 references, numbered in the order of the walk. rule: EPT rights (SDM 3C §28.3.3.2): "
    )
    assert walk_picture(refused()) == svg


def test_every_colour_has_one_for_the_night() -> None:
    """A colour that stayed as it is would be drawn on the ground of the night."""
    root = ElementTree.fromstring(walk_picture(refused()))
    drawn = " ".join(node.get("style", "") for node in root.iter())
    found = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn))
    assert found == {INK, MUTED, ALARM, GUEST_TINT, EPT_TINT, PAPER} and found <= BY_NIGHT.keys()


def test_the_parts_of_the_address() -> None:
    small = World(5, 0).walk(0xFFFF_C900_0002_D123)["walk"]
    assert address_boxes(small) == [
        ("bits 63:57", "sign", "0x7f"), ("bits 56:48", "PML5E", "511 = 0x1ff"), ("bits 47:39", "PML4E", "402 = 0x192"),
        ("bits 38:30", "PDPTE", "0 = 0x0"), ("bits 29:21", "PDE", "0 = 0x0"), ("bits 20:12", "PTE", "45 = 0x2d"),
        ("bits 11:0", "offset", "0x123"),
    ]  # fmt: skip
    large = World(guest_leaf=2).walk(0x21_5678)["walk"]
    assert address_boxes(large)[-2:] == [("bits 29:21", "PDE", "1 = 0x1"), ("bits 20:0", "offset", "0x15678")]
    ept = World(host_leaf=2).walk_gpa(0x21_5678)["walk"]
    assert [box[:2] for box in address_boxes(ept)] == [
        ("bits 51:48", "above"), ("bits 47:39", "EPT PML4E"), ("bits 38:30", "EPT PDPTE"), ("bits 29:21", "EPT PDE"),
        ("bits 20:0", "offset"),
    ]  # fmt: skip


def test_large_pages_in_words() -> None:
    shown = texts(walk_picture(World(guest_leaf=2, host_leaf=2).walk()))
    assert "left out: page of 2 MiB" in shown and shown.count("page of 2 MiB") == 4


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_forms(form: str, begins: bytes) -> None:
    assert walk_picture(World(host=0).walk(), form).startswith(begins)


def test_the_page() -> None:
    record = refused() | {"remains": ["a <stale> translation"]}
    page = walk_page(record).decode()
    assert page.count("<svg") == 1 and page.count('<tr class="') == 24
    assert (
        '<tr class="ept wrong"><td class="n">24</td><td class="name">EPT PTE</td><td class="n">5</td>' in page
    )
    assert "<td>the walk ends here; to blame: W = 0</td>" in page
    assert "<dt>remains</dt><dd>a &lt;stale&gt; translation</dd>" in page
    assert '<dt>because</dt><dd class="wrong">W = 0 in 24, the EPT PTE</dd>' in page
    assert walk_page(record).decode() == page


def test_the_page_has_nothing_from_outside_and_no_script() -> None:
    """Names are data: no element, no attribute and no order to a terminal comes of them."""
    hostile = World(host=0).walk() | {
        "source": "<script>alert(1)</script>\x1b[31m",
        "profile": "\"'><img src=x>",
    }
    page = walk_page(hostile).decode()
    assert not re.search(r"<(script|img|link|iframe|object)|(src|href)=\"(?!#)|@import|url\((?!#)", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m" in page and "\x1b" not in page


def test_the_largest_page_has_its_size() -> None:
    """HLAT paging that restarts at its last entry, through 5 levels under 5: 65 references."""
    world = World(5, 5)
    world.context[Context.HLAT], world.context[Context.HLATP] = 1, GUEST
    world.edit(GUEST, 4, 5, 0x5007 | 1 << 11)
    record = world.walk()
    assert len(record["walk"]["references"]) == 65
    assert len(walk_page(record)) < MOST_BYTES


def test_what_if_and_no_reference() -> None:
    trial = {"set": {"wp": 0, "pkru": 12}, "changed": {"outcome": {"before": "#PF", "after": "allowed"}}}
    page = walk_page(
        World(host=0).walk(1 << 47) | {"what_if": [trial, {"set": {"smep": 1}, "changed": {}}]}
    ).decode()
    assert "<h2>What if wp=0 pkru=0xc</h2>" in page and "<td>#PF</td><td>allowed</td>" in page
    assert "<h2>What if smep=1</h2><p>Nothing changes.</p>" in page
    assert "<p>No entry was read.</p>" in page


def test_a_long_name_of_a_source_stays_within_the_picture() -> None:
    wide = walk_picture(World(host=0).walk() | {"source": "x" * 600})
    box = re.search(rb'viewBox="0 0 ([0-9.]+) ', wide)
    assert box is not None and float(box[1]) < 550
