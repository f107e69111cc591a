"""Inputs that no verb can use, of every kind: one short line with the value, the bound and what to do; status 125."""

import os
from pathlib import Path

import pytest
from commands import example_files, quire, refused, write_blocks

from quire.cli.notices import say

_DIGITS = "9" * 5000
_FAR = "0x1" + "0" * 16
_MANY = "a number has thousands of digits, and at most 64 bits are a number here"
_WIDE = f"has more than 64 bits: give at most {(1 << 64) - 1:#x}"
_DEEP = "nests tables or lists too deeply: no key needs more than a few"
_LONG = "has more than 16 MiB: give a smaller file"

#: For each verb that reads a file of the user's: the words before its name, and how its messages begin.
READERS = {
    "tables": (["walk", "--tables"], "quire walk: {}", ["0x1000"]),
    "vmcs": (["lint", "--vmcs"], "quire lint: {}", []),
    "profile": (["run", "--profile"], "quire run: CPU profile './{}'", ["--", "true"]),
    "shown": (["profiles", "show"], "quire profiles show: CPU profile './{}'", []),
    "costs": (["compare", "--costs"], "quire compare: Cost profile './{}'", ["--", "true"]),
}
CONTENTS = {
    "digits": (f"cr3 = {_DIGITS}\n", f" is not TOML: {_MANY}"),
    "far": (f"cr3 = {_FAR}\n", f": cr3 {_WIDE}"),
    "far inside": (f"a = [{{ b = {_FAR} }}]\n", f": a[0].b {_WIDE}"),
    "hexadecimal": (f"cr3 = 0x{'f' * 4000}\n", f": cr3 {_WIDE}"),
    "deep lists": ("a = " + "[" * 1500 + "]" * 1500 + "\n", f" {_DEEP}"),
    "deep tables": ("a = " + "{b=" * 1500 + "1" + "}" * 1500 + "\n", f" {_DEEP}"),
    "bytes": ("a = '\udcff'", " is not UTF-8 text: invalid start byte"),
}


def _file(folder: Path, content: str) -> str:
    (folder / "f.toml").write_bytes(content.encode(errors="surrogateescape"))
    return "f.toml"


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_the_users(reader: str, content: str, tmp_path: Path) -> None:
    words, begins, more = READERS[reader]
    text, said = CONTENTS[content]
    name = _file(tmp_path, text)
    named = name if reader in ("tables", "vmcs") else f"./{name}"
    line = refused(tmp_path, *words, named, *more)
    assert line.partition(" (see ")[0] == begins.format(name) + said


@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_an_end(reader: str, tmp_path: Path) -> None:
    words, begins, more = READERS[reader]
    line = refused(tmp_path, *words, "/dev/zero", *more)
    assert (
        line.partition(" (see ")[0] == begins.replace("./{}", "/dev/zero").format("/dev/zero") + f" {_LONG}"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a":' * 1500 + "1" + "}" * 1500, f" {_DEEP}"),
        (f'{{"guest_cr3": {_DIGITS}}}', f" is not JSON: {_MANY}"),
        (f'{{"guest_cr3": {1 << 64}}}', f": guest_cr3 {_WIDE}"),
    ],
)
def test_a_vmcs_as_json(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(content)
    assert refused(tmp_path, "lint", "--vmcs", "v.json") == f"quire lint: v.json{said}"


WORDS = {
    "memory": (["run", "--memory", _DIGITS, "--", "true"],
               "quire run: Invalid value for '--memory': a number of 5000 digits is no size: give one such as 512M"),
    "nodes": (["numa", "--numa", f"{_DIGITS}x1G"], "quire numa: --numa '"),
    "node size": (["numa", "--numa", _DIGITS], "quire numa: --numa '"),
    "policy": (["run", "--numa", "2x4G", "--numa-policy", f"bind:0-{_DIGITS}", "--", "true"], "quire run: '0-999"),
    "weights": (["run", "--numa", "2x4G", "--numa-policy", f"weighted-interleave:{_DIGITS}", "--", "true"],
                "quire run: Policy 'weighted-interleave:999"),
    "address": (["walk", "--tables", "tables.toml", _DIGITS],
                "quire walk: Invalid value for 'ADDRESS': A number has 5000 characters: give at most 140"),
    "setting": (["walk", "--tables", "tables.toml", "--set", f"cr3={_DIGITS}", "0x0"],
                "quire walk: A number of setting cr3 has 5000 characters: give at most 140, 0x1f for instance"),
    "value": (["decode", "pte", _DIGITS], "quire decode: A number has 5000 characters: give at most 140"),
    "seed": (["run", "--seed", _DIGITS, "--", "true"], "quire run: Invalid value for '--seed': '999"),
    "updates": (["validate", "crossover", "--updates", _DIGITS], "quire validate crossover: '999"),
    "second dimension": (["run", "--mmu", "native", "--host-page", "2M", "--", "true"],
                         "quire run: --host-page 2M says nothing under --mmu native, which has one dimension of "
                         "tables: give --guest-page, or another --mmu (see quire run --help)"),
    "picture": (["compare", "--plot", "x.jpg", "--", "true"],
                "quire compare: --plot writes SVG, PNG or PDF, and 'x.jpg' says otherwise: give a name that ends "
                "in .svg, .png or .pdf"),
    "heat map": (["tlb", "--heat-map", "x.jpg", "--", "true"],
                 "quire tlb: --heat-map writes SVG, PNG or PDF, and 'x.jpg' says otherwise: give a name that ends "
                 "in .svg, .png or .pdf"),
    "columns": (["compare", "--parquet", "x.csv", "--", "true"],
                "quire compare: --parquet writes Parquet, and 'x.csv' says otherwise: give a name that ends in "
                ".parquet or .pq"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_a_word_on_the_command_line(name: str, tmp_path: Path) -> None:
    example_files(tmp_path)
    words, begins = WORDS[name]
    line = refused(tmp_path, *words)
    assert line.startswith(begins) and len(line) < 800


def test_distances(tmp_path: Path) -> None:
    (tmp_path / "d").write_text(f"10 {_DIGITS}\n")
    line = refused(tmp_path, "numa", "--numa", "2x1G", "--distances", "d")
    assert line.startswith("quire numa: Line 1 of the distances is '10 999") and len(line) < 800
    assert _LONG in refused(tmp_path, "numa", "--numa", "2x1G", "--distances", "/dev/zero")


def test_one_entry_is_defined_once(tmp_path: Path) -> None:
    write_blocks("walk", tmp_path)
    text = (tmp_path / "tables.toml").read_text()
    (tmp_path / "twice.toml").write_text(text + "\n[[table]]\naddress = 0x1000\n[table.entries]\n0 = 0x67\n")
    line = refused(tmp_path, "walk", "--tables", "twice.toml", "0x1000")
    assert line == (
        "quire walk: twice.toml: table 0x1000, entry 0: index 0 has an entry already, in an earlier table there"
    )


def test_a_name_gives_no_orders(tmp_path: Path) -> None:
    name = "\x1b[31m\u202e.toml"
    line = refused(tmp_path, "walk", "--tables", name, "0x1000")
    assert line == r"quire walk: \x1b[31m\u202e.toml: No such file or directory"


def test_a_stream_of_few_characters() -> None:
    """What its encoding lacks is escaped: nothing fails for a section sign."""
    from quire.guest.own_streams import OwnFile, _text

    reader, writer = os.pipe()
    with open(reader, encoding="ascii") as pipe:
        _text(OwnFile(writer, None), "ascii", "strict").write("SDM \u00a7 4.5\n")
        os.close(writer)
        assert pipe.read() == "SDM \\xa7 4.5\n"


def test_say_keeps_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\ntwo \x07")
    assert capsys.readouterr().err == "one\ntwo \\x07\n"


def test_help_is_an_answer(tmp_path: Path) -> None:
    outcome = quire(tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "") and "Commands:" in outcome.stdout
