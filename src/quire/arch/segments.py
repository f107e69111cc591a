"""Segments and gates as IA-32e mode reads them: selectors, descriptors, IDT gates, access rights, the 64-bit TSS.

Models the code and data descriptors of the descriptor tables, the 16-byte gates of the IDT, the access-rights
fields of the VMCS and the error code that names a selector. Does not model call gates and task gates, which
event delivery in IA-32e mode only meets to refuse them. Fails with MisuseError for a stack number that the TSS
does not have.
"""

from enum import IntEnum

from quire.arch.layout import Layout, bit, bits, ignored, reserved
from quire.errors import MisuseError

__all__ = [
    "ACCESS_RIGHTS",
    "GATE_SIZE",
    "IDT_GATE",
    "SEGMENT_DESCRIPTOR",
    "SELECTOR",
    "SELECTOR_ERROR",
    "GateType",
    "access_rights",
    "gate_offset",
    "ist_offset",
    "rsp_offset",
]

#: Bytes of one IDT entry in IA-32e mode.
GATE_SIZE = 16

SELECTOR = Layout(
    "SELECTOR",
    16,
    "SDM 3A §3.4.2",
    (
        bits(0, 1, "RPL", "requested privilege level"),
        bit(2, "TI", "the descriptor is in the LDT, not in the GDT"),
        bits(3, 15, "index", "number of the descriptor in its table"),
    ),
)

SELECTOR_ERROR = Layout(
    "SELECTOR_ERROR",
    32,
    "SDM 3A §6.13",
    (
        bit(0, "EXT", "the exception occurred while an event external to the program was delivered"),
        bit(1, "IDT", "the index is that of a gate in the IDT"),
        bit(2, "TI", "the index is that of a descriptor in the LDT, if IDT = 0"),
        bits(3, 15, "index", "number of the descriptor or gate"),
        reserved(16, 31),
    ),
)

# The four code-and-data attributes are in the same order in a descriptor and in the VMCS.
SEGMENT_DESCRIPTOR = Layout(
    "SEGMENT_DESCRIPTOR",
    64,
    "SDM 3A §3.4.5",
    (
        bits(0, 15, "limit_low", "bits 15:0 of the limit"),
        bits(16, 39, "base_low", "bits 23:0 of the base"),
        bits(40, 43, "type", "code or data: bit 3 code, 2 conforming or expand-down, 1 readable or writable"),
        bit(44, "S", "code or data segment; 0, a system segment or gate"),
        bits(45, 46, "DPL", "descriptor privilege level"),
        bit(47, "P", "present"),
        bits(48, 51, "limit_high", "bits 19:16 of the limit"),
        bit(52, "AVL", "available to software"),
        bit(53, "L", "64-bit code segment"),
        bit(54, "DB", "default operation size 32 bits; must be 0 if L = 1"),
        bit(55, "G", "the limit counts 4 KiB units"),
        bits(56, 63, "base_high", "bits 31:24 of the base"),
    ),
)

IDT_GATE = Layout(
    "IDT_GATE",
    128,
    "SDM 3A §6.14.1",
    (
        bits(0, 15, "offset_low", "bits 15:0 of the handler's address"),
        bits(16, 31, "selector", "code segment of the handler"),
        bits(32, 34, "IST", "stack of the interrupt stack table; 0, none"),
        ignored(35, 39),
        bits(40, 44, "type", "see GateType; bit 44, the S bit, is 0"),
        bits(45, 46, "DPL", "least privilege that may call the gate by INT n, INT3 or INTO"),
        bit(47, "P", "present"),
        bits(48, 63, "offset_middle", "bits 31:16 of the handler's address"),
        bits(64, 95, "offset_high", "bits 63:32 of the handler's address"),
        ignored(96, 127),
    ),
)

ACCESS_RIGHTS = Layout(
    "ACCESS_RIGHTS",
    32,
    "SDM 3C §24.4.1",
    (
        bits(0, 3, "type", "segment type: bit 3 code, 2 conforming or expand-down, 1 readable or writable"),
        bit(4, "S", "code or data segment; 0, a system segment"),
        bits(5, 6, "DPL", "descriptor privilege level"),
        bit(7, "P", "present"),
        reserved(8, 11),
        bit(12, "AVL", "available to software"),
        bit(13, "L", "64-bit code segment; reserved but for CS"),
        bit(14, "DB", "default operation size 32 bits"),
        bit(15, "G", "the limit counts 4 KiB units"),
        bit(16, "unusable", "the segment register cannot be used"),
        reserved(17, 31),
    ),
)


class GateType(IntEnum):
    """The two gates that an IDT may hold in IA-32e mode (SDM 3A §6.14.1)."""

    INTERRUPT = 14  #: the handler starts with RFLAGS.IF = 0
    TRAP = 15  #: the handler starts with RFLAGS.IF as it was


def gate_offset(gate: int) -> int:
    """Return the linear address of the handler of a 16-byte `gate` (SDM 3A §6.14.1)."""
    said = IDT_GATE.decode(gate)
    return said["offset_low"] | said["offset_middle"] << 16 | said["offset_high"] << 32


def access_rights(descriptor: int) -> int:
    """Return the VMCS access rights of a usable segment loaded from an 8-byte `descriptor` (SDM 3C §24.4.1)."""
    said = SEGMENT_DESCRIPTOR.decode(descriptor)
    return ACCESS_RIGHTS.encode(
        **{name: said[name] for name in ("type", "S", "DPL", "P", "AVL", "L", "DB", "G")}
    )


def rsp_offset(level: int) -> int:
    """Return the byte offset in the 64-bit TSS of the stack pointer of privilege `level`, 0 to 2.

    SDM 3A §7.7. Raises MisuseError for level 3, which no event switches to.
    """
    if not 0 <= level <= 2:
        raise MisuseError(f"The TSS has no stack of privilege level {level:#x}: give a level from 0x0 to 0x2")
    return 4 + 8 * level


def ist_offset(number: int) -> int:
    """Return the byte offset in the 64-bit TSS of stack `number`, 1 to 7, of the interrupt stack table.

    SDM 3A §7.7. Raises MisuseError for 0, which in a gate means no such stack.
    """
    if not 1 <= number <= 7:
        raise MisuseError(f"The TSS has no interrupt stack {number:#x}: give a number from 0x1 to 0x7")
    return 28 + 8 * number
