"""Who is to blame for a refused access: the entries that lack the right, and no others."""

from typing import Any

import pytest

from quire.arch import EPTP, SKYLAKE_X, Access, PagingMode
from quire.dumps.entry_memory import EntryMemory
from quire.paging import Context, new_context
from quire.paging.explanation import explain, explain_gpa

ROOT, EPT_ROOT = 0x1000, 0x2000
UPPER = [0x10_0067, 0x10_1067, 0x10_2067]
EPT_UPPER = [0x11_0007, 0x11_1007, 0x11_2007]
EVERYWHERE = 1 << 52


def blamed(walk: dict[str, Any]) -> list[str]:
    return [f"{one['words']} in {one['number']}, the {one['table']}" for one in walk["culprits"]]


def walked(entries: list[int], access: Access, **settings: int) -> dict[str, Any]:
    memory = EntryMemory()
    memory.put(ROOT, 0x5000, entries, PagingMode.LEVEL_4)
    context = new_context(SKYLAKE_X, EVERYWHERE)
    context[Context.CR3] = ROOT
    for name, value in settings.items():
        context[Context[name]] = value
    return explain(memory, context, 0x5000, access)


def ept_walked(leaf: int, access: Access, **settings: int) -> dict[str, Any]:
    memory = EntryMemory()
    memory.put(EPT_ROOT, 0x5000, [*EPT_UPPER, leaf], PagingMode.LEVEL_4, ept=True)
    context = new_context(SKYLAKE_X, EVERYWHERE)
    context[Context.EPTP] = EPTP.encode(MT=6, walk_length=3, addr=EPT_ROOT)
    for name, value in settings.items():
        context[Context[name]] = value
    return explain_gpa(memory, context, 0x5000, access)


@pytest.mark.parametrize(
    ("leaf", "access", "settings", "words"),
    [
        (0x5800_0000_0020_0067, Access.READ, {"PKRU": 1 << 22},
         "pkey = 11, of which PKRU has AD11 (bit 22) = 1, in 4, the PTE"),
        (0x5800_0000_0020_0067, Access.WRITE, {"PKRU": 2 << 22},
         "pkey = 11, of which PKRU has WD11 (bit 23) = 1, in 4, the PTE"),
        (0x0800_0000_0020_0063, Access.READ, {"PKS": 1, "PKRS": 1 << 2, "USER": 0},
         "pkey = 1, of which IA32_PKRS has AD1 (bit 2) = 1, in 4, the PTE"),
    ],
)  # fmt: skip
def test_protection_keys(leaf: int, access: Access, settings: dict[str, int], words: str) -> None:
    walk = walked([*UPPER, leaf], access, PKE=1, **settings)
    assert walk["rule"]["name"] == "protection key"
    assert blamed(walk) == [words]


@pytest.mark.parametrize(
    ("leaf", "user", "expected"),
    [
        (0x20_0067, 1, ["RW = 1 in 4, the PTE"]),
        (0x20_0025, 1, ["D = 0 in 4, the PTE"]),
        (0x20_0061, 1, ["US = 0 in 4, the PTE"]),
        (0x20_0065, 0, ["US = 1, as in every entry above, in 4, the PTE"]),
    ],
)
def test_shadow_stacks(leaf: int, user: int, expected: list[str]) -> None:
    walk = walked([*UPPER, leaf], Access.SHADOW_READ, USER=user)
    assert walk["rule"]["name"] == "shadow stack"
    assert blamed(walk) == expected


def test_a_read_of_ept_wants_no_right_to_write() -> None:
    """With mode-based execute control an entry of which XU alone is 1 is present, and allows no read."""
    assert blamed(ept_walked(0x20_0430, Access.READ, MBEC=1)) == ["R = 0 in 4, the EPT PTE"]
    assert blamed(ept_walked(0x20_0031, Access.WRITE)) == ["W = 0 in 4, the EPT PTE"]
    assert blamed(ept_walked(0x20_0033, Access.FETCH)) == ["X = 0 in 4, the EPT PTE"]


@pytest.mark.parametrize(("flags", "expected"), [(0, ["R"]), (1, ["R", "W"])])
def test_a_table_of_the_guest_is_read_and_with_flags_of_ept_written(flags: int, expected: list[str]) -> None:
    """SDM 3C §28.3.3.2: the guest's tables count as written only where EPT has accessed and dirty flags."""
    memory = EntryMemory()
    memory.put(EPT_ROOT, ROOT, [*EPT_UPPER, 0x20_0034], PagingMode.LEVEL_4, ept=True)
    context = new_context(SKYLAKE_X, EVERYWHERE)
    context[Context.CR3], context[Context.EPT_EXECUTE_ONLY] = ROOT, 1
    context[Context.EPTP] = EPTP.encode(MT=6, walk_length=3, AD=flags, addr=EPT_ROOT)
    walk = explain(memory, context, 0x5000, Access.READ)
    assert [one["words"] for one in walk["culprits"]] == [f"{name} = 0" for name in expected]


def test_nothing_but_presence_is_shown_of_an_entry_that_is_not_present() -> None:
    """A swap entry inverted against L1TF has no flags and no address; nor has an entry of EPT that allows nothing."""
    walk = walked([*UPPER, 0x800F_FFFE_D6F5_4060], Access.READ)
    assert [one["bits"] for one in walk["references"]][3:] == [""]
    assert ept_walked(0x8600_0000_0000_0580, Access.READ)["references"][-1]["bits"] == ""
    assert (
        ept_walked(0x5D48_F430, Access.READ, MBEC=1)["references"][-1]["bits"] == "MT=0x6 XU addr=0x5d48f000"
    )
