"""``quire walk``: whole outputs of the main cases, every source, every option, and each refusal with its message."""

import json
from pathlib import Path

import pytest
from commands import PROCESSOR, contents, example_files, lime, quire, refused

from quire.state.images import MemoryRange, ProcessorState, read_tables, write_core

PAE = """
mode = "pae"
cr3 = 0x1020
[[table]]
address = 0x1020
level = 3
entries = { 1 = 0x2001 }
[[table]]
address = 0x2000
level = 2
entries = { 2 = { addr = 0x40_0000, bits = "P RW US PS XD" }, 3 = { addr = 0x3000, bits = "P" } }
"""
PAE_READ = """\
user read of gva 0x0000000040412345: PAE paging, skylake-x
  cr3 0x1020 nxe=1 wp=1 smep=0 smap=0 ac=0; 2 tables in t.toml
#  entry of    index  address  holds               allows  bits
1  PAE PDPTE       0  0x1020   0x0000000000000000  ---     not present
2  PAE PDPTE       1  0x1028   0x0000000000002001  RWX     P addr=0x2000
3  PAE PDPTE       2  0x1030   0x0000000000000000  ---     not present
4  PAE PDPTE       3  0x1038   0x0000000000000000  ---     not present
5  PAE PDE 2M      2  0x2010   0x8000000000400087  RW-     P RW US PS addr=0x400000 XD
rule    allowed (SDM 3A §4.6.1): every entry used is present and legal, and the rights allow the access
flags   set: A in 5
result  physical address 0x412345 in a page of 2 MiB; allowed RW-, memory type WB
"""
PAE_ILLEGAL = """\
user read of gva 0x0000000000000000: PAE paging, skylake-x
  cr3 0x1020 nxe=1 wp=1 smep=0 smap=0 ac=0; 1 table in t.toml
#  entry of   index  address  holds               allows  bits
1  PAE PDPTE      0  0x1020   0x0000000000002021  RWX     P addr=0x2000
rule    PDPTE reserved bit (SDM 3A §4.4.1): a present PDPTE must have 0 in its reserved bits when it is loaded
because bit 5 reserved in 1, the PAE PDPTE
result  #GP(0) at the PAE PDPTE: MOV to CR3 loads no PDPTE register
"""
LEGACY = """
mode = "32"
cr3 = 0x1000
settings = { pse = 1 }
[[table]]
address = 0x1000
level = 2
entries = { 1 = { addr = 0x40_0000, bits = "P US PS addr_high=1" }, 3 = { addr = 0x2000, bits = "P RW US" } }
[[table]]
address = 0x2000
level = 1
entries = { 5 = { addr = 0x7000, bits = "P RW US" } }
"""
LEGACY_WRITE = """\
user write of gva 0x0000000000c05678: 32-bit paging, skylake-x
  cr3 0x1000 nxe=1 wp=1 smep=0 smap=0 ac=0 pse=1; 2 tables in t.toml
#  entry of  index  address  holds       allows  bits
1  PDE 32        3  0x100c   0x00002007  RWX     P RW US addr=0x2000
2  PTE 32        5  0x2014   0x00007007  RWX     P RW US addr=0x7000
rule    allowed (SDM 3A §4.6.1): every entry used is present and legal, and the rights allow the access
flags   set: A in 1, A D in 2
result  physical address 0x7678 in a page of 4 KiB; allowed RWX, memory type WB
"""
NON_CANONICAL = """\
user read of gva 0x0000800000000000: 4-level paging, skylake-x
  cr3 0x1000 nxe=1 wp=1 smep=0 smap=0 ac=0; 4 tables in tables.toml
rule    non-canonical (SDM 1 §3.3.7.1): the bits above the translated ones must all equal the highest of them
result  #GP(0): the address is not canonical, no table is read
"""
OUTSIDE = """\
user read of gva 0x0000000000000000: 4-level paging, skylake-x
  cr3 0x9000 nxe=1 wp=1 smep=0 smap=0 ac=0; 4 tables in tables.toml
rule    outside memory (SDM 3A §4.1.4): no physical memory lies at the address that the entry gives
result  no memory at the PML4E: there is nothing to read at 0x9000; gpa 0x9000
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example_files(tmp_path)
    return tmp_path


def described(folder: Path, text: str) -> tuple[str, str]:
    (folder / "t.toml").write_text(text)
    return "--tables", "t.toml"


def walk(folder: Path, *argv: str) -> dict[str, object]:
    """Return the JSON record of a walk."""
    outcome = quire(folder, "walk", "--json", *argv)
    assert outcome.stderr == ""
    record = json.loads(outcome.stdout)
    assert outcome.status == int(record["walk"]["result"] is None)
    return record  # type: ignore[no-any-return]


def test_pae_loads_its_pdptes_first(folder: Path) -> None:
    outcome = quire(folder, "walk", *described(folder, PAE), "0x4041_2345")
    assert (outcome.stdout, outcome.status) == (PAE_READ, 0)
    illegal = 'mode = "pae"\ncr3 = 0x1020\n[[table]]\naddress = 0x1020\nlevel = 3\nentries = { 0 = 0x2021 }\n'
    outcome = quire(folder, "walk", *described(folder, illegal), "0")
    assert (outcome.stdout, outcome.status) == (PAE_ILLEGAL, 1)


def test_pdptes_that_are_given_are_not_loaded(folder: Path) -> None:
    record = walk(folder, *described(folder, PAE), "--set", "pdpte0=0x2001", "0x41_2345")
    assert [ref["table"] for ref in record["walk"]["references"]] == ["PAE PDE 2M"]


def test_32_bit_paging(folder: Path) -> None:
    source = described(folder, LEGACY)
    outcome = quire(folder, "walk", *source, "--access", "write", "0xc0_5678")
    assert (outcome.stdout, outcome.status) == (LEGACY_WRITE, 0)
    assert walk(folder, *source, "0x41_2345")["walk"]["result"]["hpa"] == "0x100412345"
    without = walk(folder, *source, "--set", "pse=0", "0x41_2345")["walk"]
    assert without["references"][0]["table"] == "PDE 32"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [(["0x8000_0000_0000"], NON_CANONICAL), (["--cr3", "0x9000", "0"], OUTSIDE)],
    ids=["non-canonical", "outside"],
)
def test_walks_that_read_nothing(argv: list[str], expected: str, folder: Path) -> None:
    outcome = quire(folder, "walk", "--tables", "tables.toml", *argv)
    assert (outcome.stdout, outcome.status) == (expected, 1)


def test_stack_access_is_another_fault(folder: Path) -> None:
    record = walk(folder, "--tables", "tables.toml", "--set", "stack=1", "0x8000_0000_0000")
    assert record["walk"]["fault"]["name"] == "#SS(0)"


def test_every_source_gives_the_same_walk(folder: Path) -> None:
    """The same tables as TOML, raw, LiME and ELF core, and from an image that begins elsewhere."""
    memory = contents(read_tables(str(folder / "tables.toml")).memory)
    raw = bytearray(0x5000)
    for start, content in memory:
        raw[start : start + len(content)] = content
    (folder / "ram.raw").write_bytes(raw)
    (folder / "high.raw").write_bytes(raw[0x1000:])
    sources = [
        ["--tables", "tables.toml"],
        ["--image", "dead.core"],
        ["--image", "ram.lime", "--cr3", "0x1000"],
        ["--image", "ram.raw", "--cr3", "0x1000"],
        ["--image", "high.raw", "--cr3", "0x1000", "--base", "0x1000"],
    ]
    found = []
    for source in sources:
        record = walk(folder, *source, "--access", "write", "0x7fff_f123")["walk"]
        found.append((record["references"], record["rule"], record["fault"]))
    assert all(one == found[0] for one in found)
    assert found[0][2]["code"] == "0x7"


def test_registers_of_a_core(folder: Path) -> None:
    """Mode bits and privilege come from the note, and options change them."""
    state = ProcessorState({**PROCESSOR.registers, "cr4": 0x30_0020, "rflags": 0x4_0002})
    memory = contents(read_tables(str(folder / "tables.toml")).memory)
    with open(folder / "kernel.core", "wb") as file:
        write_core(file, [MemoryRange(start, memoryview(one)) for start, one in memory], [PROCESSOR, state])
    record = walk(folder, "--image", "kernel.core", "--vcpu", "1", "0x7fff_f000")
    assert record["walk"]["user"] is False
    assert record["walk"]["result"]["rights"] == "R--"
    assert record["source"].endswith("registers of vCPU 1")
    record = walk(folder, "--image", "kernel.core", "--vcpu", "1", "--set", "ac=0", "0x7fff_f000")
    assert record["walk"]["rule"]["name"] == "SMAP"
    record = walk(folder, "--image", "kernel.core", "--vcpu", "1", "--user", "0x7fff_f000")
    assert record["walk"]["user"] is True


def test_page_that_the_image_does_not_hold(folder: Path) -> None:
    outcome = quire(folder, "walk", "--image", "ram.lime", "--cr3", "0x1000", "0x7fff_f123")
    assert outcome.stdout.endswith("in a page of 4 KiB; allowed R-X, memory type WB, not in the image\n")


def test_host_image(folder: Path) -> None:
    """With an EPT pointer the addresses of the image are host-physical; a hole in EPT's tables is one too."""
    outcome = quire(folder, "walk", "--tables", "nested.toml", "--access", "write", "0x5678")
    argv = ["--image", "host.lime", "--cr3", "0x1000", "--eptp", "0x1005e", "--access", "write", "0x5678"]
    assert quire(folder, "walk", *argv).stdout.splitlines()[2:] == outcome.stdout.splitlines()[2:]
    tables = contents(read_tables(str(folder / "nested.toml")).memory)[1:]
    (folder / "cut.lime").write_bytes(lime([one for one in tables if one[0] != 0x12000]))
    argv[1] = "cut.lime"
    record = walk(folder, *argv)["walk"]
    assert (record["status"], record["fault"]["gpa"], len(record["references"])) == (
        "BUS_ERROR",
        "0x12000",
        2,
    )


def test_what_if_of_ept(folder: Path) -> None:
    outcome = quire(
        folder, "walk", "--tables", "nested.toml", "--access", "write", "--what-if", "eptp=0", "0x5678"
    )
    assert outcome.stdout.splitlines()[-8:] == [
        "what if eptp=0:",
        "  outcome      VM exit 48                                                                   ->  allowed",
        "  rule         EPT rights (SDM 3C §28.3.3.2)                                                ->  "
        "allowed (SDM 3A §4.6.1)",
        "  code         0x7aa (EPT_VIOLATION: data write; the entries used allow R-X; final access)  ->  -",
        "  rights       -                                                                            ->  RWX",
        "  hpa          -                                                                            ->  0x5678",
        "  memory type  -                                                                            ->  WB",
        "  references   24                                                                           ->  4",
    ]


def test_what_if_that_changes_nothing(folder: Path) -> None:
    outcome = quire(folder, "walk", "--tables", "tables.toml", "--what-if", "smep=1", "0x7fff_f000")
    assert outcome.stdout.splitlines()[-1] == "what if smep=1: nothing changes"


def test_files_stay_as_they_are(folder: Path) -> None:
    before = (folder / "dead.core").read_bytes()
    quire(
        folder,
        "walk",
        "--image",
        "dead.core",
        "--supervisor",
        "--set",
        "wp=0",
        "--access",
        "write",
        "0x7fff_f000",
    )
    assert (folder / "dead.core").read_bytes() == before


def test_profile_decides_what_is_reserved(folder: Path) -> None:
    text = "cr3 = 0x1000\n[[table]]\naddress = 0x1000\nentries = { 0 = 0x4000_0000_2007 }\n"
    source = described(folder, text)
    assert walk(folder, *source, "0")["walk"]["rule"]["name"] == "reserved bit"
    assert walk(folder, *source, "--profile", "architecture", "0")["walk"]["status"] == "BUS_ERROR"


TABLES = ["--tables", "tables.toml"]
REFUSALS = {
    "no-source": (["0"], "give --image FILE or --tables FILE, one of them (see quire walk --help)"),
    "two-sources": ([*TABLES, "--image", "dead.core", "0"],
                    "give --image FILE or --tables FILE, one of them (see quire walk --help)"),
    "base-of-tables": ([*TABLES, "--base", "0", "0"],
                       "--base and --vcpu go with --image: leave them out (see quire walk --help)"),
    "no-address": (TABLES, "Missing argument 'ADDRESS'. (see quire walk --help)"),
    "address": ([*TABLES, "7fff"], "Invalid value for 'ADDRESS': '7fff' is not a number: give 0x1f, 0b11111 or 31, "
                "or 0x7fff if it is hexadecimal (see quire walk --help)"),
    "wide": ([*TABLES, "0x1_0000_0000_0000_0000"],
             "Invalid value for 'ADDRESS': '0x1_0000_0000_0000_0000' has more than 64 bits: "
             "give at most 0xffffffffffffffff (see quire walk --help)"),
    "negative": ([*TABLES, "--", "-1"], "Invalid value for 'ADDRESS': '-1' is negative: "
                 "give the unsigned bits, 0xffff_ffff_ffff_f000 (see quire walk --help)"),
    "missing-file": (["--image", "none", "0"], "none: No such file or directory"),
    "directory": (["--image", ".", "0"], ".: Is a directory"),
    "no-cr3": (["--image", "ram.lime", "0"], "LiME image, 0x4000 bytes in 4 ranges has no CR3: "
               "give --cr3 VALUE, or --mode none (see quire walk --help)"),
    "setting": ([*TABLES, "--set", "wp", "0"], "Setting 'wp' has no value: write wp=1 or wp=0"),
    "setting-value": ([*TABLES, "--set", "wp=on", "0"], "'on' of setting wp is not a number: give 0x1f, 0b11111 or 31"),
    "setting-width": ([*TABLES, "--set", "pkru=0x1_0000_0000", "0"],
                      "Setting pkru = 0x100000000 does not fit in 32 bits: give 0x0 to 0xffffffff"),
    "ve": ([*TABLES, "--set", "ve=1,ve_info=0x9000", "0"],
           "There is no memory for the virtualization-exception information area at 0x9000: "
           "set ve_info to the address of a page that is there, or ve=0"),
    "profile": ([*TABLES, "--profile", "skylake", "0"], "No CPU profile is called 'skylake' "
                "(did you mean 'skylake-x'?): there is skylake-x, icelake-sp, sapphire-rapids, zen2, zen3, zen4, "
                "ideal, none, architecture, or give a file that ends in .toml"),
    "base": (["--image", "ram.lime", "--base", "0", "0"],
             "ram.lime says itself where its memory lies: leave --base 0x0 out, it is for raw images"),
    "mode": ([*TABLES, "--mode", "6", "0"],
             "Invalid value for '--mode': '6' is not one of 'none', '32', 'pae', '4', '5'. (see quire walk --help)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str, folder: Path) -> None:
    argv, message = REFUSALS[name]
    assert refused(folder, "walk", *argv) == f"quire walk: {message}"


def test_setting_that_does_not_exist(folder: Path) -> None:
    for option in ("--set", "--what-if"):
        said = refused(folder, "walk", *TABLES, option, "smeep=1", "0")
        assert said.startswith(
            "quire walk: No setting is called 'smeep' (did you mean 'smep'?): there is cr3, eptp, nxe, wp,"
        )
