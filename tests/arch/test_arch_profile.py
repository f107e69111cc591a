"""CPU profiles: what a profile and a geometry refuse, what Skylake-X is, and how profiles are found."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from quire.arch import (
    ARCHITECTURE,
    EPT_VPID_CAP,
    SKYLAKE_X,
    CpuProfile,
    Held,
    Side,
    TlbGeometry,
    WalkCacheGeometry,
    profile_by_name,
    profile_names,
)
from quire.errors import FormatError, MisuseError

NAMES = (
    "skylake-x",
    "icelake-sp",
    "sapphire-rapids",
    "zen2",
    "zen3",
    "zen4",
    "ideal",
    "none",
    "architecture",
)
DATA = (Side.LOAD, Side.STORE)


def test_skylake_x() -> None:
    widths = (SKYLAKE_X.maxphyaddr, SKYLAKE_X.linear_bits, SKYLAKE_X.page_1g, SKYLAKE_X.nx, SKYLAKE_X.rtm)
    assert widths == (46, 48, True, True, True)
    assert {
        tlb.name: (tlb.level, tlb.sides, tlb.entries, tlb.ways, tlb.sets, tlb.page_shifts)
        for tlb in SKYLAKE_X.tlbs
    } == {
        "L1I 4K": (1, (Side.FETCH,), 128, 8, 16, (12,)),
        "L1I 2M": (1, (Side.FETCH,), 8, 8, 1, (21,)),
        "L1D 4K": (1, DATA, 64, 4, 16, (12,)),
        "L1D 2M": (1, DATA, 32, 4, 8, (21,)),
        "L1D 1G": (1, DATA, 4, 4, 1, (30,)),
        "L2": (2, (Side.FETCH, *DATA), 1536, 12, 128, (12, 21)),
        "L2 1G": (2, (Side.FETCH, *DATA), 16, 4, 4, (30,)),
    }


def test_capabilities() -> None:
    """The value that Bochs' Skylake-X reports; a processor with 57-bit addresses adds page walks of length 5."""
    assert SKYLAKE_X.ept_caps == 0x0000_0F01_0673_4141
    assert profile_by_name("zen4").ept_caps == 0x0000_0F01_0673_41C1
    assert EPT_VPID_CAP.get(0x3F << 48, "max_hlat_prefix") == 0x3F


def test_profiles_by_name_alias_and_file(tmp_path: Path) -> None:
    assert profile_names() == NAMES
    assert [profile_by_name(name).name for name in NAMES] == list(NAMES)
    assert profile_by_name("skylake-x") is SKYLAKE_X
    assert profile_by_name("architecture") is ARCHITECTURE
    for alias, name in (("skylake-sp", "skylake-x"), ("ice-lake-sp", "icelake-sp"), ("genoa", "zen4")):
        assert profile_by_name(alias) is profile_by_name(name)
    folder = Path(__file__).resolve().parents[2] / "src" / "quire" / "arch" / "profiles"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(set(NAMES) - {"architecture"})
    mine = tmp_path / "mine.toml"
    mine.write_text((folder / "zen2.toml").read_text().replace('"zen2"', '"mine"'))
    assert profile_by_name(str(mine)) == dataclasses.replace(profile_by_name("zen2"), name="mine")


def test_names_and_aliases_are_of_one_profile_each() -> None:
    known = [*NAMES, *(alias for name in NAMES for alias in profile_by_name(name).aliases)]
    assert len(set(known)) == len(known)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    listed = ", ".join(NAMES)
    absent, binary = str(tmp_path / "absent.toml"), tmp_path / "binary.toml"
    binary.write_bytes(b"\xff")
    for name, kind, message in (
        ("skylake_x", MisuseError, "No CPU profile is called 'skylake_x' (did you mean 'skylake-x'?): "
         f"there is {listed}, or give a file that ends in .toml"),
        ("Genoa", MisuseError, "No CPU profile is called 'Genoa' (did you mean 'genoa'?): "
         f"there is {listed}, or give a file that ends in .toml"),
        (absent, MisuseError, f"CPU profile {absent!r} cannot be read: No such file or directory: "
         f"give a file, or one of {listed}"),
        (str(binary), FormatError, f"CPU profile {str(binary)!r} is not UTF-8 text: invalid start byte"),
    ):  # fmt: skip
        with pytest.raises(kind) as caught:
            profile_by_name(name)
        assert str(caught.value) == message


def test_tlb_by_name() -> None:
    assert SKYLAKE_X.tlb("L2").entries == 1536
    for profile, name, message in (
        (SKYLAKE_X, "L2 2G", "Profile skylake-x has no TLB 'L2 2G' (did you mean 'L2 1G'?): "
         "it has L1I 4K, L1I 2M, L1D 4K, L1D 2M, L1D 1G, L2, L2 1G"),
        (profile_by_name("none"), "L2", "Profile none has no TLB 'L2': it has none at all"),
    ):  # fmt: skip
        with pytest.raises(MisuseError) as caught:
            profile.tlb(name)
        assert str(caught.value) == message


def test_immutable_equal_hash() -> None:
    assert dataclasses.replace(SKYLAKE_X) == SKYLAKE_X
    assert hash(dataclasses.replace(SKYLAKE_X)) == hash(SKYLAKE_X)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKYLAKE_X.maxphyaddr = 52  # type: ignore[misc]


TLB: dict[str, Any] = {
    "name": "x",
    "level": 1,
    "sides": (Side.LOAD,),
    "page_shifts": (12,),
    "entries": 8,
    "ways": 4,
}
CACHE: dict[str, Any] = {"name": "x", "guest_physical": False, "holds": (Held.PDE,), "entries": 8, "ways": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"entries": 10},
            "TLB x: 10 entries do not divide into 4 ways: give entries as a multiple of ways",
        ),
        ({"ways": 0}, "TLB x: 8 entries do not divide into 0 ways: give entries as a multiple of ways"),
        ({"entries": 12}, "TLB x: 3 sets are not a power of two: change entries or ways"),
        ({"page_shifts": ()}, "TLB x holds no page size: give page_shifts, (12,) for 4 KiB"),
        ({"page_shifts": (13,)}, "TLB x: no page has 1 << 13 bytes: give 12, 21 or 30"),
        ({"sides": ()}, "TLB x serves no access: give sides, fetch, load or store"),
        ({"level": 5}, "TLB x is at level 5: give 1 to 4"),
    ],
)
def test_tlb_geometry_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MisuseError) as caught:
        TlbGeometry(**{**TLB, **change})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ways": 3},
            "Walk cache x: 8 entries do not divide into 3 ways: give entries as a multiple of ways",
        ),
        ({"holds": ()}, "Walk cache x holds nothing: give holds, PDE for instance"),
        (
            {"holds": (Held.PAGE,)},
            "Walk cache x holds pages of linear addresses: that is a TLB, list it there",
        ),
    ],
)
def test_walk_cache_geometry_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MisuseError) as caught:
        WalkCacheGeometry(**{**CACHE, **change})
    assert str(caught.value) == message


def test_sets() -> None:
    assert TlbGeometry(**{**TLB, "entries": None, "ways": 1}).sets == 1
    assert (TlbGeometry(**TLB).sets, WalkCacheGeometry(**CACHE).sets) == (2, 2)


def tlbs(*changes: dict[str, Any]) -> tuple[TlbGeometry, ...]:
    return tuple(TlbGeometry(**{**TLB, **change}) for change in changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maxphyaddr": 53}, "MAXPHYADDR 0x35 is outside 0x20 to 0x34: give CPUID.80000008H:EAX[7:0]"),
        ({"linear_bits": 32}, "Profile skylake-x: 32 linear-address bits do not exist: give 48 or 57"),
        ({"ept_caps": 0x2}, "Profile skylake-x: ept_caps has reserved bits 0x2 set: clear them"),
        ({"walkers": 0}, "Profile skylake-x has 0 page walkers: give 1 or more"),
        ({"tlbs": SKYLAKE_X.tlbs * 2}, "Profile skylake-x has two TLBs of one name: rename one of them"),
        ({"walk_caches": SKYLAKE_X.walk_caches * 2},
         "Profile skylake-x has two walk caches of one name: rename one of them"),
        ({"tlbs": tlbs({}, {"name": "y", "sides": DATA, "page_shifts": (30, 12)})},
         "Profile skylake-x: TLBs x and y both hold 4 KiB pages for a load at level 1: take it from one of them"),
        ({"walk_caches": (WalkCacheGeometry(**CACHE),
                          WalkCacheGeometry(**{**CACHE, "name": "y", "holds": (Held.PML4E, Held.PDE)}))},
         "Profile skylake-x: walk caches x and y both hold PDE of linear mappings: take it from one of them"),
        ({"walk_caches": (WalkCacheGeometry(**{**CACHE, "guest_physical": True}),
                          WalkCacheGeometry(**{**CACHE, "guest_physical": True, "name": "y"}))},
         "Profile skylake-x: walk caches x and y both hold PDE of guest-physical mappings: take it from one of them"),
        ({"tlbs": tlbs({}, {"name": "y", "level": 3}, {"name": "z", "level": 2, "sides": (Side.STORE,)})},
         "Profile skylake-x has a TLB for a load at level 3 and none at level 2: number the levels without gaps"),
    ],
)  # fmt: skip
def test_profile_wrong(change: dict[str, Any], message: str) -> None:
    values = {one.name: getattr(SKYLAKE_X, one.name) for one in dataclasses.fields(SKYLAKE_X)}
    with pytest.raises(MisuseError) as caught:
        CpuProfile(**{**values, **change})
    assert str(caught.value) == message


def test_the_same_page_at_two_levels_or_sides_is_no_conflict() -> None:
    stores, large = {"name": "z", "sides": (Side.STORE,)}, {"name": "w", "page_shifts": (21,)}
    apart = tlbs({}, {"name": "y", "level": 2}, stores, large)
    assert dataclasses.replace(SKYLAKE_X, tlbs=apart).tlbs == apart
