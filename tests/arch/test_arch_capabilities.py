"""Capability MSRs: the values of real machines where there are some, and what must hold of every profile."""

import dataclasses

import pytest

from quire.arch import (
    CR0,
    CR4,
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    SKYLAKE_X,
    TERTIARY_CONTROLS,
    VMCS_FIELDS,
    VMX_BASIC,
    Allowed,
    CpuProfile,
    Kind,
    Layout,
    VmxMsr,
    profile_by_name,
    profile_names,
)
from quire.errors import MisuseError

each_profile = pytest.mark.parametrize(
    "profile", [profile_by_name(name) for name in profile_names()], ids=lambda profile: profile.name
)
ARCHITECTURE = profile_by_name("architecture")

# Typed from the values that Skylake servers report.
SKYLAKE_X_MSRS = {
    0x481: 0x0000_00FF_0000_0016,
    0x482: 0xFFF9_FFFE_0401_E172,
    0x483: 0x01FF_FFFF_0003_6DFF,
    0x484: 0x0003_FFFF_0000_11FF,
    0x485: 0x7004_C1E7,
    0x486: 0x8000_0021,
    0x487: 0xFFFF_FFFF,
    0x488: 0x2000,
    0x489: 0x0077_67FF,
    0x48A: 0x32,
    0x48D: 0x0000_00FF_0000_0016,
    0x48E: 0xFFF9_FFFE_0400_6172,
    0x48F: 0x01FF_FFFF_0003_6DFB,
    0x490: 0x0003_FFFF_0000_11FB,
    0x491: 1,
    0x492: 0,
    0x493: 0,
}


@pytest.mark.parametrize("number", SKYLAKE_X_MSRS, ids=hex)
def test_skylake_x(number: int) -> None:
    assert SKYLAKE_X.vmx_msr(number) == SKYLAKE_X_MSRS[number]


@each_profile
def test_basic(profile: CpuProfile) -> None:
    said = VMX_BASIC.decode(profile.vmx_msr(VmxMsr.BASIC))
    assert said["revision"] == 0x51554952
    assert (said["region_size"], said["memory_type"], said["true_controls"]) == (0x1000, 6, 1)
    assert profile.vmx_msr(0x480) >> 31 & 1 == 0


@each_profile
def test_every_msr_has_a_value(profile: CpuProfile) -> None:
    assert [int(msr) for msr in VmxMsr] == list(range(0x480, 0x494))
    for msr in VmxMsr:
        assert 0 <= profile.vmx_msr(msr) < 1 << 64
    assert profile.vmx_msr(0x48C) == profile.ept_caps
    with pytest.raises(MisuseError) as caught:
        profile.vmx_msr(0x494)
    assert str(caught.value) == (
        "MSR 0x494 is not a capability MSR of these: give one of VmxMsr; "
        "IA32_VMX_EPT_VPID_CAP is CpuProfile.ept_caps"
    )


@each_profile
@pytest.mark.parametrize(("older", "true"), [(0x481, 0x48D), (0x482, 0x48E), (0x483, 0x48F), (0x484, 0x490)])
def test_true_msrs_only_free_bits(profile: CpuProfile, older: int, true: int) -> None:
    before, after = profile.vmx_msr(older), profile.vmx_msr(true)
    assert before >> 32 == after >> 32
    assert not after & ~before & 0xFFFF_FFFF


def _named(layout: Layout) -> int:
    return layout.mask(*(one.name for one in layout.fields if one.kind is Kind.FIELD))


@each_profile
def test_what_must_be_1_is_nameless_and_what_may_be_1_is_known(profile: CpuProfile) -> None:
    vmx = profile.vmx
    for layout, allowed in (
        (PIN_BASED, vmx.pin),
        (PRIMARY_CONTROLS, vmx.primary),
        (SECONDARY_CONTROLS, vmx.secondary),
        (TERTIARY_CONTROLS, vmx.tertiary),
        (EXIT_CONTROLS, vmx.exit),
        (SECONDARY_EXIT_CONTROLS, vmx.secondary_exit),
        (ENTRY_CONTROLS, vmx.entry),
    ):
        assert not allowed.allowed0 & _named(layout)
        assert not allowed.allowed1 & ~(_named(layout) | 0x0401_E176 | 0x36DFF | 0x11FF)
    assert vmx.cr0.allowed0 == CR0.mask("PE", "NE", "PG")
    assert not vmx.cr4.allowed1 & CR4.reserved_mask


def test_the_architecture_profile_offers_every_named_control() -> None:
    vmx = ARCHITECTURE.vmx
    for layout, allowed in (
        (PIN_BASED, vmx.pin),
        (PRIMARY_CONTROLS, vmx.primary),
        (SECONDARY_CONTROLS, vmx.secondary),
        (TERTIARY_CONTROLS, vmx.tertiary),
        (EXIT_CONTROLS, vmx.exit),
        (SECONDARY_EXIT_CONTROLS, vmx.secondary_exit),
        (ENTRY_CONTROLS, vmx.entry),
        (CR4, vmx.cr4),
    ):
        assert not _named(layout) & ~allowed.allowed1
    assert vmx.highest_index == max(field.index for field in VMCS_FIELDS)


def test_allowed() -> None:
    allowed = Allowed(0b0010, 0b0111)
    assert [value for value in range(16) if allowed.permits(value)] == [2, 3, 6, 7]
    assert allowed.adjust(0b1001) == 0b1011
    assert allowed.msr == 0x7_0000_0002
    with pytest.raises(MisuseError) as caught:
        Allowed(0b110, 0b011)
    assert str(caught.value) == (
        "Bits 0x4 must be 1 and must be 0: add them to allowed1 or take them from allowed0"
    )


def test_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKYLAKE_X.vmx.misc = 0  # type: ignore[misc]


def test_what_a_processor_offers() -> None:
    assert SKYLAKE_X.vmx.offers("secondary", "enable_pml")
    assert not SKYLAKE_X.vmx.offers("entry", "load_cet")
    assert ARCHITECTURE.vmx.offers("entry", "load_cet")
    with pytest.raises(MisuseError, match="did you mean 'enable_pml'"):
        SKYLAKE_X.vmx.offers("secondary", "enable_plm")
    with pytest.raises(MisuseError) as caught:
        SKYLAKE_X.vmx.offers("third", "enable_pml")
    assert str(caught.value) == (
        "No group of controls is called 'third': "
        "give one of pin, primary, secondary, tertiary, exit, secondary_exit, entry"
    )
