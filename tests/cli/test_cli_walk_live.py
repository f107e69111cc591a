"""`quire walk --at -- PROGRAM`: the walk of a guest as it stands; images of both dimensions; refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import quire, refused
from small_elf import BASE, small_elf

pytestmark = pytest.mark.programs

#: mov eax, 39; syscall; mov eax, 60; xor edi, edi; syscall
CODE = bytes.fromhex("b827000000 0f05 b83c000000 31ff 0f05")
ENTRY = BASE + 120


@pytest.fixture
def program(tmp_path: Path) -> str:
    return str(small_elf(tmp_path, CODE))


def walked(folder: Path, *argv: str, status: int = 0) -> dict[str, Any]:
    outcome = quire(folder, "walk", "--json", "-o", "walk.json", *argv)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (status, "", ""), outcome
    return dict(json.loads((folder / "walk.json").read_text()))


def test_both_dimensions_of_a_program_that_runs(program: str, tmp_path: Path) -> None:
    found = walked(tmp_path, "--at", "1sys", "--address", f"{ENTRY:#x}", "--access", "fetch", "--", program)
    assert found["source"] == f"{program}, after 1 system calls"
    walk = found["walk"]
    assert (walk["paging"], walk["ept_levels"], walk["user"]) == ("4-level paging", 4, True)
    assert len(walk["references"]) == 24 and walk["result"]["rights"] == "R-X"
    assert {one["level"] for one in walk["references"] if one["dimension"] == "guest"} == {1, 2, 3, 4}
    flat = walked(tmp_path, "--mmu", "native", "--address", f"{ENTRY:#x}", "--", program)["walk"]
    assert (len(flat["references"]), flat["eptp"]) == (4, None)


def test_registers_are_addresses_too(program: str, tmp_path: Path) -> None:
    """In front of the second call RIP is behind SYSCALL, where the kernel has it."""
    at = ("--at", "1sys", "--address", "rip", "--access", "fetch", "--", program)
    assert int(walked(tmp_path, *at)["walk"]["gva"], 16) == ENTRY + len(CODE)
    stack = walked(tmp_path, "--at", f"{ENTRY:#x}", "--address", "rsp", "--access", "write", "--", program)
    assert stack["source"] == f"{program}, before {ENTRY:#x}" and stack["walk"]["result"]["rights"] == "RW-"


def test_what_the_tables_do_not_allow(program: str, tmp_path: Path) -> None:
    write = walked(tmp_path, "--address", f"{ENTRY:#x}", "--access", "write", "--", program, status=1)
    assert write["walk"]["fault"]["name"] == "#PF" and write["source"] == f"{program}, at its end"
    narrow = walked(tmp_path, "--maxphyaddr", "40", "--address", f"{ENTRY:#x}", "--", program)
    assert narrow["walk"]["maxphyaddr"] == 40


def test_the_walk_leaves_no_trace(program: str, tmp_path: Path) -> None:
    """An address that was never touched keeps its accessed flags: two walks say the same."""
    argv = ("--at", "1sys", "--address", "rsp", "--access", "write", "--", program)
    assert walked(tmp_path, *argv) == walked(tmp_path, *argv)


def test_an_image_of_both_dimensions(program: str, tmp_path: Path) -> None:
    """What is read from the image is what is walked live at the end; without EPT it has one dimension."""
    live = walked(tmp_path, "--address", f"{ENTRY:#x}", "--", program)["walk"]
    for option, count in (("--with-ept", 24), ("--no-vpid", 4)):
        saved = quire(tmp_path, "run", "--report", "none", "--save-image", "a.core", option, "--", program)
        assert (saved.status, saved.stderr) == (0, "")
        walk = walked(tmp_path, "--image", "a.core", f"{ENTRY:#x}")["walk"]
        assert len(walk["references"]) == count
        assert (walk["eptp"] is not None) == (count == 24)
        if count == 24:
            assert [one["entry"] for one in walk["references"]] == [
                one["entry"] for one in live["references"]
            ]
            assert walk["result"] == live["result"]


REFUSALS = {
    "no place": (["--at", "1sys", "--", "true"], "--at runs a program: say with --address what to walk there "
                 "(see quire walk --help)"),
    "no program": (["--address", "main"], "--address is of a program that runs: give it after -- "
                   "(see quire walk --help)"),
    "tables": (["--address", "rip", "--cr3", "0x1000", "--", "true"],
               "--cr3 says where tables lie, which a program that runs has: leave it out (see quire walk --help)"),
    "entries": (["--address", "rip", "--entries", "1", "--", "true"],
                "--entries does not go with a program that runs: leave it or --at out (see quire walk --help)"),
    "guest": (["--image", "x", "--mmu", "native", "0x1000"],
              "--mmu is of a program that runs: give --at or --address as well (see quire walk --help)"),
    "two": (["--image", "x", "1", "2"], "'2' is one argument too many: give one address, or --at and --address to run "
            "a program (see quire walk --help)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str, tmp_path: Path) -> None:
    argv, message = REFUSALS[name]
    assert refused(tmp_path, "walk", *argv) == f"quire walk: {message}"


def test_a_program_that_cannot_be_walked(program: str, tmp_path: Path) -> None:
    late = quire(tmp_path, "walk", "--at", "9sys", "--address", "rip", "--", program)
    assert (late.status, late.stderr) == (
        125,
        "quire walk: the program ended with status 0 and was never after 9 system calls: give an earlier point\n",
    )
    missing = quire(tmp_path, "walk", "--address", "rip", "--", "no-such-program")
    assert missing.status == 127 and missing.stderr.startswith(
        "quire walk: no-such-program: command not found"
    )
    symbol = quire(tmp_path, "walk", "--address", "main", "--", program)
    assert symbol.status == 125 and "has no symbol 'main': it has none at all" in symbol.stderr


def test_with_ept_wants_an_image_and_ept() -> None:
    message = (
        "quire run: --with-ept keeps EPT in the image of a guest under --mmu ept: give --save-image FILE and --mmu ept "
        "as well, or leave it out (see quire run --help)"
    )
    for argv in (["--with-ept"], ["--with-ept", "--save-image", "x", "--mmu", "native"]):
        assert refused(Path("/"), "run", *argv, "--", "true") == message
