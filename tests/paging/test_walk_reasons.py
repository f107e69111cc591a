"""Why a walk ended as it did: entries to blame, widths that would change it, metadata, halves, HLAT, what remains."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch import CR3, SKYLAKE_X, Access, PagingMode, is_canonical, physical_reserved
from quire.errors import MisuseError
from quire.paging import Context, Status, new_context
from quire.paging.context import Words
from quire.paging.explanation import explain
from quire.paging.linear_address import lass_forbids, masked_address
from quire.paging.remains import what_remains

P, RW, US, XD, RESTART = 1, 2, 4, 1 << 63, 1 << 11
USER = P | RW | US
ROOT, HLAT_ROOT = 0x1000, 0x9000
GVA = 0x5678  # index 0 at levels 4 to 2, 5 at level 1
READ, WRITE, FETCH = Access.READ, Access.WRITE, Access.FETCH


def memory(*entries: int, root: int = ROOT) -> Words:
    """Return 64 KiB with tables at consecutive pages from `root`, of which the four `entries` translate GVA."""
    words = np.zeros(8192, np.uint64)
    for n, entry in enumerate(entries):
        index = 5 if n == 3 else 0
        words[(root >> 3) + 512 * n + index] = entry
    return words


def tables(*changes: int) -> Words:
    """Return tables whose entries have `changes` flipped, from level 4 down; the page lies at 0x5000."""
    plain = [0x2000 | USER, 0x3000 | USER, 0x4000 | USER, 0x5000 | USER]
    return memory(*(entry ^ change for entry, change in zip(plain, (*changes, 0, 0, 0, 0), strict=False)))


def context(**settings: int) -> Words:
    made = new_context(SKYLAKE_X, 1 << 52)
    made[Context.CR3] = ROOT
    for name, value in settings.items():
        made[Context[name.upper()]] = value
    return made


def blamed(words: Words, access: Access, **settings: int) -> list[tuple[int, str]]:
    record = explain(words, context(**settings), GVA, access)
    return [(one["number"], one["words"]) for one in record["culprits"]]


def test_the_level_that_lacks_a_right() -> None:
    assert blamed(tables(0, 0, XD), FETCH) == [(3, "XD = 1")]
    assert blamed(tables(XD, 0, XD), FETCH) == [(1, "XD = 1"), (3, "XD = 1")]
    assert blamed(tables(0, RW), WRITE) == [(2, "RW = 0")]
    assert blamed(tables(0, RW, 0, RW), WRITE, user=0) == [(2, "RW = 0"), (4, "RW = 0")]
    assert blamed(tables(0, 0, US), READ) == [(3, "US = 0")]
    assert blamed(tables(), FETCH, user=0, smep=1) == [(4, "US = 1, as in every entry above,")]
    assert blamed(tables(), READ, user=0, smap=1) == [(4, "US = 1, as in every entry above,")]
    assert blamed(tables(), READ) == blamed(tables(0, 0, P), READ) == []


def test_bits_that_must_be_0() -> None:
    assert blamed(tables(0, 1 << 50 | 1 << 46), READ) == [(2, "bits 46, 50 beyond MAXPHYADDR, 46")]
    assert blamed(tables(1 << 7), READ) == [(1, "bit 7 reserved")]
    assert blamed(tables(0, 0, XD), READ, nxe=0) == [(3, "bit 63 reserved while EFER.NXE = 0")]
    huge = blamed(tables(0, 1 << 7 | 0x3000), READ, page_1g=0)
    assert huge == [(2, "bit 7 reserved: the processor has no page of that size")]


def test_entries_of_ept_that_do_not_allow() -> None:
    """EPT at 0x8000 maps the first 2 MiB by one leaf, without what each case takes away at some level."""
    eptp = {"eptp": 0x8000 | 6 | 3 << 3}

    def under(second: int, leaf: int) -> Words:
        words = tables(0x20, 0x20, 0x20, 0x60)  # no accessed or dirty flag is left to set
        for at, entry in ((0x8000, 0x9007), (0x9000, 0xA000 | second), (0xA000, 0x80 | 6 << 3 | leaf)):
            words[at >> 3] = entry
        return words

    assert blamed(under(7, 7), READ, **eptp) == []
    assert blamed(under(3, 7), FETCH, **eptp) == [(18, "X = 0")]
    assert blamed(under(7, 5), WRITE, **eptp) == [(19, "W = 0")]


def allows(words: Words, access: Access = READ, **settings: int) -> list[str]:
    return [one["rights"] for one in explain(words, context(**settings), GVA, access)["references"]]


def test_what_upper_entries_leave_possible_never_grows() -> None:
    """U/S = 1 above a supervisor page binds nobody: what is allowed shrinks from level to level."""
    supervisor_page = tables(0, 0, 0, US)
    assert allows(supervisor_page, user=0, smep=1, smap=1) == ["RWX", "RWX", "RWX", "RWX"]
    assert allows(tables(), user=0, smep=1, smap=1) == ["RWX", "RWX", "RWX", "---"]
    assert allows(tables(RW, 0, XD), user=0, smep=1) == ["R-X", "R-X", "R--", "R--"]
    assert allows(tables(0, US)) == ["RWX", "---", "---", "---"]


@pytest.mark.parametrize("width", [39, 40, 46, 52])
def test_a_verdict_that_turns_on_the_width(width: int) -> None:
    state = context(user=0)
    state[Context.RESERVED] = physical_reserved(width)
    record = explain(tables(0, 0, 0, 1 << 39), state, GVA, WRITE)
    assert record["maxphyaddr"] == width
    if width == 39:
        assert record["fault"]["code"] == "0xb"
        assert record["other_widths"] == [{"from": 40, "to": 52, "outcome": "allowed"}]
    else:
        assert record["fault"] is None
        assert record["other_widths"] == [
            {"from": 36, "to": 39, "outcome": "#PF, error code 0xb, at the PTE"}
        ]


def test_a_verdict_of_pae_paging_that_turns_on_the_width() -> None:
    """The PDPTE registers are loaded once: another width does not make them empty."""
    state = context(user=0, mode=PagingMode.PAE)
    page = tables(0, 0, 0)
    page[0x1000 >> 3] = 0x2001
    page[0x2000 >> 3] = 0x3000 | USER
    page[(0x3000 >> 3) + 5] = 0x5000 | USER | 1 << 39
    record = explain(page, state, GVA, WRITE)
    assert record["fault"] is None
    assert record["other_widths"] == [
        {"from": 36, "to": 39, "outcome": "#PF, error code 0xb, at the PAE PTE"}
    ]


def test_a_verdict_that_does_not() -> None:
    assert explain(tables(), context(), GVA, READ)["other_widths"] == []
    assert explain(tables(0, 0, 0, 1 << 35), context(), GVA, READ)["other_widths"] == []
    assert explain(tables(P, 0, 0, 1 << 39), context(), GVA, READ)["other_widths"] == []


# Linear addresses

BOTH = CR3.mask("LAM_U57", "LAM_U48")


def mask(gva: int, access: Access = READ, mode: PagingMode = PagingMode.LEVEL_4, **settings: int) -> int:
    return masked_address(context(mode=int(mode), **settings).tolist(), gva, access)


def test_metadata_of_pointers() -> None:
    """ISE §LAM: user pointers by CR3, supervisor pointers by CR4.LAM_SUP and the paging mode; never fetches."""
    user, supervisor = 0x7EAD_0000_1234_5678, 0x8EAD_8000_1234_5678
    u57, u48 = (ROOT | CR3.mask(name) for name in ("LAM_U57", "LAM_U48"))
    assert mask(user, cr3=u48) == 0x1234_5678
    assert mask(user, cr3=u57) == 0x00AD_0000_1234_5678
    assert mask(user, cr3=ROOT | BOTH) == 0x00AD_0000_1234_5678
    assert mask(user) == mask(user, FETCH, cr3=u48) == user
    assert mask(user, mode=PagingMode.PAE, cr3=u48) == user
    assert mask(supervisor, lam_sup=1) == 0xFFFF_8000_1234_5678
    assert mask(supervisor | 1 << 56, mode=PagingMode.LEVEL_5, lam_sup=1) == 0xFFAD_8000_1234_5678
    assert mask(supervisor) == mask(supervisor, cr3=u48) == supervisor
    wrong_half = 0x7EAD_8000_1234_5678  # bit 47 is not bit 63
    assert mask(wrong_half, cr3=u48) == wrong_half


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_masking_leaves_an_address_that_is_canonical_or_was_not_to_be_masked(
    gva: int, supervisor: bool
) -> None:
    gva = gva | 1 << 63 if supervisor else gva & ~(1 << 63)
    found = mask(gva, cr3=ROOT | CR3.mask("LAM_U48"), lam_sup=1)
    assert found == gva or is_canonical(found)
    assert found & (1 << 48) - 1 == gva & (1 << 48) - 1 and found >> 63 == gva >> 63
    assert mask(found, cr3=ROOT | CR3.mask("LAM_U48"), lam_sup=1) == found


def test_a_walk_with_metadata() -> None:
    record = explain(tables(), context(cr3=ROOT | CR3.mask("LAM_U48")), GVA | 0x1234 << 48, READ)
    assert (record["gva"], record["metadata"]) == ("0x0000000000005678", "0x1234000000005678")
    assert record["result"]["hpa"] == "0x5678"
    assert explain(tables(), context(), GVA | 0x1234 << 48, READ)["status"] == "NON_CANONICAL"


UPPER = 0xFFFF_8000_0000_0000
#: User, access, upper half, other settings: whether LASS refuses.
LASS = {
    (1, READ, True, ""): True,
    (1, READ, False, ""): False,
    (1, FETCH, True, ""): True,
    (0, FETCH, False, ""): True,
    (0, FETCH, True, ""): False,
    (0, READ, False, ""): False,
    (0, READ, False, "smap"): True,
    (0, WRITE, False, "smap ac"): False,
    (0, WRITE, False, "smap ac implicit"): True,
    (1, READ, False, "smap implicit"): True,
    (1, READ, True, "implicit"): False,
}


@pytest.mark.parametrize("case", LASS, ids=str)
def test_halves_of_the_address_space(case: tuple[int, Access, bool, str]) -> None:
    user, access, upper, words = case
    settings = {"user": user, **dict.fromkeys(words.split(), 1)}
    gva = UPPER if upper else GVA
    assert lass_forbids(context(lass=1, **settings).tolist(), gva, access) is LASS[case]
    assert not lass_forbids(context(**settings).tolist(), gva, access)
    record = explain(tables(), context(lass=1, **settings), gva, access)
    assert (record["rule"]["name"] == "LASS") is LASS[case]
    if LASS[case]:
        assert record["references"] == []
        assert record["fault"]["words"] == "the address is in the wrong half, no table is read"


# HLAT


def both_roots(*hlat: int) -> Words:
    """Return CR3's tables, whose page lies at 0x5000, and HLAT tables, whose page lies at 0xd000."""
    return tables() + memory(*hlat, root=HLAT_ROOT)


HLAT = (0xA000 | USER, 0xB000 | USER, 0xC000 | USER, 0xD000 | USER)
ON = {"hlat": 1, "hlatp": HLAT_ROOT}


def hlat_walk(entries: tuple[int, ...], access: Access = READ, **settings: int) -> dict[str, Any]:
    return explain(both_roots(*entries), context(**settings), GVA, access)


def test_hypervisor_managed_translation() -> None:
    record = hlat_walk(HLAT, **ON)
    assert record["result"]["hpa"] == "0xd678"
    assert [one["table"] for one in record["references"]] == [
        "HLAT PML4E",
        "HLAT PDPTE",
        "HLAT PDE",
        "HLAT PTE",
    ]
    assert hlat_walk(HLAT)["result"]["hpa"] == "0x5678"


def test_an_entry_that_restarts_ordinary_paging() -> None:
    """Rights of HLAT entries do not bind the ordinary walk that follows."""
    entries = (0xA000 | P, 0xB000 | USER, 0xC000 | USER | RESTART)
    record = hlat_walk(entries, WRITE, **ON)
    assert record["result"]["hpa"] == "0x5678"
    assert [one["table"] for one in record["references"]] == [
        "HLAT PML4E", "HLAT PDPTE", "HLAT PDE", "PML4E", "PDPTE", "PDE", "PTE",
    ]  # fmt: skip


def test_a_fault_in_hlat_paging_says_so() -> None:
    record = hlat_walk(HLAT[:3], **ON)
    assert record["fault"]["code"] == "0x84"
    assert record["fault"]["words"] == "user read: page not present, during HLAT paging"


def test_the_prefix_chooses_addresses() -> None:
    upper = {**ON, "hlat_prefix": 1}
    assert hlat_walk(HLAT, **upper)["result"]["hpa"] == "0x5678"
    words = both_roots(*HLAT)
    words[(HLAT_ROOT >> 3) + 256] = 0xA000 | USER
    assert explain(words, context(**upper), UPPER | GVA, READ)["result"]["hpa"] == "0xd678"
    far = explain(words, context(**{**ON, "hlat_prefix": 18}), UPPER | GVA, READ)
    assert far["status"] == Status.PAGE_FAULT.name and far["references"][0]["table"] == "PML4E"


# What remains


def remains(code: int, *changes: int, access: Access = READ) -> list[str]:
    return what_remains(explain(tables(*changes), context(), GVA, access), code)


def test_what_remains_of_an_allowed_access() -> None:
    stale, missing, reserved = remains(0x7, access=WRITE), remains(0x4), remains(0xD)
    assert (
        stale[0]
        == "the fault said 0x7 (user write: forbidden by access rights), and these tables allow the access"
    )
    assert stale[1].startswith("a stale translation: ") and missing[1].startswith(
        "an entry that became present"
    )
    assert reserved[1].startswith("a reserved bit that this width does not reserve")
    for said in (stale, missing, reserved):
        assert said[-1].endswith("kernel and user have two roots, the other one is 0x0")


def test_what_remains_of_a_fault() -> None:
    assert remains(0x4, 0, 0, P) == []
    assert remains(0x7, 0, 0, P) == [
        "the fault said 0x7 (user write: forbidden by access rights), the walk says otherwise: another access or moment"
    ]
    with pytest.raises(MisuseError, match=r"^Page-fault error code 0x100 has reserved bits 0x100 set"):
        remains(0x100)


def test_what_loaded_pdptes_leave_possible() -> None:
    """In PAE paging the four registers are loaded first: what is there allows all, what is not nothing."""
    words = np.zeros(8192, np.uint64)
    words[ROOT >> 3] = 0x2000 | P
    words[0x2000 >> 3] = 0x83 | US
    record = explain(words, context(mode=int(PagingMode.PAE)), GVA, READ)
    assert [one["table"] for one in record["references"]] == [*["PAE PDPTE"] * 4, "PAE PDE 2M"]
    assert [one["rights"] for one in record["references"]] == ["RWX", "---", "---", "---", "RWX"]
