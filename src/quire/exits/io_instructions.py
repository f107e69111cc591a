"""IN, OUT, INS and OUTS, carried out on the machine's ports."""

from quire.arch import RFLAGS, WORD
from quire.arch.instruction_exits import IO_QUALIFICATION
from quire.exits.context import ExitContext
from quire.exits.next_step import RESUME, SKIP, Next
from quire.exits.system_instructions import met
from quire.vcpu import Exit, MemoryFault

__all__ = ["io_instruction"]

_MOST_STRING_BYTES = 4096  # of one REP INS or OUTS an exit; the rest exits again


def io_instruction(context: ExitContext, stop: Exit) -> Next:
    """Carry out one instruction, or a page's worth of a repeated one."""
    said = IO_QUALIFICATION.decode(stop.qualification)
    registers, size = context.cpu.registers, said["size"] + 1
    if said["string"]:
        return _string(context, stop, said, size)
    every = (1 << 8 * size) - 1
    rax = registers.read("rax")
    if said["IN"]:
        value = context.ports.read(said["port"], size)
        registers.write("rax", value if size == 4 else rax & ~every | value)
    else:
        context.ports.write(said["port"], rax & every, size)
    return SKIP


def _string(context: ExitContext, stop: Exit, said: dict[str, int], size: int) -> Next:
    """INS and OUTS: elements one by one, each with its own translation, a page at most before it exits again."""
    registers = context.cpu.registers
    pointer = "rdi" if said["IN"] else "rsi"
    step = -size if RFLAGS.get(registers.read("rflags"), "DF") else size
    left = registers.read("rcx") if said["REP"] else 1
    address = stop.gla or 0
    for _ in range(min(left, _MOST_STRING_BYTES // size)):
        fault = _element(context, said, address, size)
        if fault is not None:
            return met(context, fault)
        address = address + step & WORD
        registers.write(pointer, registers.read(pointer) + step & WORD)
        if said["REP"]:
            left -= 1
            registers.write("rcx", left)
    return RESUME if said["REP"] and left else SKIP


def _element(context: ExitContext, said: dict[str, int], address: int, size: int) -> MemoryFault | None:
    """Move one element between port and memory; return why it could not be."""
    if said["IN"]:
        data = context.ports.read(said["port"], size).to_bytes(size, "little")
        return context.linear_memory.write(address, data, supervisor=False)
    read = context.linear_memory.read(address, size, supervisor=False)
    if not isinstance(read, bytes):
        return read
    context.ports.write(said["port"], int.from_bytes(read, "little"), size)
    return None
