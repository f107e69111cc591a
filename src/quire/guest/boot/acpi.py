"""The ACPI tables of a PC of Quire's: a hardware-reduced platform, its processors, its interrupts, its devices.

Nothing of the chipset of old is there but what the tables name: the guest needs no timer but that of its local APICs,
no interrupt controller but the I/O APIC (ACPI §4.1).
"""

import struct
from collections.abc import Callable, Sequence

from quire.devices import APIC_PAGE, COM1, COM1_PIN, IO_APIC_PAGE, SERIAL_PORTS
from quire.devices.power import RESET_CONTROL, RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS
from quire.guest.boot import aml

__all__ = ["place_tables"]

_OEM, _TABLE, _CREATOR = b"QUIRE ", b"QUIREPC ", b"QUIR"
_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_ALIGNED = 64
#: Of the fixed description table (ACPI §5.2.9): bytes, and where what is set lies.
_FADT_BYTES, _FADT_REVISION, _FADT_MINOR = 276, 6, 5
_DSDT_32, _BOOT_ARCHITECTURE, _FLAGS, _RESET_REGISTER, _RESET_VALUE = 40, 109, 112, 116, 128
_MINOR, _DSDT_64, _SLEEP_CONTROL, _SLEEP_STATUS = 131, 140, 244, 256
#: No VGA, no CMOS clock.
_ABSENT = 1 << 2 | 1 << 5
#: WBINVD works, no power and sleep buttons, the reset register is there, the hardware is reduced.
_FEATURES = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20
_IO_SPACE = 1
_OFF_TYPE = 5  # what the sleep control is given to switch the machine off: any number will do
_LOCAL_APIC, _IO_APIC, _LOCAL_X2APIC = 0, 1, 9


def place_tables(
    write: Callable[[int, bytes], None], start: int, vcpus: int, devices: Sequence[bytes] = ()
) -> int:
    """Write all tables from GPA `start` on, and return where their root pointer is: at `start`.

    `devices` are further ones in ACPI Machine Language.
    """
    at = start + _ALIGNED

    def place(table: bytes) -> int:
        nonlocal at
        here = at
        write(here, table)
        at += -(-len(table) // _ALIGNED) * _ALIGNED
        return here

    described = place(_table(b"DSDT", _devices(devices), 2))
    fixed = place(_table(b"FACP", _fixed(described), _FADT_REVISION))
    interrupts = place(_table(b"APIC", _interrupts(vcpus), 4))
    root = place(_table(b"XSDT", struct.pack("<2Q", fixed, interrupts), 1))
    pointer = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM, 2, 0, 36, root, 0))
    pointer[8] = -sum(pointer[:20]) & 0xFF
    pointer[32] = -sum(pointer) & 0xFF
    write(start, bytes(pointer))
    return start


def _table(signature: bytes, body: bytes, revision: int) -> bytes:
    """Return a table with its header, whose bytes add up to 0 (ACPI §5.2.6)."""
    length = _HEADER.size + len(body)
    head = _HEADER.pack(signature, length, revision, 0, _OEM, _TABLE, 1, _CREATOR, 1)
    table = bytearray(head + body)
    table[9] = -sum(table) & 0xFF
    return bytes(table)


def _port(number: int) -> bytes:
    """Return a register of one byte at an I/O port (ACPI §5.2.3.2)."""
    return struct.pack("<BBBBQ", _IO_SPACE, 8, 0, 1, number)


def _fixed(described: int) -> bytes:
    """Return the fixed description table behind its header."""
    table = bytearray(_FADT_BYTES)
    for at, data in (
        (_DSDT_32, struct.pack("<I", described)),
        (_BOOT_ARCHITECTURE, struct.pack("<H", _ABSENT)),
        (_FLAGS, struct.pack("<I", _FEATURES)),
        (_RESET_REGISTER, _port(RESET_CONTROL)),
        (_RESET_VALUE, bytes((RESET_VALUE,))),
        (_MINOR, bytes((_FADT_MINOR,))),
        (_DSDT_64, struct.pack("<Q", described)),
        (_SLEEP_CONTROL, _port(SLEEP_CONTROL)),
        (_SLEEP_STATUS, _port(SLEEP_STATUS)),
    ):
        table[at : at + len(data)] = data
    return bytes(table[_HEADER.size :])


def _interrupts(vcpus: int) -> bytes:
    """Return the multiple APIC description: every vCPU, the I/O APIC (ACPI §5.2.12)."""
    parts = [struct.pack("<II", APIC_PAGE, 0)]
    parts += [struct.pack("<BBBBI", _LOCAL_APIC, 8, number, number, 1) for number in range(vcpus)]
    parts.append(struct.pack("<BBBBII", _IO_APIC, 12, 0, 0, IO_APIC_PAGE, 0))
    return b"".join(parts)


def _devices(others: Sequence[bytes]) -> bytes:
    """Return the differentiated description: how to switch off, the serial port, other devices."""
    serial = aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", aml.resources(aml.io_ports(COM1, SERIAL_PORTS), aml.interrupt(COM1_PIN, edge=True))),
    )
    off = aml.name("\\_S5_", aml.package(aml.integer(_OFF_TYPE), *(aml.integer(0),) * 3))
    return off + aml.scope("\\_SB_", serial, *others)
