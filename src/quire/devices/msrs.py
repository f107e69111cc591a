"""Model-specific registers of a machine guest that are plain values: numbers, reset values, what may be written.

Those with an effect on translation or with a field in the VMCS are the processor's business (processor.py).
"""

from dataclasses import dataclass
from enum import IntEnum

from quire.arch import LOW32, PAT_RESET, WORD

__all__ = ["PLAIN_MSRS", "Msr", "PlainMsr", "legal_pat"]


class Msr(IntEnum):
    """Numbers of the MSRs that a machine guest has (SDM 4 §2.1)."""

    TSC = 0x10
    APIC_BASE = 0x1B
    FEATURE_CONTROL = 0x3A
    MICROCODE = 0x8B
    MTRR_CAP = 0xFE
    MCG_CAP = 0x179
    MCG_STATUS = 0x17A
    SYSENTER_CS = 0x174
    SYSENTER_ESP = 0x175
    SYSENTER_EIP = 0x176
    MISC_ENABLE = 0x1A0
    PAT = 0x277
    MTRR_DEF_TYPE = 0x2FF
    TSC_DEADLINE = 0x6E0
    PKRS = 0x6E1
    EFER = 0xC0000080
    STAR = 0xC0000081
    LSTAR = 0xC0000082
    CSTAR = 0xC0000083
    SFMASK = 0xC0000084
    FS_BASE = 0xC0000100
    GS_BASE = 0xC0000101
    KERNEL_GS_BASE = 0xC0000102
    TSC_AUX = 0xC0000103


@dataclass(frozen=True, slots=True)
class PlainMsr:
    """An MSR that only holds a value: at reset, which bits may be written, whether it holds a linear address.

    One that is not `kept` may be written so, and holds what it held.
    """

    reset: int = 0
    writable: int = WORD
    address: bool = False
    kept: bool = True


#: MSRs that only hold a value, by number. Writing a bit that is not writable is #GP unless it keeps its value.
PLAIN_MSRS: dict[Msr, PlainMsr] = {
    Msr.APIC_BASE: PlainMsr(0xFEE00900, 0),
    Msr.FEATURE_CONTROL: PlainMsr(1, 0),  # locked: no VMX
    Msr.MCG_CAP: PlainMsr(0, 0),  # no bank of machine checks
    Msr.MCG_STATUS: PlainMsr(),
    # CPUID puts the revision there again (SDM 3A §9.11.7.1): one with which the APIC timer keeps TSC deadlines.
    Msr.MICROCODE: PlainMsr(0x0200_0014 << 32, WORD & ~LOW32, kept=False),
    Msr.MTRR_CAP: PlainMsr(0, 0),
    Msr.MTRR_DEF_TYPE: PlainMsr(6, 0xCFF),
    Msr.MISC_ENABLE: PlainMsr(1, 1),
    Msr.LSTAR: PlainMsr(address=True),
    Msr.CSTAR: PlainMsr(address=True),
    Msr.SFMASK: PlainMsr(writable=LOW32),
    Msr.TSC_AUX: PlainMsr(writable=LOW32),
    Msr.PAT: PlainMsr(PAT_RESET),
}


def legal_pat(value: int) -> bool:
    """Whether each of the eight entries of IA32_PAT names a memory type (SDM 3A §11.12.2)."""
    return all(entry in (0, 1, 4, 5, 6, 7) for entry in value.to_bytes(8, "little"))
