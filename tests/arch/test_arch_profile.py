"""CPU profiles: the documented Skylake-X geometry, and what a profile refuses."""

import dataclasses

import pytest

from quire.arch.profile import (
    ARCHITECTURE,
    EPT_VPID_CAP,
    PROFILES,
    SKYLAKE_X,
    CpuProfile,
    TlbGeometry,
    profile_by_name,
)
from quire.errors import MisuseError


def test_skylake_x() -> None:
    assert (SKYLAKE_X.maxphyaddr, SKYLAKE_X.linear_bits, SKYLAKE_X.page_1g, SKYLAKE_X.nx) == (
        46,
        48,
        True,
        True,
    )
    assert {tlb.name: (tlb.entries, tlb.ways, tlb.sets, tlb.page_shifts) for tlb in SKYLAKE_X.tlbs} == {
        "l1i_4k": (128, 8, 16, (12,)),
        "l1i_2m": (8, 8, 1, (21,)),
        "l1d_4k": (64, 4, 16, (12,)),
        "l1d_2m": (32, 4, 8, (21,)),
        "l1d_1g": (4, 4, 1, (30,)),
        "l2_shared": (1536, 12, 128, (12, 21)),
        "l2_1g": (16, 4, 4, (30,)),
    }


def test_capabilities() -> None:
    """The value that Bochs' Skylake-X reports, see reference/architecture.md 4.6."""
    assert SKYLAKE_X.ept_caps == 0x0000_0F01_0673_4141
    assert EPT_VPID_CAP.get(0x3F << 48, "max_hlat_prefix") == 0x3F


def test_profile_by_name() -> None:
    assert profile_by_name("skylake-x") is SKYLAKE_X
    assert PROFILES == (SKYLAKE_X, ARCHITECTURE)
    with pytest.raises(MisuseError) as caught:
        profile_by_name("skylake_x")
    assert str(caught.value) == (
        "No CPU profile is called 'skylake_x' (did you mean 'skylake-x'?): there is skylake-x, architecture"
    )


def test_tlb_by_name() -> None:
    assert SKYLAKE_X.tlb("l2_shared").entries == 1536
    with pytest.raises(MisuseError) as caught:
        SKYLAKE_X.tlb("l2_2g")
    assert str(caught.value) == (
        "Profile skylake-x has no TLB 'l2_2g' (did you mean 'l2_1g'?): "
        "it has l1i_4k, l1i_2m, l1d_4k, l1d_2m, l1d_1g, l2_shared, l2_1g"
    )


def test_immutable_equal_hash() -> None:
    assert dataclasses.replace(SKYLAKE_X) == SKYLAKE_X
    assert hash(dataclasses.replace(SKYLAKE_X)) == hash(SKYLAKE_X)
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKYLAKE_X.maxphyaddr = 52  # type: ignore[misc]


@pytest.mark.parametrize(
    ("entries", "ways", "shifts", "message"),
    [
        (10, 4, (12,), "TLB x: 0xa entries do not divide into 0x4 ways: give entries as a multiple of ways"),
        (8, 0, (12,), "TLB x: 0x8 entries do not divide into 0x0 ways: give entries as a multiple of ways"),
        (12, 4, (12,), "TLB x: 0x3 sets are not a power of two: change entries or ways"),
        (8, 4, (), "TLB x holds no page size: give page_shifts, (12,) for 4 KiB"),
    ],
)
def test_geometry_wrong(entries: int, ways: int, shifts: tuple[int, ...], message: str) -> None:
    with pytest.raises(MisuseError) as caught:
        TlbGeometry("x", entries, ways, shifts)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maxphyaddr": 53}, "MAXPHYADDR 0x35 is outside 0x20 to 0x34: give CPUID.80000008H:EAX[7:0]"),
        ({"linear_bits": 32}, "Profile skylake-x: 0x20 linear-address bits do not exist: give 0x30 or 0x39"),
        ({"ept_caps": 0x2}, "Profile skylake-x: ept_caps has reserved bits 0x2 set: clear them"),
        ({"tlbs": SKYLAKE_X.tlbs * 2}, "Profile skylake-x has two TLBs of one name: rename one of them"),
    ],
)
def test_profile_wrong(change: dict[str, object], message: str) -> None:
    values = {one.name: getattr(SKYLAKE_X, one.name) for one in dataclasses.fields(SKYLAKE_X)}
    with pytest.raises(MisuseError) as caught:
        CpuProfile(**{**values, **change})
    assert str(caught.value) == message
