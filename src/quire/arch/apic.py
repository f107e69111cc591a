"""The local APIC as far as inter-processor interrupts need it: x2APIC registers and the interrupt command (SDM 3A §10).

Numbers are those of MSRs. What a vCPU sends and takes is the hypervisor room's business.
"""

from enum import IntEnum

from quire.arch.layout import Layout, bit, bits, reserved

__all__ = ["X2APIC_ICR", "DeliveryMode", "Shorthand", "X2Apic"]


class X2Apic(IntEnum):
    """MSRs of a local APIC in x2APIC mode (SDM 3A §10.12.1)."""

    ID = 0x802
    EOI = 0x80B
    SPURIOUS = 0x80F
    ICR = 0x830
    SELF_IPI = 0x83F


class DeliveryMode(IntEnum):
    """What an interrupt command delivers; the modes that are not named here start processors or are reserved."""

    FIXED = 0
    NMI = 4


class Shorthand(IntEnum):
    """To whom an interrupt command goes."""

    NONE = 0  #: to the destination
    SELF = 1
    ALL = 2
    OTHERS = 3


X2APIC_ICR = Layout(
    "X2APIC_ICR",
    64,
    "SDM 3A §10.12.9",
    (
        bits(0, 7, "vector", "vector of the interrupt"),
        bits(8, 10, "mode", "delivery mode"),
        bit(11, "logical", "the destination is a logical one"),
        reserved(12, 13),
        bit(14, "assert", "level; ignored but for INIT"),
        bit(15, "level", "trigger mode; ignored but for INIT"),
        reserved(16, 17),
        bits(18, 19, "shorthand", "to whom"),
        reserved(20, 31),
        bits(32, 63, "destination", "APIC ID; all ones is everybody"),
    ),
)
