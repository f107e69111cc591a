"""The guest that KVM executes: a loop over a table of accesses, and the handlers of the faults that they raise.

A line of the table is 48 bytes: linear address, kind, then what came of it: error code, CR2, vector (0: none), and
the value read or to be written. The loop lies in a page of the privilege under test, the handlers in a supervisor
page that sees the table by an alias.
"""

import struct

import numpy as np
import numpy.typing as npt

from quire.arch import Vector

__all__ = [
    "ALIAS",
    "CODE",
    "DATA",
    "GDT",
    "IDT",
    "KERNEL_STACK_TOP",
    "LINE",
    "LOOP",
    "NEXT",
    "STACK_TOP",
    "SYSTEM_FRAMES",
    "TABLE",
    "TABLE_BYTES",
    "TASK",
    "USER_CODE",
    "USER_DATA",
    "USER_FRAMES",
    "place",
]

Words = npt.NDArray[np.uint64]

LINE = 48  #: bytes of a line of the table
LOOP, TABLE, TABLE_BYTES = 0x1000, 0x2000, 0x6000
NEXT = LOOP + 0x1C  #: where the loop goes on with the next line
ALIAS = 0x40000  #: from a table address to where the handlers see it
STACK_TOP, KERNEL_STACK_TOP = 0x9000, 0xB000
_GDT, _TSS, _IDT = 0xB000, 0xB100, 0xC000
USER_FRAMES = (*range(1, 9),)  #: the loop, the table and the stack
SYSTEM_FRAMES = (9, 10, 11, 12)
#: Selectors.
CODE, DATA, USER_DATA, USER_CODE, _TASK_SELECTOR = 0x08, 0x10, 0x1B, 0x23, 0x28
_FAULTS, _END = 0x9080, 0x90C0
_GATES = {Vector.UD: _END, Vector.GP: _FAULTS, Vector.PF: _FAULTS + 4}
_INTERRUPT_GATE = 0x8E
_CODE_0, _CODE_3 = 0x00AF_9B00_0000_FFFF, 0x00AF_FB00_0000_FFFF
_DATA_0, _DATA_3 = 0x00CF_9300_0000_FFFF, 0x00CF_F300_0000_FFFF
#: Base and limit.
GDT, IDT = (_GDT, 0x37), (_IDT, 0xEF)
#: Selector, base and limit.
TASK = (_TASK_SELECTOR, _TSS, 0x67)

_LOOP = (
    "488b3b"  # again:  mov rdi, [rbx]
    "8b4b08"  # mov ecx, [rbx + 8]
    "83f901"  # cmp ecx, 1
    "741c"  # je write
    "7723"  # ja fetch
    "488b07"  # mov rax, [rdi]
    "48894328"  # said:   mov [rbx + 40], rax
    "48c7432000000000"  # done:   mov qword [rbx + 32], 0
    "4883c330"  # next:   add rbx, 48
    "4c39e3"  # cmp rbx, r12
    "72db"  # jb again
    "0f0b"  # ud2
    "488b4328"  # write:  mov rax, [rbx + 40]
    "488907"  # mov [rdi], rax
    "ebe4"  # jmp done
    "ffd7"  # fetch:  call rdi
    "ebdc"  # jmp said
)
_HANDLERS = (
    "6a0deb02"  # push 13; jmp fault
    "6a0e"  # push 14
    "58"  # fault:  pop rax
    "48898320000400"  # mov [rbx + ALIAS + 32], rax: the vector
    "58"  # pop rax
    "48898310000400"  # mov [rbx + ALIAS + 16], rax: the error code
    "0f20d0"  # mov rax, cr2
    "48898318000400"  # mov [rbx + ALIAS + 24], rax
    "4c896c2418"  # mov [rsp + 24], r13: a call that faulted left its return address
    "4c893424"  # mov [rsp], r14: go on with the next line
    "48cf"  # iretq
)
_HALT = "f4"
# Ring 3 reaches a HLT by #UD: KVM's emulator, which may run the handlers, knows no INT in protected mode.
_LEAVE_USER, _LEAVE = "0f0b", "f490"


def place(memory: Words, *, user: bool) -> None:
    """Write code, GDT, IDT and TSS into frames 1 to 12 of guest-physical memory; `user`: the loop runs at CPL 3."""
    octets = memory.view(np.uint8)
    loop = _LOOP if user else _LOOP.replace(_LEAVE_USER, _LEAVE)
    for at, code in ((LOOP, loop), (_FAULTS, _HANDLERS), (_END, _HALT)):
        raw = bytes.fromhex(code)
        octets[at : at + len(raw)] = list(raw)
    descriptors = (0, _CODE_0, _DATA_0, _DATA_3, _CODE_3, 0x0000_8900_0000_0067 | _TSS << 16, 0)
    memory[_GDT >> 3 : (_GDT >> 3) + len(descriptors)] = descriptors
    stack = struct.pack("<4xQ", KERNEL_STACK_TOP)  # RSP0
    octets[_TSS : _TSS + len(stack)] = list(stack)
    for vector, handler in _GATES.items():
        gate = struct.pack("<HHBBHQ", handler & 0xFFFF, CODE, 0, _INTERRUPT_GATE, handler >> 16, 0)
        at = _IDT + len(gate) * vector
        octets[at : at + len(gate)] = list(gate)
