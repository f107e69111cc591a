"""Exit qualifications of instructions that exit: I/O and MOV DR, and the operands of INVPCID.

Models what an emulator of these instructions reads. Of the VM-exit instruction-information field, which repeats what
the instruction's bytes say, only INVPCID's is modelled: its exit names the register nowhere else.
"""

from quire.arch.layout import Layout, bit, bits, ignored, reserved

__all__ = ["INVPCID_DESCRIPTOR", "INVPCID_INFORMATION", "IO_QUALIFICATION", "MOV_DR_QUALIFICATION"]

IO_QUALIFICATION = Layout(
    "IO_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 2, "size", "bytes of one access less one: 0, 1 or 3"),
        bit(3, "IN", "the instruction reads the port"),
        bit(4, "string", "INS or OUTS"),
        bit(5, "REP", "the instruction has a REP prefix"),
        bit(6, "immediate", "the port is in the instruction, not in DX"),
        reserved(7, 15),
        bits(16, 31, "port", "port number"),
        reserved(32, 63),
    ),
)

MOV_DR_QUALIFICATION = Layout(
    "MOV_DR_QUALIFICATION",
    64,
    "SDM 3C §27.2.1",
    (
        bits(0, 2, "dr", "number of the debug register"),
        reserved(3),
        bit(4, "from_dr", "MOV from DR, not to it"),
        reserved(5, 7),
        bits(8, 11, "gpr", "general-purpose register: 0 RAX, 1 RCX, 2 RDX, ... 15 R15"),
        reserved(12, 63),
    ),
)

INVPCID_DESCRIPTOR = Layout(
    "INVPCID_DESCRIPTOR",
    128,
    "SDM 2A §3.3",
    (
        bits(0, 11, "pcid", "process-context identifier"),
        reserved(12, 63),
        bits(64, 127, "gva", "linear address"),
    ),
)

INVPCID_INFORMATION = Layout(
    "INVPCID_INFORMATION",
    32,
    "SDM 3C §27.2.5",
    (
        bits(0, 1, "scaling", "of the index register: 1, 2, 4 or 8"),
        ignored(2, 6),
        bits(7, 9, "address_size", "0: 16 bits, 1: 32, 2: 64"),
        reserved(10),
        ignored(11, 14),
        bits(15, 17, "segment", "segment register: 0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS"),
        bits(18, 21, "index", "index register"),
        bit(22, "index_invalid", "there is no index register"),
        bits(23, 26, "base", "base register"),
        bit(27, "base_invalid", "there is no base register"),
        bits(28, 31, "reg2", "the register that holds the type, numbered as in a MOV DR qualification"),
    ),
)
