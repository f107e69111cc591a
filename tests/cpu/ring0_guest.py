"""Ring-0 guests from assembly text: a prelude with GDT, IDT and TSS, assembled here by GNU as and ld.

A guest reports 64-bit values through the debug port; :func:`run` returns them as numbers.
"""

import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE

from quire.cpu import Detail
from quire.guest.boot.bare import FIRST_FREE, BareGuest, BareOutcome, bare_config

PRELUDE = """
.intel_syntax noprefix
.code64
.set P, 1
.set RW, 2
.set US, 4
.set PS, 0x80
.set G, 0x100
.set CODE, 0x08
.set DATA, 0x10
.set USER_DATA, 0x1b
.set USER_CODE, 0x23
.set TASK, 0x28
.macro report value
    mov [saved], rax
    mov rax, \\value
    out 0xe9, eax
    shr rax, 32
    out 0xe9, eax
    mov rax, [saved]
.endm
.macro finish status=0
    mov al, \\status
    out 0xf4, al
    hlt
.endm
.macro gate vector, handler, stack=0, dpl=0
    lea rax, [rip + \\handler]
    mov [idt + 16 * \\vector], ax
    mov word ptr [idt + 16 * \\vector + 2], CODE
    mov byte ptr [idt + 16 * \\vector + 4], \\stack
    mov byte ptr [idt + 16 * \\vector + 5], 0x8e | (\\dpl << 5)
    shr rax, 16
    mov [idt + 16 * \\vector + 6], ax
    shr rax, 16
    mov [idt + 16 * \\vector + 8], eax
.endm
.macro store address, value
    mov rax, \\value
    mov qword ptr [\\address], rax
.endm
.macro wrmsr_ number, value
    mov ecx, \\number
    mov rax, \\value
    mov rdx, rax
    shr rdx, 32
    wrmsr
.endm
.globl _start
_start:
    lea rax, [rip + tss]
    mov [gdt + TASK + 2], ax
    shr rax, 16
    mov [gdt + TASK + 4], al
    mov [gdt + TASK + 7], ah
    lgdt [rip + gdtr]
    lidt [rip + idtr]
    mov ax, DATA
    mov ss, ax
    mov ds, ax
    mov es, ax
    test rsi, rsi
    jnz 1f  # the one task segment is the first vCPU's
    mov ax, TASK
    ltr ax
1:
    lea rax, [rip + main]
    push CODE
    push rax
    lretq
.balign 16
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
    .quad 0x0000890000000067, 0
gdtr: .word gdtr - gdt - 1
    .quad gdt
.balign 16
tss: .long 0
    .quad 0xf000, 0, 0, 0, 0xe000, 0, 0, 0, 0, 0, 0, 0
    .word 0, 0x68
idtr: .word 0xfff
    .quad idt
.balign 4096
idt: .fill 4096
saved: .quad 0
main:
"""
#: Maps 2 MiB at 0 at its own address, and a page table at 0x203000 for the 2 MiB from 0x400000.
TABLES = """
    store 0x200000, 0x201007
    store 0x201000, 0x202007
    store 0x202000, P | RW | PS
    store 0x202008, 0x200000 | P | RW | PS
    store 0x202010, 0x203007
"""
#: Sets up 0x200000 as root.
SWITCH = (
    TABLES
    + """
    mov rax, 0x200000
    mov cr3, rax
"""
)


def rounds(pages: int, count: int) -> tuple[str, int]:
    """Return a guest that adds up and changes a word of each of its pages, again and again, and what it reports.

    Between two rounds it writes to port 0x55. Round n finds n times (7 + offset) in each page.
    """
    source = f"""
    mov rdi, 0x203000
    mov rax, 0x400003
    mov ecx, {pages}
1:  mov [rdi], rax
    add rdi, 8
    add rax, 0x1000
    loop 1b
    mov ebx, {count}
    xor r8, r8
again:
    xor esi, esi
2:  mov rax, [0x400000 + rsi]
    add r8, rax
    lea rax, [rax + rsi + 7]
    mov [0x400000 + rsi], rax
    add esi, 0x1000
    cmp esi, {pages << 12}
    jb 2b
    mov al, bl
    out 0x55, al
    dec ebx
    jnz again
    report r8
    finish
"""
    return SWITCH + source, sum(
        n * (7 + offset) for n in range(count) for offset in range(0, pages << 12, 0x1000)
    )


@cache
def assemble(source: str) -> bytes:
    """Return the flat image of `source` behind the prelude, linked to run where a bare guest is loaded."""
    for tool in ("as", "ld"):
        if shutil.which(tool) is None:
            pytest.skip(f"this machine has no {tool}")
    with tempfile.TemporaryDirectory() as folder:
        text, built, image = (Path(folder) / name for name in ("guest.s", "guest.o", "guest.bin"))
        text.write_text(PRELUDE + source)
        done = subprocess.run(
            ["as", "--64", text, "-o", built], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert not done.returncode, done.stderr
        link = ["ld", f"-Ttext={FIRST_FREE:#x}", "--oformat", "binary", built, "-o", image]
        done = subprocess.run(link, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert not done.returncode, done.stderr
        return image.read_bytes()


def make(source: str, mmu: str, detail: Detail = Detail.EXITS, **options: Any) -> BareGuest:
    """Return a guest that is about to execute `source`."""
    return BareGuest(assemble(source), bare_config(mmu=mmu, **options), detail=detail)


def reported(outcome: BareOutcome) -> list[int]:
    """Return the values that the guest reported."""
    return list(struct.unpack(f"<{len(outcome.output) // 8}Q", outcome.output))


def guest_made(outcome: BareOutcome, mmu: str) -> dict[str, int]:
    """Return the TLB operations that the guest itself caused.

    Under shadow every #PF exit flushes its address, gaps of the shadow too: of those the guest's own are counted, the
    ones that it had delivered.
    """
    done = dict(outcome.invalidations)
    if mmu == "shadow":
        assert done.pop("PAGE_FAULT", 0) >= outcome.delivered.get(14, 0)
        if 14 in outcome.delivered:
            done["PAGE_FAULT"] = outcome.delivered[14]
    return done


def run(
    source: str, mmu: str, detail: Detail = Detail.EXITS, **options: Any
) -> tuple[BareOutcome, list[int]]:
    """Run `source` to its end; return the outcome and what it reported."""
    guest = make(source, mmu, detail, **options)
    try:
        outcome = guest.run()
    finally:
        guest.close()
    return outcome, reported(outcome)
