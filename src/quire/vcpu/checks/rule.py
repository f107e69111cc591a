"""One VM-entry check as data, and the view of a VMCS that checks read.

A rule is named, cites its section, names the field that it is about and says what would satisfy it. Its result is
the number that the architecture gives: VMfailValid 7 or 8, or exit reason 33 or 34.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from quire.arch import (
    ACCESS_RIGHTS,
    CR0,
    CR3,
    CR4,
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    INTERRUPTION_INFO,
    PIN_BASED,
    PRIMARY_CONTROLS,
    RFLAGS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    CpuProfile,
    ExitReason,
    InterruptionType,
    Layout,
    VmInstructionError,
)
from quire.vcpu.vmcs import Vmcs

__all__ = [
    "CONTROLS",
    "GUEST_STATE",
    "HOST_STATE",
    "MSR_LOADING",
    "BrokenRule",
    "Check",
    "EntryRule",
    "EntryView",
    "VmcsView",
    "bits_above",
]

_LAM_OF_CR3 = CR3.mask("LAM_U57", "LAM_U48")
CONTROLS = int(VmInstructionError.ENTRY_CONTROL_FIELDS)
HOST_STATE = int(VmInstructionError.ENTRY_HOST_STATE_FIELDS)
GUEST_STATE = int(ExitReason.ENTRY_FAILURE_GUEST_STATE)
MSR_LOADING = int(ExitReason.ENTRY_FAILURE_MSR_LOADING)


class EntryView(ABC):
    """What one round of checks reads: the fields of a VMCS, memory behind them, and a CPU profile."""

    def __init__(self, profile: CpuProfile) -> None:
        self.profile = profile

    @abstractmethod
    def read(self, name: str) -> int:
        """Return the field called `name`."""

    @abstractmethod
    def physical(self, hpa: int, size: int) -> int:
        """Return `size` bytes of memory as a number."""

    @property
    @abstractmethod
    def own_address(self) -> int | None:
        """The address of the VMCS itself, None if it is not known."""

    def part(self, field: str, layout: Layout, name: str) -> int:
        """Return part `name` of the field called `field`, which has `layout`."""
        return layout.get(self.read(field), name)

    def pin(self, name: str) -> int:
        """Return a pin-based control."""
        return self.part("pin_based_controls", PIN_BASED, name)

    def primary(self, name: str) -> int:
        """Return a primary processor-based control."""
        return self.part("primary_processor_based_controls", PRIMARY_CONTROLS, name)

    def secondary(self, name: str) -> int:
        """Return a secondary processor-based control; 0 while these are not activated."""
        active = self.primary("activate_secondary_controls")
        return self.part("secondary_processor_based_controls", SECONDARY_CONTROLS, name) if active else 0

    def tertiary(self, name: str) -> int:
        """Return a tertiary processor-based control; 0 while these are not activated."""
        active = self.primary("activate_tertiary_controls")
        return self.part("tertiary_processor_based_controls", TERTIARY_CONTROLS, name) if active else 0

    def exit(self, name: str) -> int:
        """Return a primary VM-exit control."""
        return self.part("vm_exit_controls", EXIT_CONTROLS, name)

    def secondary_exit(self, name: str) -> int:
        """Return a secondary VM-exit control; 0 while these are not activated."""
        active = self.exit("activate_secondary_controls")
        return self.part("secondary_vm_exit_controls", SECONDARY_EXIT_CONTROLS, name) if active else 0

    def entry(self, name: str) -> int:
        """Return a VM-entry control."""
        return self.part("vm_entry_controls", ENTRY_CONTROLS, name)

    def cr0(self, name: str) -> int:
        """Return a bit of the guest's CR0."""
        return self.part("guest_cr0", CR0, name)

    def cr4(self, name: str) -> int:
        """Return a bit of the guest's CR4."""
        return self.part("guest_cr4", CR4, name)

    def rflags(self, name: str) -> int:
        """Return a flag of the guest's RFLAGS."""
        return self.part("guest_rflags", RFLAGS, name)

    def rights(self, segment: str, name: str) -> int:
        """Return a part of the access rights of `segment`, ``cs`` for instance."""
        return self.part(f"guest_{segment}_access_rights", ACCESS_RIGHTS, name)

    def usable(self, segment: str) -> bool:
        """Return whether a segment register of the guest is usable."""
        return not self.rights(segment, "unusable")

    @property
    def virtual_8086(self) -> bool:
        """Whether the guest will be in virtual-8086 mode."""
        return bool(self.rflags("VM"))

    @property
    def code_64(self) -> bool:
        """Whether the guest will run 64-bit code."""
        return bool(self.entry("ia32e_guest") and self.rights("cs", "L"))

    @property
    def injects(self) -> bool:
        """Whether the entry delivers an event."""
        return bool(self.injected("valid"))

    def injected(self, name: str) -> int:
        """Return a part of the VM-entry interruption information."""
        return self.part("vm_entry_interruption_information", INTERRUPTION_INFO, name)

    def injects_type(self, *kinds: InterruptionType) -> bool:
        """Return whether the entry delivers an event of one of `kinds`."""
        return self.injects and self.injected("type") in kinds

    def is_physical(self, address: int, low_bits: int = 0) -> bool:
        """Return whether `address` has its `low_bits` clear and is within the physical-address width."""
        return not (address & (1 << low_bits) - 1 or address >> self.profile.maxphyaddr)

    def is_root(self, value: int, reserved: int) -> bool:
        """Return whether a pointer to a table has neither `reserved` bits nor bits beyond the width set."""
        return not value & (reserved | bits_above(self.profile.maxphyaddr))

    def is_cr3(self, value: int) -> bool:
        """Return whether CR3 may hold `value`: LAM's bits 62:61 only on a processor that has it (ISE §LAM)."""
        lam = _LAM_OF_CR3 if self.profile.vmx.cr4.allowed1 & CR4.mask("LAM_SUP") else 0
        return not value & bits_above(self.profile.maxphyaddr) & ~lam


class VmcsView(EntryView):
    """A VMCS in memory: each field is read once."""

    def __init__(self, vmcs: Vmcs, profile: CpuProfile) -> None:
        super().__init__(profile)
        self.vmcs = vmcs
        self._values: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Return the field called `name`."""
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = self.vmcs.read(name)
        return value

    def physical(self, hpa: int, size: int) -> int:
        """Return `size` bytes of memory as a number; where there is no memory all bits read as 1."""
        memory = self.vmcs.memory
        if hpa + size > memory.size:
            return (1 << 8 * size) - 1
        return int.from_bytes(memory.read(hpa, size), "little")

    @property
    def own_address(self) -> int:
        """The address of the region."""
        return self.vmcs.hpa


Check = Callable[[EntryView], bool]


@dataclass(frozen=True, slots=True)
class EntryRule:
    """One check: `holds` says whether the VMCS satisfies it on a CPU profile.

    `qualification` gives the exit qualification of an entry that fails because of it. A `moving` rule reads a
    field that changes from entry to entry; the others hold until software writes another field.
    """

    name: str
    section: str
    field: str
    wants: str
    result: int
    holds: Check
    moving: bool = False
    qualification: Callable[[EntryView], int] = lambda _: 0


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that a VMCS breaks, the value that breaks it, and the exit qualification if that is the result."""

    rule: EntryRule
    value: int
    qualification: int = 0

    def __str__(self) -> str:
        return (
            f"VM-entry check {self.rule.name!r} ({self.rule.section}): {self.rule.field} is {self.value:#x}; "
            f"it must be {self.rule.wants}"
        )


def bits_above(low: int) -> int:
    """Return bits 63:`low`."""
    return (1 << 64) - (1 << low)
