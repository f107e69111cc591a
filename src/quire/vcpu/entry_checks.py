"""VM-entry checks: each a named rule with its section, its field, and what would satisfy it (SDM 3C §26).

This room checks the fields that Quire uses: EPTP, VPID, CR0, CR3, CR4, EFER, RFLAGS, RIP, the VMCS link pointer. A
failed entry yields every broken rule; the first decides the architectural result (VMfailValid 7 for controls, exit
33 with bit 31 for guest state).
"""

from collections.abc import Callable
from dataclasses import dataclass

from quire.arch import (
    CR0,
    CR4,
    EFER,
    ENTRY_CONTROLS,
    EPT_VPID_CAP,
    EPTP,
    PRIMARY_CONTROLS,
    RFLAGS,
    SECONDARY_CONTROLS,
    CpuProfile,
    MemoryType,
    is_canonical,
    physical_reserved,
)
from quire.vcpu.vmcs import Vmcs

__all__ = ["RULES", "BrokenRule", "EntryRule", "check_entry"]

_CONTROLS = 7  # VmInstructionError.ENTRY_CONTROL_FIELDS
_GUEST_STATE = 33  # ExitReason.ENTRY_FAILURE_GUEST_STATE


@dataclass(frozen=True, slots=True)
class EntryRule:
    """One check: `holds` says whether the VMCS satisfies it on a CPU profile."""

    name: str
    section: str
    field: str
    wants: str
    result: int
    holds: Callable[[Vmcs, CpuProfile], bool]


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that a VMCS breaks, and the value that breaks it."""

    rule: EntryRule
    value: int

    def __str__(self) -> str:
        return (
            f"VM-entry check {self.rule.name!r} ({self.rule.section}): {self.rule.field} is {self.value:#x}; "
            f"it must be {self.rule.wants}"
        )


def _secondary(vmcs: Vmcs, name: str) -> bool:
    primary = vmcs.read("primary_processor_based_controls")
    if not PRIMARY_CONTROLS.get(primary, "activate_secondary_controls"):
        return False
    return bool(SECONDARY_CONTROLS.get(vmcs.read("secondary_processor_based_controls"), name))


def _ept_pointer(vmcs: Vmcs, profile: CpuProfile) -> bool:
    if not _secondary(vmcs, "enable_ept"):
        return True
    eptp = EPTP.decode(vmcs.read("ept_pointer"))
    caps = EPT_VPID_CAP.decode(profile.ept_caps)
    memory_types = {MemoryType.UC: caps["memory_type_uc"], MemoryType.WB: caps["memory_type_wb"]}
    return (
        bool(memory_types.get(MemoryType(eptp["MT"]) if eptp["MT"] in (0, 6) else MemoryType.WC))
        and eptp["walk_length"] == 3
        and (not eptp["AD"] or bool(caps["accessed_dirty"]))
        and (not eptp["SSS"] or bool(caps["sss"]))
    )


def _ept_reserved(vmcs: Vmcs, profile: CpuProfile) -> bool:
    forbidden = EPTP.reserved_mask | physical_reserved(profile.maxphyaddr)
    return not _secondary(vmcs, "enable_ept") or not vmcs.read("ept_pointer") & forbidden


def _vpid(vmcs: Vmcs, _: CpuProfile) -> bool:
    return not _secondary(vmcs, "enable_vpid") or vmcs.read("virtual_processor_identifier") != 0


def _unrestricted(vmcs: Vmcs, _: CpuProfile) -> bool:
    return not _secondary(vmcs, "unrestricted_guest") or _secondary(vmcs, "enable_ept")


def _cr0(vmcs: Vmcs, _: CpuProfile) -> bool:
    fixed = CR0.mask("PE", "NE", "PG")
    if _secondary(vmcs, "unrestricted_guest"):
        fixed = CR0.mask("NE")
    value = vmcs.read("guest_cr0")
    paged_unprotected = CR0.get(value, "PG") and not CR0.get(value, "PE")
    return value & fixed == fixed and not value >> 32 and not paged_unprotected


def _cr3(vmcs: Vmcs, profile: CpuProfile) -> bool:
    return not vmcs.read("guest_cr3") & (physical_reserved(profile.maxphyaddr) | (1 << 64) - (1 << 52))


def _cr4(vmcs: Vmcs, _: CpuProfile) -> bool:
    value = vmcs.read("guest_cr4")
    return bool(CR4.get(value, "VMXE")) and not value & CR4.reserved_mask


def _ia32e_paging(vmcs: Vmcs, _: CpuProfile) -> bool:
    if not ENTRY_CONTROLS.get(vmcs.read("vm_entry_controls"), "ia32e_guest"):
        return True
    return bool(CR0.get(vmcs.read("guest_cr0"), "PG") and CR4.get(vmcs.read("guest_cr4"), "PAE"))


def _efer(vmcs: Vmcs, _: CpuProfile) -> bool:
    controls = vmcs.read("vm_entry_controls")
    if not ENTRY_CONTROLS.get(controls, "load_efer"):
        return True
    value = vmcs.read("guest_ia32_efer")
    if value & EFER.reserved_mask:
        return False
    active = EFER.get(value, "LMA")
    paging = CR0.get(vmcs.read("guest_cr0"), "PG")
    return active == ENTRY_CONTROLS.get(controls, "ia32e_guest") and (
        not paging or active == EFER.get(value, "LME")
    )


def _rflags(vmcs: Vmcs, _: CpuProfile) -> bool:
    value = vmcs.read("guest_rflags")
    return bool(RFLAGS.get(value, "always_1")) and not value & RFLAGS.reserved_mask


def _rip(vmcs: Vmcs, profile: CpuProfile) -> bool:
    return is_canonical(vmcs.read("guest_rip"), profile.linear_bits)


def _link_pointer(vmcs: Vmcs, profile: CpuProfile) -> bool:
    value = vmcs.read("vmcs_link_pointer")
    return value == (1 << 64) - 1 or not (value & 0xFFF or value >> profile.maxphyaddr)


RULES: tuple[EntryRule, ...] = (
    EntryRule(
        "EPT pointer",
        "SDM 3C §26.2.1.1",
        "ept_pointer",
        "of memory type 0 or 6 as the CPU allows, walk length 4, flags only as the CPU allows",
        _CONTROLS,
        _ept_pointer,
    ),
    EntryRule(
        "EPT pointer reserved bits",
        "SDM 3C §26.2.1.1",
        "ept_pointer",
        "0 in bits 11:8 and 63:MAXPHYADDR",
        _CONTROLS,
        _ept_reserved,
    ),
    EntryRule(
        "VPID", "SDM 3C §26.2.1.1", "virtual_processor_identifier", "1 to 0xffff with VPIDs", _CONTROLS, _vpid
    ),
    EntryRule(
        "unrestricted guest",
        "SDM 3C §26.2.1.1",
        "secondary_processor_based_controls",
        "with enable EPT when it has unrestricted guest",
        _CONTROLS,
        _unrestricted,
    ),
    EntryRule(
        "CR0", "SDM 3C §26.3.1.1", "guest_cr0", "with PE, NE and PG set and 63:32 clear", _GUEST_STATE, _cr0
    ),
    EntryRule("CR3", "SDM 3C §26.3.1.1", "guest_cr3", "below 1 << MAXPHYADDR", _GUEST_STATE, _cr3),
    EntryRule(
        "CR4", "SDM 3C §26.3.1.1", "guest_cr4", "with VMXE set, reserved bits clear", _GUEST_STATE, _cr4
    ),
    EntryRule(
        "IA-32e mode",
        "SDM 3C §26.3.1.1",
        "guest_cr4",
        "with PAE set, and CR0.PG set, in an IA-32e guest",
        _GUEST_STATE,
        _ia32e_paging,
    ),
    EntryRule(
        "EFER",
        "SDM 3C §26.3.1.1",
        "guest_ia32_efer",
        "with LMA as the IA-32e control, equal to LME when paging, reserved bits clear",
        _GUEST_STATE,
        _efer,
    ),
    EntryRule(
        "RFLAGS",
        "SDM 3C §26.3.1.4",
        "guest_rflags",
        "with bit 1 set, reserved bits clear",
        _GUEST_STATE,
        _rflags,
    ),
    EntryRule("RIP", "SDM 3C §26.3.1.4", "guest_rip", "canonical", _GUEST_STATE, _rip),
    EntryRule(
        "link pointer",
        "SDM 3C §26.3.1.5",
        "vmcs_link_pointer",
        "all ones, or a page below 1 << MAXPHYADDR",
        _GUEST_STATE,
        _link_pointer,
    ),
)


_MOVING_RULES = tuple(rule for rule in RULES if rule.field in ("guest_rip", "guest_rflags"))


def check_entry(vmcs: Vmcs, profile: CpuProfile, *, moving_only: bool = False) -> list[BrokenRule]:
    """Return every rule that the VMCS breaks on `profile`, controls first; empty when the entry succeeds.

    `moving_only` makes the checks of RIP and RFLAGS alone: for a VMCS whose other fields passed already.
    """
    rules = _MOVING_RULES if moving_only else RULES
    return [BrokenRule(rule, vmcs.read(rule.field)) for rule in rules if not rule.holds(vmcs, profile)]
