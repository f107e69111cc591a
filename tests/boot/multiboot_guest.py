"""Multiboot kernels from assembly text: a header, helpers to print and to end, made here by GNU as and ld.

`main` is where :data:`LONG_MODE` ends, in 64-bit mode with an IDT; other sources begin at `start`, in 32-bit mode.
"""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from limits import PATIENCE

MMUS = ("native", "ept", "shadow")
#: Flags of the header, and what follows it, come before the source.
HEADER = """
.intel_syntax noprefix
.code32
.section .text
.set FLAGS, {flags}
header:
    .long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
{addresses}
.globl start
start:
"""
#: The a.out kludge for a flat file at 2 MiB.
KLUDGE = "    .long header, header, 0, file_end + 0x1000, start"
#: In either mode: sends AL to COM1, the text at ESI, or ends with AL as status.
HELPERS = """
put:
    mov dx, 0x3f8
    out dx, al
    ret
say:
    lodsb
    test al, al
    jz 1f
    call put
    jmp say
1:  ret
finish:
    out 0xf4, al
    hlt
    jmp finish
"""
#: Tables of 1 GiB pages, PAE, EFER.LME, paging; then the IDT is empty and `main` runs.
LONG_MODE = (
    """
    mov [information], ebx
    mov [magic], eax
    lgdt [gdtr]
    mov eax, 0x20
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080
    mov eax, 0x100
    xor edx, edx
    wrmsr
    mov eax, 0x80000001
    mov cr0, eax
    .byte 0xea
    .long long
    .word 8
.code64
"""
    + HELPERS
    + """
.macro gate vector, handler
    mov eax, offset \\handler
    mov word ptr [idt + 16 * \\vector], ax
    mov dword ptr [idt + 16 * \\vector + 2], 0x8e000008
    shr eax, 16
    mov word ptr [idt + 16 * \\vector + 6], ax
.endm
long:
    mov ax, 0x10
    mov ss, ax
    mov ds, ax
    mov es, ax
    mov esp, offset stack
    lidt [idtr]
    jmp main
.balign 8
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr: .word gdtr - gdt - 1
    .long gdt
    .long 0
idtr: .word 0xfff
    .quad idt
information: .long 0
magic: .long 0
.balign 4096
pml4: .quad pdpt + 3
    .fill 4088
pdpt: .quad directory + 3, 0, 0, 0xc0000083  # the last GiB holds the local APIC
    .fill 4064
directory: .quad 0x83, 0x200083, 0, 0x600083
    .fill 4064
idt: .fill 4096
    .fill 1024
stack:
main:
"""
)


class Done(NamedTuple):
    """How a boot ended, and what the guest and Quire said."""

    status: int
    console: str
    errors: str


def boot(kernel: bytes, folder: Path, *options: str) -> Done:
    """Boot `kernel` from a file that is called so."""
    (folder / "kernel").write_bytes(kernel)
    command = [sys.executable, "-P", "-m", "quire", "boot", "--kernel", "kernel", "--report", "none"]
    done = subprocess.run(
        [*command, "--memory", "64M", *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        timeout=PATIENCE,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@cache
def assemble(source: str, flags: int = 0, *, form: str = "elf32-i386", addresses: str = "") -> bytes:
    """Return the multiboot kernel of `source`, linked at 2 MiB: as ELF, or form "binary"; `addresses` as KLUDGE."""
    for tool in ("as", "ld", "objcopy"):
        if shutil.which(tool) is None:
            pytest.skip(f"this machine has no {tool}")
    with tempfile.TemporaryDirectory() as folder:
        text, built, linked, image = (Path(folder) / name for name in ("k.s", "k.o", "k.elf", "k"))
        text.write_text(HEADER.format(flags=flags, addresses=addresses) + source + "\nfile_end:\n")
        for command in (
            ["as", "--64", text, "-o", built],
            ["ld", "-N", "-Ttext=0x200000", "-estart", built, "-o", linked],
            ["objcopy", "-O", form, linked, image],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert not done.returncode, done.stderr
        return image.read_bytes()


@cache
def assemble_flat(source: str, at: int, *, elf: bool = False) -> bytes:
    """Return 64-bit `source`, linked to be at `at` and to begin there: a flat binary, or ELF."""
    for tool in ("as", "ld"):
        if shutil.which(tool) is None:
            pytest.skip(f"this machine has no {tool}")
    with tempfile.TemporaryDirectory() as folder:
        text, built, image = (Path(folder) / name for name in ("k.s", "k.o", "k"))
        text.write_text(f".intel_syntax noprefix\n.code64\n.globl start\nstart:\n{source}\n")
        form = ["--oformat", "elf64-x86-64" if elf else "binary"]
        for command in (
            ["as", "--64", text, "-o", built],
            ["ld", "-N", f"-Ttext={at:#x}", "-estart", *form, built, "-o", image],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert not done.returncode, done.stderr
        return image.read_bytes()
