"""KeyIDs and AMD's C-bit: what stands among the address bits of an entry and is no address, for decode and walk."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import example_files, quire, refused

from quire.arch import EPT_PTE, PTE
from quire.arch.address_parts import c_bit, keyid, likely_c_bit, parted
from quire.arch.decode import decode_subject

ADDRESS = "0xffffc9000002d000"
PLAIN = (0x3400067, 0x35A7067, 0x35A8067, 0x8000_0000_FFFE_E163)
SEV = tuple(entry | 1 << 51 for entry in PLAIN)


def fields(record: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["bits"], one["value"]) for one in record["fields"]}


@pytest.mark.parametrize(("width", "count"), [(46, 6), (52, 1), (52, 15), (39, 3)])
def test_a_key_is_no_address(width: int, count: int) -> None:
    """Every bit below MAXPHYADDR belongs to the key or to the address; those beyond are reserved."""
    high = (1 << 52) - (1 << width)
    entry = 0x12345037 | (1 << width) - (1 << width - count)
    found = decode_subject("ept-pte", entry, maxphyaddr=width, taken=[keyid(width, count)])
    assert fields(found)["KeyID"] == (
        f"{width - 1}:{width - count}" if count > 1 else f"{width - 1}",
        f"{(1 << count) - 1:#x}",
    )
    assert fields(found)["addr"] == (f"{width - count - 1}:12", "0x12345000")
    assert (found["reserved_set"], found["words"]) == ([], None)
    beyond = decode_subject("ept-pte", entry | high, maxphyaddr=width, taken=[keyid(width, count)])
    assert beyond["reserved_set"] == ([f"reserved_51_{width}"] if high else [])


@pytest.mark.parametrize("number", [32, 47, 51])
@pytest.mark.parametrize("layout", [PTE, EPT_PTE], ids=lambda one: one.name)
def test_the_parts_of_an_entry_cover_each_bit_once(layout: Any, number: int) -> None:
    """The C-bit divides the address into what is below and, unless it is the highest, what is above."""
    found = parted(layout, [c_bit(number)])
    assert sum(one.mask for one in found) == (1 << 64) - 1
    assert [one.name for one in found if one.in_place] == [
        "addr",
        *([f"addr_51_{number + 1}"] if number < 51 else []),
    ]


def test_the_c_bit_beyond_the_width_is_not_reserved() -> None:
    found = decode_subject("pte", SEV[0], maxphyaddr=48, taken=[c_bit(51)])
    assert found["reserved_set"] == [] and fields(found)["C"] == ("51", "0x1")
    assert decode_subject("pte", SEV[0], maxphyaddr=48)["reserved_set"] == ["reserved_51_48"]


def test_what_looks_like_a_c_bit() -> None:
    assert [likely_c_bit(1 << n | 0x1000) for n in (46, 47, 48, 51)] == [None, 47, None, 51]
    assert likely_c_bit(1 << 51 | 1 << 42) == 51 and likely_c_bit(1 << 51 | 1 << 43) is None


def walked(folder: Path, entries: tuple[int, ...], *options: str) -> tuple[int, dict[str, Any]]:
    words = ",".join(f"{entry:x}" for entry in entries)
    outcome = quire(folder, "walk", "--entries", words, "--supervisor", "--json", *options, ADDRESS)
    return outcome.status, json.loads(outcome.stdout)


def test_a_walk_without_the_c_bit(tmp_path: Path) -> None:
    """The walk is that of the same entries without it; the record shows the entries as they are."""
    status, found = walked(tmp_path, SEV, "--c-bit", "51", "--maxphyaddr", "48", "--what-if", "wp=0")
    _, plain = walked(tmp_path, PLAIN, "--maxphyaddr", "48", "--what-if", "wp=0")
    references = found["walk"]["references"]
    assert status == 0 and found["walk"]["result"] == plain["walk"]["result"]
    assert [int(ref["entry"], 16) for ref in references] == list(SEV)
    assert [ref["bits"] for ref in references] == [f"{ref['bits']} C" for ref in plain["walk"]["references"]]
    assert [ref["hpa"] for ref in references] == [ref["hpa"] for ref in plain["walk"]["references"]]
    assert found["what_if"][0]["walk"]["references"] == references


def test_the_root_may_have_the_bit_too(tmp_path: Path) -> None:
    example_files(tmp_path)
    root = ("--tables", "tables.toml", "--cr3", f"{0x1000 | 1 << 47:#x}")
    assert quire(tmp_path, "walk", *root, "--c-bit", "47", "0x7fff_f123").status == 0
    assert quire(tmp_path, "walk", *root, "0x7fff_f123").status == 1


def test_a_walk_says_that_a_bit_may_be_the_c_bit(tmp_path: Path) -> None:
    status, found = walked(tmp_path, SEV, "--maxphyaddr", "48")
    assert (status, found["walk"]["fault"]["code"], found["walk"]["likely_c_bit"]) == (1, "0x9", 51)
    words = ",".join(f"{entry:x}" for entry in SEV)
    shown = quire(tmp_path, "walk", "--entries", words, "--supervisor", ADDRESS).stdout
    assert "width   bit 51 may be AMD's C-bit, which is no address bit (--c-bit 51)\n" in shown
    assert walked(tmp_path, PLAIN)[1]["walk"]["likely_c_bit"] is None


NONE = "holds no physical address, so it has neither KeyID nor C-bit: leave them out"
REFUSALS = {
    "decode cr4 0x80 --c-bit 47": f"CR4 {NONE}",
    "decode exit-qualification 7 --c-bit 47": f"exit-qualification {NONE}",
    "decode secondary-controls 8 --c-bit 47": f"SECONDARY_CONTROLS {NONE}",
    "decode pte 0x67 --keyid-bits 3": "A KeyID is the highest bits below MAXPHYADDR: give --maxphyaddr N as well",
    "decode pdpte 0x40000087 --keyid-bits 15 --maxphyaddr 36": (
        "KeyID at bits 35:21 is not above the lowest address bit of PDPTE_1G, 30: give fewer bits"
    ),
    "decode pte 0x67 --keyid-bits 3 --c-bit 47": (
        "--keyid-bits is of Intel's processors and --c-bit of AMD's: give one of them (see quire decode --help)"
    ),
    "walk --at 1sys --c-bit 47 -- true": (
        "--c-bit does not go with a program that runs: leave it or --at out (see quire walk --help)"
    ),
    "walk --tables tables.toml --mode 32 --c-bit 47 0x0": (
        "Entries of 32-bit paging have no C-bit: leave --c-bit out, or give another --mode"
    ),
}


@pytest.mark.parametrize("command", REFUSALS)
def test_refusals(command: str, tmp_path: Path) -> None:
    example_files(tmp_path)
    line = refused(tmp_path, *command.split())
    assert line == f"quire {command.split()[0]}: {REFUSALS[command]}"
