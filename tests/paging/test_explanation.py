"""The record of an explained walk: the references of every mode, flags that it sets, rights; nothing is written."""

import json

import numpy as np
import pytest

from quire.arch import SKYLAKE_X, Access, PagingMode
from quire.errors import MisuseError
from quire.paging import Context, Status, new_context
from quire.paging.context import Rights
from quire.paging.explanation import explain, rights_letters
from quire.paging.overlay import Overlay
from quire.paging.settings import SETTINGS, parse_number, parse_settings
from quire.paging.what_if import what_if
from quire.testing.world import GVA, World


class Sparse:
    """Memory of chosen words; the rest are holes."""

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words

    def __getitem__(self, index: int) -> int:
        if index * 8 not in self.words:
            raise IndexError(index)
        return self.words[index * 8]


def nested() -> World:
    world = World(ept=True)
    world.guest([7, 7, 7, 7])
    world.identity_ept()
    return world


def five_levels() -> World:
    """5-level tables under 5-level EPT."""
    world = nested()
    world.set(7, 0, 0x1007)
    world.context[Context.CR3] = 0x7000
    world.context[Context.EPTP] = 20 << 12 | 4 << 3 | 6
    world.context[Context.MODE] = PagingMode.LEVEL_5
    return world


@pytest.mark.parametrize(("world", "levels"), [(nested(), 4), (five_levels(), 5)], ids=["4x4", "5x5"])
def test_numbers_of_references(world: World, levels: int) -> None:
    """24 and 35: each guest entry behind a walk of EPT, and the page behind one more."""
    walk = explain(world.memory, world.context, GVA, Access.READ)
    assert walk["status"] == "OK"
    assert [ref["number"] for ref in walk["references"]] == list(range(1, (levels + 1) ** 2))
    assert [ref["level"] for ref in walk["references"]][:levels] == list(range(levels, 0, -1))
    guest = [ref for ref in walk["references"] if ref["dimension"] == "guest"]
    assert [ref["level"] for ref in guest] == list(range(levels, 0, -1))
    assert walk["ept_levels"] == levels


def test_nothing_is_written() -> None:
    """Flags that the walk sets are told, once an entry, and neither memory nor context changes."""
    world = nested()
    world.context[Context.EPTP] |= np.uint64(1 << 6)
    world.context[Context.PML], world.context[Context.PML_ADDRESS] = 1, 0x18000
    world.context[Context.PML_INDEX] = 511
    memory, context = world.memory.copy(), world.context.copy()
    walk = explain(world.memory, world.context, GVA, Access.WRITE)
    assert (world.memory == memory).all() and (world.context == context).all()
    sets = {ref["number"]: ref["sets"] for ref in walk["references"] if ref["sets"]}
    assert sets == {1: "A", 2: "A", 3: "A", 4: "A D", 5: "A", 9: "A D", 10: "A", 14: "A D", 15: "A", 19: "A D",
                    20: "A D", 24: "A D"}  # fmt: skip
    json.dumps(walk)


def test_what_only_a_walk_that_sets_flags_meets() -> None:
    """A guest table in memory that EPT makes read-only: the accessed flag cannot be set."""
    world = nested()
    world.set(19, 1, 0x1000 | 5 | 6 << 3)
    walk = explain(world.memory, world.context, GVA, Access.READ)
    assert (walk["status"], walk["rule"]["name"]) == ("EPT_VIOLATION", "EPT table write")


def test_holes_end_a_walk() -> None:
    context = new_context(SKYLAKE_X, 1 << 52)
    context[Context.CR3] = 0x1000
    memory = Sparse({0x1000 + 8 * 254: 0x2007})
    walk = explain(memory, context, GVA, Access.READ)
    assert (walk["status"], walk["rule"]["name"]) == ("BUS_ERROR", "outside memory")
    assert (walk["fault"]["table"], walk["fault"]["words"]) == ("PDPTE", "there is nothing to read at 0x2240")
    assert len(walk["references"]) == 1


def test_mbec_has_a_fourth_right() -> None:
    world = nested()
    world.context[Context.MBEC] = 1
    walk = explain(world.memory, world.context, GVA, Access.READ)
    assert [ref["rights"] for ref in walk["references"][:5]] == ["RWXU", "RWXU", "RWXU", "RWX-", "RWX"]
    assert rights_letters(Rights(0)) == "---"


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({Context.EPTP: 0x10000 | 3 << 3 | 6 | 1 << 6, Context.PML: 1, Context.PML_INDEX: 512}, "VM exit 62",
         "PAGE_MODIFICATION_LOG_FULL"),
        ({Context.CR3: 0x1 << 40}, "VM exit 48", "EPT_VIOLATION: data read; the entries used allow ---; "
         "guest paging-structure access"),
        ({Context.CR3: 0x1 << 40, Context.VE: 1, Context.VE_INFO: 0x19000}, "#VE",
         "EPT_VIOLATION: data read; the entries used allow ---; guest paging-structure access"),
        ({Context.MODE: PagingMode.LEVEL_4, Context.EPTP: 0x0 | 3 << 3 | 6, Context.CR3: 1 << 12}, "VM exit 48", None),
    ],
    ids=["log", "violation", "ve", "root"],
)  # fmt: skip
def test_exits_in_words(fields: dict[Context, int], name: str, words: str | None) -> None:
    world = nested()
    for field, value in fields.items():
        world.context[field] = value
    fault = explain(world.memory, world.context, GVA, Access.READ)["fault"]
    assert fault["name"] == name
    assert words is None or fault["words"] == words


def test_information_area_must_be_there() -> None:
    world = nested()
    world.context[Context.VE], world.context[Context.VE_INFO] = 1, 0x40_0000
    with pytest.raises(
        MisuseError, match="There is no memory for the virtualization-exception information area at 0x400000"
    ):
        explain(world.memory, world.context, GVA, Access.READ)


def test_what_if_tells_together_and_alone() -> None:
    world = nested()
    world.guest([7, 7, 7, 5])
    trials = what_if(world.memory, world.context, GVA, Access.WRITE, parse_settings("wp=0,user=0"))
    assert [trial["set"] for trial in trials] == [{"wp": 0, "user": 0}, {"wp": 0}, {"user": 0}]
    assert trials[0]["changed"]["outcome"] == {"before": "#PF", "after": "allowed"}
    assert trials[1]["changed"] == {}
    assert set(trials[2]["changed"]) == {"rule", "code"}
    assert len(what_if(world.memory, world.context, GVA, Access.WRITE, parse_settings("wp=0"))) == 1


def test_overlay() -> None:
    below = Sparse({0: 1, 8: 2})
    overlay = Overlay(below)
    overlay[1] = 5
    assert (overlay[0], overlay[1], below[1], overlay.written) == (1, 5, 2, {1: 5})
    with pytest.raises(IndexError):
        overlay[2]


def test_settings() -> None:
    assert parse_settings("") == {}
    assert parse_settings(" WP=0, pkru=0b1_1 ,") == {Context.WP: 0, Context.PKRU: 3}
    assert parse_number("0x7fff_f000") == 0x7FFF_F000
    missing = {field.name.lower() for field in Context} - set(SETTINGS)
    assert missing == {"memory_bytes", "reserved", "update", "version", "mode", "pse_reserved", "pge"}
    assert Status.OK.name == "OK"
