"""Restartable sequences: what a thread registered by rseq(2), and what it finds there when it comes back to a vCPU.

Models kernel/rseq.c. A thread that was taken off its vCPU, or that a signal is delivered to, inside of a sequence goes
on at the sequence's abort handler; its numbers of vCPU, node and concurrency are written when one has changed. Whoever
registered nothing pays nothing; all that is read of the guest is checked here.
"""

import struct
from dataclasses import dataclass

from quire.arch import LOW32
from quire.guest.kernel.machine import Registers
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import BadAddress, UserMemory

__all__ = ["RSEQ_ALIGN", "RSEQ_BYTES", "RSEQ_FEATURES", "RSEQ_SECTION", "Rseq"]

#: Bytes of ``struct rseq`` as Linux first had it, what it must be aligned to, and how many have a meaning.
RSEQ_BYTES, RSEQ_ALIGN, RSEQ_FEATURES = 32, 32, 28
#: Offsets in it: cpu_id_start and cpu_id, rseq_cs, flags, and node_id with mm_cid.
_CPU, RSEQ_SECTION, _FLAGS, _NODE = 0, 8, 16, 20
#: struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip.
_DESCRIPTOR = struct.Struct("<IIQQQ")
_PAIR = struct.Struct("<II")
_UNINITIALIZED = LOW32


@dataclass(eq=False, slots=True)
class Rseq:
    """What one thread registered: `length` bytes at `address`, and the `signature` before each abort handler."""

    address: int
    length: int
    signature: int
    holders: "list[Rseq | None]"  #: of the address space: who has which concurrency number
    due: bool = True  #: whether it left its vCPU since the guest ran last
    number: int = -1  #: its concurrency number, -1 for none
    _written: tuple[int, int, int] = (-1, -1, -1)

    def copy(self, holders: "list[Rseq | None]") -> "Rseq":
        """Return what a child with a copy of the memory has."""
        return Rseq(self.address, self.length, self.signature, holders, _written=self._written)

    def release(self) -> None:
        """The thread is on no vCPU: let others have its concurrency number, and look again when it comes back."""
        self.due = True
        if self.number >= 0:
            self.holders[self.number] = None
            self.number = -1

    def come_back(self, memory: UserMemory, registers: Registers, vcpu: int, node: int) -> bool:
        """Have the thread find what it must before its next instruction; False for SIGSEGV."""
        if not self.break_off(memory, registers):
            return False
        try:
            self._tell(memory, vcpu, node)
        except BadAddress:
            return False
        self.due = False
        return True

    def break_off(self, memory: UserMemory, registers: Registers) -> bool:
        """Leave the sequence that the thread is in, if it is in one; False for one that is described wrong."""
        try:
            pointer = memory.read_u64(self.address + RSEQ_SECTION)
            if not pointer:
                return True
            if pointer >= TASK_SIZE:
                return False
            version, flags, start, length, abort = _DESCRIPTOR.unpack(memory.read(pointer, _DESCRIPTOR.size))
            if version or max(start, start + length, abort) >= TASK_SIZE or 0 <= abort - start < length:
                return False
            if memory.read_u32(abort - 4) != self.signature:
                return False
            inside = 0 <= registers.read("rip") - start < length
            if inside and (flags or memory.read_u32(self.address + _FLAGS)):
                return False  # flags are of the past: Linux takes none any more
            memory.write_u64(self.address + RSEQ_SECTION, 0)
        except BadAddress:
            return False
        if inside:
            registers.write("rip", abort)
        return True

    def forget(self, memory: UserMemory) -> None:
        """Write what says that nothing is registered. Raises BadAddress."""
        memory.write(self.address + _CPU, _PAIR.pack(0, _UNINITIALIZED))
        memory.write(self.address + _NODE, bytes(_PAIR.size))
        self.release()

    def _tell(self, memory: UserMemory, vcpu: int, node: int) -> None:
        """Write its numbers if one has changed. Raises BadAddress."""
        if self.number < 0:
            self._take_number()
        found = vcpu, node, self.number
        if found != self._written:
            memory.write(self.address + _CPU, _PAIR.pack(vcpu, vcpu))
            memory.write(self.address + _NODE, _PAIR.pack(node, self.number))
            self._written = found

    def _take_number(self) -> None:
        """Take the lowest concurrency number that no thread on another vCPU has: there is none per vCPU more."""
        holders = self.holders
        if None not in holders:
            holders.append(None)
        self.number = holders.index(None)
        holders[self.number] = self
