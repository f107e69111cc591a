"""One instruction, decoded where the engine stopped at it: what an exit or an exception says of it.

Capstone decodes, and is imported when something is to be decoded; this module names what its users need: the mnemonic
without prefixes, the length, the registers and addresses of its operands.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quire.arch import GENERAL, LOW32, PAGE_SIZE, WORD, Access
from quire.memory import HostMemory
from quire.paging import Context, Result
from quire.paging._kernels import walk
from quire.vcpu import Registers

if TYPE_CHECKING:
    from capstone import Cs, x86

__all__ = ["MAX_LENGTH", "Decoded", "decode", "read_code"]

#: No instruction is longer (SDM 2A §2.3.11).
MAX_LENGTH = 15
_REP = (0xF3, 0xF2)
_FETCH = np.uint64(Access.FETCH)
_ADDRESS_SIZE = 0x67
_SEGMENTS = ("ds", "es", "ss", "fs", "gs")
_DESCRIPTOR_READERS = (
    "iret",
    "iretd",
    "iretq",
    "retf",
    "retfq",
    "lcall",
    "ljmp",
    "lfs",
    "lgs",
    "lss",
    "lds",
    "les",
    "lar",
    "lsl",
    "verr",
    "verw",
)
_WIDER = {
    **{f"e{name[1:]}": name for name in GENERAL[:8]},
    **{name[1:]: name for name in GENERAL[:8]},
    **{f"{name}{suffix}": name for name in GENERAL[8:] for suffix in "dw"},
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """`name` is Capstone's mnemonic without REP; `operands` are Capstone's."""

    name: str
    length: int
    rep: bool
    operands: "tuple[x86.X86Op, ...]"
    opcode: tuple[int, ...]
    _instruction: object

    def register(self, operand: int) -> str:
        """Return the 64-bit name of a general register operand, or the name of any other register."""
        name: str = self._instruction.reg_name(self.operands[operand].reg)  # type: ignore[attr-defined]
        return _WIDER.get(name, name)

    def gpr(self, operand: int) -> int:
        """Return the number of a general register operand."""
        return GENERAL.index(self.register(operand))

    def is_memory(self, operand: int) -> bool:
        """Whether the operand is in memory."""
        from capstone.x86 import X86_OP_MEM

        return bool(self.operands[operand].type == X86_OP_MEM)

    @property
    def reads_descriptor(self) -> bool:
        """Whether it reads a descriptor table: loads a segment register, leaves the code segment, or asks."""
        if self.name in ("mov", "pop"):
            return bool(self.operands) and self.register(0) in _SEGMENTS
        return self.name in _DESCRIPTOR_READERS

    def touches(self, page: int, registers: Registers) -> bool:
        """Whether a memory operand, or the stack, lies in the 4 KiB page of linear address `page`."""
        named = (self.address(n, registers) for n in range(len(self.operands)) if self.is_memory(n))
        return any(address >> 12 == page >> 12 for address in (*named, registers.read("rsp")))

    def address(self, operand: int, registers: Registers) -> int:
        """Return the linear address of a memory operand (SDM 1 §3.7.5); RIP is at the instruction."""
        memory = self.operands[operand].mem
        reg_name = self._instruction.reg_name  # type: ignore[attr-defined]
        address: int = memory.disp
        if memory.base:
            base = reg_name(memory.base)
            if base in ("rip", "eip"):
                address += registers.read("rip") + self.length
            else:
                address += _part(registers, base)
        if memory.index and reg_name(memory.index) not in ("riz", "eiz"):
            address += _part(registers, reg_name(memory.index)) * memory.scale
        if self._instruction.prefix[3] == _ADDRESS_SIZE:  # type: ignore[attr-defined]
            address &= LOW32
        segment = reg_name(memory.segment) if memory.segment else ""
        if segment in ("fs", "gs"):
            address += registers.read(f"{segment}_base")
        return address & WORD


def _part(registers: Registers, name: str) -> int:
    value = registers.read(_WIDER.get(name, name))
    return value & LOW32 if name.startswith("e") or name.endswith("d") else value


@cache
def _decoder(bits: int) -> "Cs":
    from capstone import CS_ARCH_X86, CS_MODE_16, CS_MODE_32, CS_MODE_64, Cs

    decoder = Cs(CS_ARCH_X86, {16: CS_MODE_16, 32: CS_MODE_32, 64: CS_MODE_64}[bits])
    decoder.detail = True
    return decoder


@lru_cache(4096)  # a guest repeats itself, and what Capstone returns is never changed
def decode(code: bytes, bits: int = 64) -> Decoded | None:
    """Return the instruction that `code` of so many `bits` begins with, or None if Capstone knows none."""
    for one in _decoder(bits).disasm(code, 0, 1):
        name = one.mnemonic.split()[-1]
        rep = one.prefix[0] in _REP
        return Decoded(name, one.size, rep, tuple(one.operands), tuple(one.opcode), one)
    return None


def read_code(
    memory: HostMemory,
    context: npt.NDArray[np.uint64],
    found: npt.NDArray[np.uint64],
    gva: int,
    length: int,
) -> bytes:
    """Return code bytes as a fetch through `context` would see them, without side effects.

    They are fewer when a page is missing. `found` is a walk's result, to be overwritten.
    """
    code = b""
    context[Context.UPDATE] = 0
    while len(code) < length:
        here = gva + len(code) & WORD
        if walk(memory.words, context, np.uint64(here), _FETCH, found):
            break
        count = min(length - len(code), PAGE_SIZE - (here & PAGE_SIZE - 1))
        code += memory.read(int(found[Result.HPA]), count)
    context[Context.UPDATE] = 1
    return code
