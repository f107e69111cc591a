"""KVM as an oracle: a guest executes a batch of accesses in one run, each through page-table entries of its own.

Access n of a batch uses entry n of the tables at every level, so that hundreds share one CR3 and none touches what
another does. What KVM answers is what the processor or KVM's own emulator did; the entries are read back afterwards.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from quire.arch import CR0, CR4, EFER, PTE, RFLAGS, Access, Vector
from quire.errors import BackendError
from quire.testing.oracles import kvm_guest as guest
from quire.testing.oracles.answer import Answer
from quire.testing.oracles.kvm_machine import (
    ExitKind,
    KvmMachine,
    Segment,
    SystemRegisters,
    supported_cpuid,
)

__all__ = [
    "BATCH",
    "DATA_FRAMES",
    "DIAGONAL",
    "GUEST_FRAMES",
    "LARGE_FRAME",
    "MEMORY_BYTES",
    "ROOT",
    "KvmFeatures",
    "KvmMmu",
]

MEMORY_BYTES = 8 << 20
#: Accesses that a batch can hold: lines of the guest's table, and entries of a table beside the guest's own.
BATCH = 510
ROOT, _SYSTEM = 16, (17, 18, 19)
#: Frames of the guest's code, table, stacks and descriptors, and of the tables that map them.
GUEST_FRAMES = (*guest.USER_FRAMES, *guest.SYSTEM_FRAMES, *_SYSTEM)
#: Frames of the tables below the root, highest level first; entry n of each is access n's.
DIAGONAL = (32, 33, 34)
#: Frames that leaves of 4 KiB may map, and the frame of a page that is large in any mode.
DATA_FRAMES, LARGE_FRAME = (48, 49, 50, 51), 1024
_KIND = {Access.READ: 0, Access.WRITE: 1, Access.FETCH: 2}
_P, _RW, _US, _A, _D = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D"))
_NOT_EXECUTED = 0xFF
_CODE_RIGHTS, _DATA_RIGHTS, _BUSY_TASK = 0xA09B, 0xC093, 0x8B
_LEVEL_3 = 0x60
_MAXPHYADDR_DEFAULT = 36


@dataclass(frozen=True, slots=True)
class KvmFeatures:
    """What of the processor this machine's KVM offers its guests; `maxphyaddr` in bits."""

    maxphyaddr: int
    smep: bool
    smap: bool
    page_1g: bool

    @classmethod
    def here(cls) -> Self:
        """Ask KVM for the CPUID of its guests. Raises BackendError."""
        leaves = supported_cpuid()
        none = (0, 0, 0, 0)
        seventh, extended = leaves.get((7, 0), none), leaves.get((0x8000_0001, 0), none)
        return cls(
            maxphyaddr=leaves.get((0x8000_0008, 0), (_MAXPHYADDR_DEFAULT, 0, 0, 0))[0] & 0xFF,
            smep=bool(seventh[1] >> 7 & 1),
            smap=bool(seventh[1] >> 20 & 1),
            page_1g=bool(extended[3] >> 26 & 1),
        )


class KvmMmu:
    """A guest of 4-level paging whose accesses are made at CPL 3, with `user`, or 0. Raises BackendError."""

    def __init__(self, *, user: bool) -> None:
        self.user = user
        self._machine = KvmMachine(MEMORY_BYTES)
        #: Guest-physical memory as 8-byte words; the tables of a batch are the caller's to write.
        self.memory = self._machine.memory
        guest.place(self.memory, user=user)
        for frame in (*DATA_FRAMES, LARGE_FRAME):
            self.memory[frame * 512 : frame * 512 + 512] = [self.word(frame, n) for n in range(512)]
        self._map_guest()

    @staticmethod
    def word(frame: int, n: int) -> int:
        """Return what slot `n` of a data frame holds: the code ``mov eax, tag; ret``."""
        return 0xC3 << 40 | KvmMmu.tag(frame, n) << 8 | 0xB8

    @staticmethod
    def tag(frame: int, n: int) -> int:
        """Return what a fetch from slot `n` of a data frame leaves in RAX."""
        return frame << 16 | n

    @staticmethod
    def written(n: int) -> int:
        """Return the value that line `n` of a batch writes."""
        return 0xA5 << 56 | n

    def _map_guest(self) -> None:
        """Map the guest at its own addresses and at the handlers' alias, by tables that no case touches."""
        rights = _P | _RW | _A | _D
        last = _SYSTEM[-1] * 512
        for frame in guest.USER_FRAMES:
            self.memory[last + frame] = frame << 12 | rights | (_US if self.user else 0)
        for frame in guest.SYSTEM_FRAMES:
            self.memory[last + frame] = frame << 12 | rights
        for frame in range(guest.TABLE >> 12, (guest.TABLE + guest.TABLE_BYTES) >> 12):
            self.memory[last + frame + (guest.ALIAS >> 12)] = frame << 12 | rights
        for above, below in itertools.pairwise((ROOT, *_SYSTEM)):
            self.memory[above * 512] = below << 12 | _P | _RW | _US | _A

    def run(
        self, accesses: Sequence[tuple[int, Access]], *, wp: int, nxe: int, cr4: int, ac: int
    ) -> list[Answer]:
        """Execute `accesses`, (linear address, kind) each, in order. `cr4` may hold SMEP and SMAP.

        Line n writes ``written(n)``. Raises BackendError if the guest ends otherwise than by its last instruction.
        """
        assert 0 < len(accesses) <= BATCH
        first = guest.TABLE >> 3
        lines = self.memory[first : first + len(accesses) * guest.LINE // 8].reshape(-1, guest.LINE // 8)
        for n, (gva, access) in enumerate(accesses):
            lines[n] = (gva, _KIND[access], 0, 0, _NOT_EXECUTED, self.written(n))
        self._machine.forget_tables()
        self._load(guest.TABLE + len(accesses) * guest.LINE, wp=wp, nxe=nxe, cr4=cr4, ac=ac)
        reason = self._machine.run()
        if reason != ExitKind.HALTED:
            done = int(np.count_nonzero(lines[:, 4] != _NOT_EXECUTED))
            raise BackendError(f"KVM's guest stopped with exit reason {reason} after {done} of its accesses")
        return [_answer(line) for line in lines.tolist()]

    def _load(self, end: int, *, wp: int, nxe: int, cr4: int, ac: int) -> None:
        level = _LEVEL_3 if self.user else 0
        selector, base, limit = guest.TASK
        system = SystemRegisters(
            cs=Segment(guest.USER_CODE if self.user else guest.CODE, _CODE_RIGHTS | level),
            data=Segment(guest.USER_DATA if self.user else guest.DATA, _DATA_RIGHTS | level),
            tr=Segment(selector, _BUSY_TASK, base, limit),
            gdt=guest.GDT,
            idt=guest.IDT,
            cr0=CR0.encode(PE=1, ET=1, NE=1, PG=1, WP=wp),
            cr3=ROOT << 12,
            cr4=cr4 | CR4.mask("PAE"),
            efer=EFER.encode(NXE=nxe, LME=1, LMA=1),
        )
        registers = {
            "rsp": guest.STACK_TOP,
            "rbx": guest.TABLE,
            "r12": end,
            "r13": guest.STACK_TOP,
            "r14": guest.NEXT,
        }
        flags = RFLAGS.encode(always_1=1, AC=ac)
        self._machine.set_registers(system, rip=guest.LOOP, rflags=flags, **registers)

    def close(self) -> None:
        """Give the virtual machine back."""
        self._machine.close()


def _answer(line: list[int]) -> Answer:
    _, _, error, cr2, vector, value = line
    if vector:
        return Answer(vector=vector, error_code=error, cr2=cr2 if vector == Vector.PF else 0)
    return Answer(value=value)
