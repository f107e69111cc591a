"""docs/reference/tlb.md: its example prints what it shows, and it names every field, option and structure."""

import contextlib
import io
import re
from pathlib import Path

from quire.arch import SKYLAKE_X
from quire.cli.tlb import command
from quire.report.tlb import render_tlb
from quire.tlb import Tlb

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "tlb.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_example_prints_what_is_shown() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block("python"), "tlb.md", "exec"), {})
    assert printed.getvalue() == block("output")


def test_every_field_is_named_in_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert tuple(named) == Tlb(SKYLAKE_X).table().array.dtype.names


def test_every_option_of_its_own_is_named() -> None:
    own = command.params[: [option.name for option in command.params].index("output") + 1]
    assert len(own) == 14
    for option in own:
        assert any(f"`{name}" in TEXT for name in (*option.opts, *option.secondary_opts)), option.name


def test_the_table_shown_has_the_shape_of_one() -> None:
    """Addresses depend on the machine's programs; titles, structures and columns do not."""
    shown = block("text").splitlines()
    tlb = Tlb(SKYLAKE_X)
    assert [line[2:18].strip() for line in shown[2:16]] == [one.name for one in tlb.structures]
    entry = {name: None for name in tlb.table().array.dtype.names or ()}
    entry |= {
        "structure": "L1D 4K",
        "class": "combined",
        "kind": "page",
        "address": 1 << 46,
        "size": 4096,
        "age": 1,
    }
    record = {
        "program": {"argv": ["true"]},
        "config": {"mmu": "ept", "guest_page": 4096, "host_page": 4096, "profile": "skylake-x"},
        "ended": {"at": "before exit_group", "reached": True},
        "structures": [{"name": one.name, "used": 0, "capacity": 1, "by_kind": {}} for one in tlb.structures],
        "matching": 0,
        "entries": [entry | {"set": 0, "way": 0}],
    }
    file = io.StringIO()
    render_tlb(record, file)
    made = file.getvalue().splitlines()
    assert made[0] == shown[0] and made[-2:] == shown[-2:]
    assert made[18].split() == shown[18].split()
