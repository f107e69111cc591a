"""The local APIC: its registers in both modes, local vectors, the interrupt command, IA32_APIC_BASE (SDM 3A §10).

What a vCPU sends and takes is the devices room's business.
"""

from enum import IntEnum

from quire.arch.layout import Layout, address, bit, bits, reserved

__all__ = [
    "APIC_BASE",
    "APIC_LVT",
    "APIC_SPURIOUS",
    "APIC_VERSION",
    "X2APIC_ICR",
    "X2APIC_MSRS",
    "XAPIC_DESTINATION_SHIFT",
    "ApicRegister",
    "DeliveryMode",
    "Shorthand",
    "TimerMode",
]

#: MSRs of x2APIC mode: the first plus a register's number (SDM 3A §10.12.1.2).
X2APIC_MSRS = range(0x800, 0x900)
#: In xAPIC mode the destination is in the top byte of the high half of the interrupt command (SDM 3A §10.6.1).
XAPIC_DESTINATION_SHIFT = 24


class ApicRegister(IntEnum):
    """Registers by number: an MSR from 0x800 on, or 16 bytes of the page each (SDM 3A §10.4.1, SDM 3A §10.12.1.2)."""

    ID = 0x02
    VERSION = 0x03
    TPR = 0x08
    PPR = 0x0A
    EOI = 0x0B
    LDR = 0x0D
    DFR = 0x0E  #: xAPIC mode only
    SPURIOUS = 0x0F
    ISR = 0x10  #: and seven more, 32 vectors each
    TMR = 0x18
    IRR = 0x20
    ESR = 0x28
    LVT_CMCI = 0x2F
    ICR = 0x30
    ICR_HIGH = 0x31  #: xAPIC mode only
    LVT_TIMER = 0x32
    LVT_THERMAL = 0x33
    LVT_PERFORMANCE = 0x34
    LVT_LINT0 = 0x35
    LVT_LINT1 = 0x36
    LVT_ERROR = 0x37
    INITIAL_COUNT = 0x38
    CURRENT_COUNT = 0x39
    DIVIDE = 0x3E
    SELF_IPI = 0x3F  #: x2APIC mode only

    @property
    def msr(self) -> int:
        """The number of its MSR in x2APIC mode."""
        return X2APIC_MSRS.start + self


class DeliveryMode(IntEnum):
    """What an interrupt is delivered as (SDM 3A §10.6.1)."""

    FIXED = 0
    LOWEST = 1  #: to one of several, of the lowest priority
    SMI = 2
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTERNAL = 7  #: its vector is the 8259's to say


class Shorthand(IntEnum):
    """To whom an interrupt command goes."""

    NONE = 0  #: to the destination
    SELF = 1
    ALL = 2
    OTHERS = 3


class TimerMode(IntEnum):
    """When the timer of a local APIC expires (SDM 3A §10.5.4)."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2


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

APIC_LVT = Layout(
    "APIC_LVT",
    32,
    "SDM 3A §10.5.1",
    (
        bits(0, 7, "vector", "vector of the interrupt"),
        bits(8, 10, "mode", "delivery mode, not of the timer and of errors"),
        reserved(11),
        bit(12, "status", "a delivery is under way"),
        bit(13, "low", "the pin is active low"),
        bit(14, "remote_irr", "a level interrupt is in service"),
        bit(15, "level", "the pin is level-triggered"),
        bit(16, "masked", "nothing is delivered"),
        bits(17, 18, "timer", "of the timer: one shot, periodic, TSC deadline"),
        reserved(19, 31),
    ),
)

APIC_SPURIOUS = Layout(
    "APIC_SPURIOUS",
    32,
    "SDM 3A §10.9",
    (
        bits(0, 7, "vector", "vector of a spurious interrupt"),
        bit(8, "enabled", "the APIC is on, as software wants it"),
        bit(9, "no_focus", "focus processor checking is off"),
        reserved(10, 11),
        bit(12, "no_broadcast", "EOIs are not told to I/O APICs"),
        reserved(13, 31),
    ),
)

APIC_VERSION = Layout(
    "APIC_VERSION",
    32,
    "SDM 3A §10.4.8",
    (
        bits(0, 7, "version", "of the APIC"),
        reserved(8, 15),
        bits(16, 23, "last_lvt", "number of local vectors, less one"),
        bit(24, "no_broadcast", "EOIs can be kept from I/O APICs"),
        reserved(25, 31),
    ),
)

APIC_BASE = Layout(
    "APIC_BASE",
    64,
    "SDM 3A §10.4.4",
    (
        reserved(0, 7),
        bit(8, "BSP", "the processor that starts the others"),
        reserved(9),
        bit(10, "EXTD", "x2APIC mode"),
        bit(11, "EN", "the local APIC is on"),
        address(12, 51, "base", "where its page is, in xAPIC mode"),
        reserved(52, 63),
    ),
)
