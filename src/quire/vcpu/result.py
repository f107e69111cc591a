"""What a VMX instruction comes to, as values (SDM 3C §30.2)."""

from dataclasses import dataclass

from quire.arch import VmInstructionError
from quire.vcpu.checks import BrokenRule

__all__ = ["EntryExit", "VmFailInvalid", "VmFailValid", "VmSucceed", "VmxResult"]


@dataclass(frozen=True, slots=True)
class VmSucceed:
    """The instruction did it; `value` is what VMREAD or VMPTRST returns, None of the others."""

    value: int | None = None


@dataclass(frozen=True, slots=True)
class VmFailInvalid:
    """It failed and there is no current VMCS to say why: RFLAGS.CF = 1."""


@dataclass(frozen=True, slots=True)
class VmFailValid:
    """It failed: RFLAGS.ZF = 1, and the current VMCS holds `error`. `broken` are the entry checks that failed."""

    error: VmInstructionError
    broken: tuple[BrokenRule, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryExit:
    """VMLAUNCH or VMRESUME passed, but the guest's state did not: a VM exit without a guest instruction.

    `reason` has the entry-failure bit set (SDM 3C §26.8); `broken` are the checks that failed.
    """

    reason: int
    qualification: int
    broken: tuple[BrokenRule, ...]


VmxResult = VmSucceed | VmFailInvalid | VmFailValid | EntryExit
