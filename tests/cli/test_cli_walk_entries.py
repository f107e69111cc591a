"""``quire walk --entries`` and ``--gpa``: a walk from the entries of a dump, and EPT's walk alone."""

import json
from pathlib import Path

import pytest
from commands import example_files, quire, refused

FAULT = (
    "walk",
    "--entries",
    "3400067,3400067,35a7067,35a8067,800000fffffee163",
    "--supervisor",
    "--access",
    "write",
)
ADDRESS = "0xffffc9000002d000"
EPT = "0x1000007abb7007,0x10000035a59007,0x1000007a88a007,0x1000005d48fc76"


def test_five_entries_of_linux(tmp_path: Path) -> None:
    narrow = quire(tmp_path, *FAULT, "--maxphyaddr", "39", ADDRESS)
    assert narrow.status == 1
    assert "result  #PF at the PTE, error code 0xb (P W RSVD): supervisor write: " in narrow.stdout
    wide = quire(tmp_path, *FAULT, ADDRESS)
    assert wide.status == 0
    assert wide.stdout.splitlines()[-1] == (
        "width   the verdict turns on MAXPHYADDR, here 46: with 36 to 39 it is #PF, error code 0xb, at the PTE"
    )


def test_fewer_entries_for_a_fault_above(tmp_path: Path) -> None:
    absent = json.loads(quire(tmp_path, "walk", "--json", "--entries", "3400067,0", "0x10").stdout)["walk"]
    assert (absent["fault"]["table"], absent["fault"]["code"]) == ("PDPTE", "0x4")
    left = quire(tmp_path, "walk", "--entries", "3400067,35a7067", "0x10")
    assert left.status == 1
    assert "note    the entry that comes next was not given" in left.stdout.splitlines()


def test_a_large_page_and_five_levels(tmp_path: Path) -> None:
    large = json.loads(quire(tmp_path, "walk", "--json", "--entries", "1067,2067,80000e7", "0x212345").stdout)
    assert large["walk"]["result"]["hpa"] == "0x8012345"
    five = json.loads(
        quire(tmp_path, "walk", "--json", "--entries", "1067,2067,3067,4067,5067", "0xff00000000123").stdout
    )
    assert (five["walk"]["paging"], five["walk"]["result"]["hpa"]) == ("5-level paging", "0x5123")


def test_ept_alone(tmp_path: Path) -> None:
    outcome = quire(tmp_path, "walk", "--gpa", "--entries", EPT, "0x268fe10")
    assert outcome.status == 1
    assert outcome.stdout.splitlines()[0] == "read of gpa 0x268fe10: 4-level EPT alone, skylake-x"
    assert outcome.stdout.splitlines()[-1] == (
        "result  VM exit 49 at the EPT PTE: EPT_MISCONFIGURATION; gpa 0x268fe10"
    )


def test_ept_of_tables(tmp_path: Path) -> None:
    example_files(tmp_path)
    record = json.loads(
        quire(tmp_path, "walk", "--json", "--tables", "nested.toml", "--gpa", "0x5678").stdout
    )
    assert (record["walk"]["gva"], record["walk"]["gpa"]) == (None, "0x5678")
    assert record["walk"]["result"]["hpa"] == "0x5678"
    assert [one["dimension"] for one in record["walk"]["references"]] == ["ept"] * 4


def test_an_address_that_4_level_ept_cannot_index(tmp_path: Path) -> None:
    """A guest with 52 address bits under EPT of 4 levels: only what it is told of its width ends the exits."""
    example_files(tmp_path)
    note = (
        "note    4-level EPT translates guest-physical bits 47:0 and no entry mends that, so this exit comes for ever: "
        "give the guest 48 as GuestPhysBits (CPUID 80000008H EAX, bits 23:16), or EPT 5 levels"
    )
    for address, words in ((1 << 48, note), (1 << 51, f"{note}; in a TD bit 51 is the shared bit")):
        outcome = quire(tmp_path, "walk", "--tables", "nested.toml", "--gpa", f"{address:#x}")
        assert (outcome.stdout.splitlines()[3], outcome.status) == (words, 1)
    within = ("walk", "--json", "--tables", "nested.toml", "--gpa", f"{1 << 47:#x}")
    assert "GuestPhysBits" not in quire(tmp_path, *within).stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--entries", "xyz"),
            "'xyz' of --entries is not hexadecimal: give 3400067,35a7067 from the highest level down",
        ),
        (("--entries", "1" * 17), f"'{'1' * 17}' of --entries is no entry: an entry has 64 bits"),
        (("--entries", "1,2,3,4,5,6"), "--entries has 6 entries: a walk has at most 5, highest level first"),
        (
            ("--entries", "1067", "--mode", "pae"),
            "--entries goes with 4 or 5 levels of paging, not with --mode pae: give 4 or 5 (see quire walk --help)",
        ),
        (
            ("--entries", "1067", "--image", "x"),
            "--entries is a source of its own: leave --image, --tables, --base and --vcpu out (see quire walk --help)",
        ),
        (
            ("--entries", "1067", "--gpa", "--what-if", "wp=0"),
            "--what-if changes mode bits of a linear address: leave it or --gpa out (see quire walk --help)",
        ),
    ],
    ids=["word", "wide", "many", "mode", "image", "what-if"],
)
def test_refusals(tmp_path: Path, argv: tuple[str, ...], message: str) -> None:
    assert refused(tmp_path, "walk", *argv, "0x10") == f"quire walk: {message}"


def test_gpa_wants_an_ept_pointer(tmp_path: Path) -> None:
    example_files(tmp_path)
    assert refused(tmp_path, "walk", "--tables", "tables.toml", "--gpa", "0x10") == (
        "quire walk: --gpa walks EPT, and there is no EPT pointer: give --eptp VALUE (see quire walk --help)"
    )
