"""Entries of the tables by which interrupts and PASIDs find where they go: IPIs of guests, ENQCMD, user interrupts.

IPI virtualization finds the posted-interrupt descriptor of a guest's other processor by its APIC ID in the PID-pointer
table. PASID translation replaces a guest's PASID by the host's: its bit 19 chooses the low or the high directory, bits
18:10 the entry there, bits 9:0 the entry of the PASID table. SENDUIPI takes an entry of the user-interrupt target
table, which names a descriptor and a vector. Quire reads none of them; a decoder does.
"""

from quire.arch.layout import Layout, address, bit, bits, reserved

__all__ = ["PASID_DIRECTORY_ENTRY", "PASID_TABLE_ENTRY", "PID_POINTER", "UITT_ENTRY", "UPID"]

PID_POINTER = Layout(
    "PID_POINTER",
    64,
    "SDM 3C §29.1.6",
    (
        bit(0, "V", "valid: without it sending the IPI exits (APIC_WRITE)"),
        reserved(1, 5),
        address(6, 51, meaning="physical address of the posted-interrupt descriptor, 64 bytes"),
        reserved(52, 63),
    ),
)

PASID_DIRECTORY_ENTRY = Layout(
    "PASID_DIRECTORY_ENTRY",
    64,
    "SDM 3C §25.5.8",
    (
        bit(0, "P", "present: without it ENQCMD exits"),
        reserved(1, 11),
        address(12, 51, meaning="physical address of the PASID table"),
        reserved(52, 63),
    ),
)

PASID_TABLE_ENTRY = Layout(
    "PASID_TABLE_ENTRY",
    32,
    "SDM 3C §25.5.8",
    (
        bits(0, 19, "pasid", "the host's PASID, which ENQCMD sends"),
        reserved(20, 30),
        bit(31, "V", "valid: without it ENQCMD exits"),
    ),
)

UITT_ENTRY = Layout(
    "UITT_ENTRY",
    128,
    "ISE §UINTR",
    (
        bit(0, "V", "valid: without it SENDUIPI causes #GP"),
        reserved(1, 7),
        bits(8, 15, "vector", "user vector that is sent, 0 to 63"),
        reserved(16, 63),
        bits(64, 127, "descriptor", "linear address of the receiver's descriptor, UPID"),
    ),
)

UPID = Layout(
    "UPID",
    128,
    "ISE §UINTR",
    (
        bit(0, "ON", "outstanding notification: one is on its way"),
        bit(1, "SN", "suppress notification: nobody is told"),
        reserved(2, 15),
        bits(16, 23, "NV", "vector of the notification"),
        reserved(24, 31),
        bits(32, 63, "NDST", "APIC ID of the receiver; without x2APIC in bits 47:40"),
        bits(64, 127, "PIR", "bit n: user vector n was sent"),
    ),
)
