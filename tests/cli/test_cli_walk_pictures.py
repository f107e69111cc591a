"""`quire walk --svg` and `--html`: the files, their forms, stdout, and what is refused."""

import json
from pathlib import Path

import pytest
from commands import example_files, quire, refused
from small_elf import BASE, small_elf

NESTED = ("walk", "--tables", "nested.toml", "--access", "write")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example_files(tmp_path)
    return tmp_path


def test_a_picture_and_a_page_beside_the_report(folder: Path) -> None:
    report = quire(folder, *NESTED, "0x5678")
    outcome = quire(folder, *NESTED, "--svg", "a.svg", "--html", "a.html", "0x5678")
    assert outcome == report and outcome.status == 1
    svg, page = (folder / "a.svg").read_text(), (folder / "a.html").read_text()
    title = "<title>user write of gva 0x0000000000005678: 4-level paging under 4-level EPT, skylake-x</title>"
    assert title in svg and title in page and svg[svg.index("<svg") :] in page
    assert quire(folder, *NESTED, "--plot", "b.svg", "0x5678") == report
    assert (folder / "b.svg").read_text() == svg


def test_either_goes_to_stdout_instead_of_the_report(folder: Path) -> None:
    page = quire(folder, *NESTED, "--html", "-", "-o", "a.txt", "0x5678")
    assert page.stdout.startswith("<!DOCTYPE html>") and page.stdout.endswith("</html>\n")
    assert (folder / "a.txt").read_text() == quire(folder, *NESTED, "0x5678").stdout
    assert quire(folder, *NESTED, "--html", "-", "0x5678") == page


def test_the_picture_of_a_dump_and_of_ept_alone(folder: Path) -> None:
    entries = ("--entries", "3400067,35a7067,35a8067,800000fffffee163", "--supervisor", "0xffffc9000002d000")
    assert quire(folder, "walk", *entries, "--svg", "a.png").status == 0
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")
    assert quire(folder, "walk", "--tables", "nested.toml", "--gpa", "0x5678", "--svg", "b.pdf").status == 0
    assert (folder / "b.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.programs
def test_the_picture_of_a_program_that_runs(tmp_path: Path) -> None:
    program = str(small_elf(tmp_path, bytes.fromhex("b83c000000 31ff 0f05")))
    at = ("--address", f"{BASE + 120:#x}", "--json", "-o", "a.json", "--svg", "a.svg", "--", program)
    assert quire(tmp_path, "walk", *at).status == 0
    assert len(json.loads((tmp_path / "a.json").read_text())["walk"]["references"]) == 24
    assert "<desc>24 references, " in (tmp_path / "a.svg").read_text()


def test_refusals(folder: Path) -> None:
    hint = " (see quire walk --help)"
    assert refused(folder, *NESTED, "--svg", "a.jpg", "0x0") == (
        "quire walk: --plot writes SVG, PNG or PDF, and 'a.jpg' says otherwise: give a name that ends in .svg, .png "
        f"or .pdf{hint}"
    )
    assert refused(folder, *NESTED, "--html", "a.txt", "0x0") == (
        f"quire walk: --html writes HTML, and 'a.txt' says otherwise: give a name that ends in .html or .htm{hint}"
    )
    assert refused(folder, *NESTED, "--html", "-", "--svg", "-", "0x0") == (
        f"quire walk: --plot and --html are all -, and stdout takes one: give files for the others{hint}"
    )
    assert refused(folder, *NESTED, "--html", "none/a.html", "0x0") == (
        "quire walk: cannot write --html to 'none/a.html': No such file or directory; choose another file"
    )
