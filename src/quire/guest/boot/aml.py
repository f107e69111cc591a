"""ACPI Machine Language, as far as a table of devices needs it: names, devices, packages, resources (ACPI §20.2, §6.4).

Each function returns bytes that the others take.
"""

import struct

__all__ = [
    "device",
    "eisa_id",
    "integer",
    "interrupt",
    "io_ports",
    "memory_window",
    "name",
    "package",
    "resources",
    "scope",
    "text",
]

_NAME, _SCOPE, _BUFFER, _PACKAGE, _STRING = b"\x08", b"\x10", b"\x11", b"\x12", b"\x0d"
_DEVICE = b"\x5b\x82"
_ONE_BYTE, _TWO_BYTES, _FOUR_BYTES = 63, 1 << 12, 1 << 20
_END_TAG = b"\x79\x00"
_EDGE, _CONSUMER = 1 << 1, 1 << 0


def integer(value: int) -> bytes:
    """Return an integer of at most 32 bits."""
    if value < 2:
        return bytes((value,))
    if value < 1 << 8:
        return b"\x0a" + struct.pack("<B", value)
    return b"\x0b" + struct.pack("<H", value) if value < 1 << 16 else b"\x0c" + struct.pack("<I", value)


def text(value: str) -> bytes:
    """Return a string."""
    return _STRING + value.encode("ascii") + b"\0"


def name(path: str, value: bytes) -> bytes:
    """Return the declaration of an object `path`: four characters, after a backslash at the root."""
    return _NAME + path.encode("ascii") + value


def scope(path: str, *parts: bytes) -> bytes:
    """Return what is declared below `path`."""
    return _block(_SCOPE, path.encode("ascii"), *parts)


def device(path: str, *parts: bytes) -> bytes:
    """Return a device and what is declared in it."""
    return _block(_DEVICE, path.encode("ascii"), *parts)


def package(*elements: bytes) -> bytes:
    """Return a list of elements."""
    return _block(_PACKAGE, bytes((len(elements),)), *elements)


def eisa_id(value: str) -> bytes:
    """Return a Plug and Play ID, three letters and four hexadecimal digits, as the integer that stands for it."""
    letters = 0
    for letter in value[:3]:
        letters = letters << 5 | ord(letter) - ord("A") + 1
    return integer(int.from_bytes(struct.pack(">HH", letters, int(value[3:], 16)), "little"))


def resources(*descriptors: bytes) -> bytes:
    """Return the buffer of a device's resources."""
    data = b"".join(descriptors) + _END_TAG
    return _block(_BUFFER, integer(len(data)), data)


def io_ports(first: int, count: int) -> bytes:
    """Return `count` I/O ports from `first` on, all 16 bits of whose address are decoded (ACPI §6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, first, first, 1, count)


def memory_window(start: int, size: int) -> bytes:
    """Return a window of memory that may be written (ACPI §6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, start, size)


def interrupt(number: int, *, edge: bool) -> bytes:
    """Return one interrupt, active high (ACPI §6.4.3.6)."""
    return struct.pack("<BHBBI", 0x89, 6, _CONSUMER | (_EDGE if edge else 0), 1, number)


def _block(opcode: bytes, *parts: bytes) -> bytes:
    """Return what an opcode holds, behind its length, which counts itself (ACPI §20.2.4)."""
    data = b"".join(parts)
    for extra, most in ((1, _ONE_BYTE), (2, _TWO_BYTES), (3, _FOUR_BYTES), (4, 1 << 28)):
        length = len(data) + extra
        if length < most or (extra == 1 and length == most):
            break
    if extra == 1:
        head = bytes((length,))
    else:
        head = bytes(((extra - 1) << 6 | length & 0xF,)) + (length >> 4).to_bytes(extra - 1, "little")
    return opcode + head + data
