"""A program that executes instructions and writes out what each leaves: an ELF file made here, of no compiler.

For each instance the program loads x87, SSE and general registers and RFLAGS from its record, executes the instruction,
and stores them in a record of the same form, in which the memory is that the instruction worked on. At its end it
writes all records to standard output. All addresses are fixed, so that a pointer is the same in every run.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["MEMORY_AT", "RDI_AT", "RECORD_BYTES", "REGISTERS", "State", "executable", "states"]

#: The general registers of a record, in its order.
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8")
_NUMBERS = (0, 1, 2, 3, 5, 6, 7, 8)
#: A record: an FXSAVE image, the registers, RFLAGS, memory. Its size keeps FXSAVE images aligned.
_REGISTERS_AT, _FLAGS_AT, MEMORY_AT, RECORD_BYTES = 512, 576, 0x280, 0x300
_MEMORY_BYTES = RECORD_BYTES - MEMORY_AT
_BASE, _HEADERS = 0x400000, 64 + 56
#: Where in an instance's memory RSI and RDI point: a string has room before and behind.
_RSI_AT, RDI_AT = 0x20, 0x60
#: Status flags 8 bytes wide; DF must be 0 for whoever comes after.
_CLD = b"\xfc"


@dataclass(frozen=True, slots=True)
class State:
    """What an instruction begins with, or leaves: `registers` as in REGISTERS, `fxsave` is x87 and SSE."""

    fxsave: bytes
    registers: tuple[int, ...]
    rflags: int
    memory: bytes

    def pack(self) -> bytes:
        """Return the record."""
        general = struct.pack("<9Q", *self.registers, self.rflags)
        return (self.fxsave + general).ljust(MEMORY_AT, b"\0") + self.memory

    @classmethod
    def unpack(cls, record: bytes) -> "State":
        """Return what a record holds."""
        *registers, rflags = struct.unpack_from("<9Q", record, _REGISTERS_AT)
        return cls(record[:512], tuple(registers), rflags, record[MEMORY_AT:RECORD_BYTES])


def states(output: bytes) -> Iterator[State]:
    """Yield what each instance left, from what the program wrote."""
    for at in range(0, len(output), RECORD_BYTES):
        yield State.unpack(output[at : at + RECORD_BYTES])


def executable(instances: Sequence[tuple[bytes, State]]) -> bytes:
    """Return a program for `instances`: the code of each, and the state that it begins with, but for RSI and RDI."""
    length = sum(len(_instance(code, 0, 0)) for code, _ in instances) + len(_ending(0, 0))
    inputs = _BASE + (_HEADERS + length + 0xFFF & ~0xFFF)
    outputs = inputs + RECORD_BYTES * len(instances)
    text, records, results = [], [], []
    for n, (code, state) in enumerate(instances):
        result = outputs + RECORD_BYTES * n
        memory = result + MEMORY_AT
        registers = list(state.registers)
        registers[5], registers[6] = memory + _RSI_AT, memory + RDI_AT
        record = State(state.fxsave, tuple(registers), state.rflags, state.memory)
        text.append(_instance(code, inputs + RECORD_BYTES * n, result))
        records.append(record.pack())
        results.append(bytes(MEMORY_AT) + state.memory)
    text.append(_ending(outputs, RECORD_BYTES * len(instances)))
    body = b"".join(text).ljust(inputs - _BASE - _HEADERS, b"\0") + b"".join(records) + b"".join(results)
    size = _HEADERS + len(body)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + body


def _instance(code: bytes, record: int, result: int) -> bytes:
    """Return the code of one instance, whose state is at `record` and whose results go to `result`."""
    load = b"\x48\x0f\xae\x0c\x25" + _word(record)  # fxrstor64
    load += b"\xff\x34\x25" + _word(record + _FLAGS_AT) + b"\x9d"  # push; popfq
    store = b""
    for n, number in enumerate(_NUMBERS):
        prefix, modrm = b"\x4c" if number > 7 else b"\x48", bytes((4 | (number & 7) << 3, 0x25))
        load += prefix + b"\x8b" + modrm + _word(record + _REGISTERS_AT + 8 * n)
        store += prefix + b"\x89" + modrm + _word(result + _REGISTERS_AT + 8 * n)
    store += b"\x9c\x8f\x04\x25" + _word(result + _FLAGS_AT) + _CLD  # pushfq; pop
    return load + code + store + b"\x48\x0f\xae\x04\x25" + _word(result)  # fxsave64


def _ending(outputs: int, length: int) -> bytes:
    """Return code that writes `length` bytes to standard output and exits."""
    load = b"\xbe" + _word(outputs) + b"\xba" + _word(length)  # mov esi; mov edx
    loop = bytes.fromhex(
        "bf01000000 b801000000 0f05 4885c0 7e08 4801c6 4829c2 75e7"
    )  # write until nothing is left
    return load + loop + bytes.fromhex("31ff b83c000000 0f05")


def _word(value: int) -> bytes:
    return value.to_bytes(4, "little")
