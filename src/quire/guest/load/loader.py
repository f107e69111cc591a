"""Loading: a program and its interpreter into an empty address space, and the stack they start on.

Models load_elf_binary of Linux (fs/binfmt_elf.c): segments are private file mappings, the rest of .bss is
anonymous memory, and the end of its first page is zeroed. An address that no segment covers wraps around as Linux'
own arithmetic does: a program that begins there meets SIGSEGV. Fails with LaunchError 126 for a program that does
not fit its address space, 125 when the machine's memory is too small to start.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

from quire.arch import WORD
from quire.errors import CANNOT_SET_UP, NOT_EXECUTABLE
from quire.guest.kernel.frame import MINIMUM_SIGNAL_STACK
from quire.guest.load.elf import ElfImage, Segment
from quire.guest.load.launch import LaunchError, Program
from quire.guest.load.stack import AuxValues, build_stack
from quire.guest.mm import linux
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.linux import PAGE_4K, PROT_EXEC, PROT_READ, PROT_WRITE, page_down, page_up
from quire.guest.mm.uaccess import BadAddress, UserMemory
from quire.memory import OutOfFrames

__all__ = ["Start", "load_program"]

#: What the kernel maps of the stack beyond the arguments; the rest grows on demand.
_STACK_RESERVE = 128 << 10
_RANDOM_BYTES = 16


@dataclass(frozen=True, slots=True)
class Start:
    """Where the guest begins: instruction pointer and stack pointer; by how much the program's addresses moved.

    `file` is the device and the inode of the program's file.
    """

    rip: int
    rsp: int
    bias: int
    file: tuple[int, int]


def load_program(
    space: AddressSpace,
    memory: UserMemory,
    program: Program,
    envp: Sequence[bytes],
    rng: random.Random,
    hwcap: int,
) -> Start:
    """Map `program`, its interpreter and its stack into `space`. Raises LaunchError."""
    image = program.image
    bias = _pie_bias(space, image) if image.kind == "ET_DYN" else 0
    file = _load(space, image, bias)
    space.set_brk(image.end + bias)
    base, entry = 0, image.entry + bias & WORD
    if program.interpreter is not None:
        base = _interpreter_bias(space, program.interpreter)
        _load(space, program.interpreter, base)
        entry = program.interpreter.entry + base & WORD
    aux = AuxValues(
        phdr=image.phdr_vaddr + bias & WORD if image.phdr_vaddr else 0,
        phent=image.phentsize,
        phnum=image.phnum,
        base=base,
        entry=image.entry + bias & WORD,
        uid=os.getuid(),
        euid=os.geteuid(),
        gid=os.getgid(),
        egid=os.getegid(),
        hwcap=hwcap,
        minimum_signal_stack=MINIMUM_SIGNAL_STACK,
    )
    top = space.layout.stack_top
    stack = build_stack(
        top, program.argv, envp, program.execfn, aux, rng.randbytes(_RANDOM_BYTES), space.stack_limit
    )
    start = max(page_down(stack.rsp) - _STACK_RESERVE, page_up(top - space.stack_limit))
    if space.areas.overlapping(start, top):
        raise LaunchError(
            NOT_EXECUTABLE, f"{program.path}: its segments lie where the stack goes, {start:#x} to {top:#x}"
        )
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if image.executable_stack else 0)
    space.map_area(start, top, prot, grows_down=True, name=b"[stack]")
    try:
        memory.write(stack.rsp, stack.data)
    except (BadAddress, OutOfFrames):
        raise LaunchError(CANNOT_SET_UP, _no_memory(space)) from None
    return Start(entry, stack.rsp, bias, file)


def _pie_bias(space: AddressSpace, image: ElfImage) -> int:
    base = space.layout.pie_base & -image.align
    return base - image.start


def _interpreter_bias(space: AddressSpace, image: ElfImage) -> int:
    if image.kind != "ET_DYN":
        return 0
    base = space.reserve(image.end - image.start, image.align)
    if base < 0:
        raise LaunchError(
            NOT_EXECUTABLE, f"{image.path}: {image.end - image.start:#x} bytes fit nowhere in user space"
        )
    return base - image.start


def _load(space: AddressSpace, image: ElfImage, bias: int) -> tuple[int, int]:
    """Map the segments; return the device and the inode of the file."""
    start, end = image.start + bias, image.end + bias
    if start < linux.MMAP_MIN_ADDR or end > linux.TASK_SIZE or space.areas.overlapping(start, end):
        raise LaunchError(
            NOT_EXECUTABLE, f"{image.path}: segments at {start:#x} to {end:#x} do not fit in user space"
        )
    try:
        fd = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchError(NOT_EXECUTABLE, f"{image.path}: cannot be read: {error.strerror}") from None
    try:
        for segment in image.segments:
            _load_segment(space, image.path, segment, segment.vaddr + bias, fd)
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


def _load_segment(space: AddressSpace, path: str, segment: Segment, vaddr: int, fd: int) -> None:
    prot = sum(bit for flag, bit in ((4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC)) if segment.flags & flag)
    start, file_end, end = page_down(vaddr), vaddr + segment.filesz, vaddr + segment.memsz
    mapped = page_up(file_end) if segment.filesz else start
    fixed = linux.MAP_PRIVATE | linux.MAP_FIXED
    if mapped > start:
        offset = page_down(segment.offset)
        _check(space.mmap(start, mapped - start, prot, fixed, fd, offset), path, start)
    if page_up(end) > mapped:
        length = page_up(end) - mapped
        _check(space.mmap(mapped, length, prot, fixed | linux.MAP_ANONYMOUS, -1, 0), path, mapped)
    # Only a writable segment: the kernel's own write to another fails, and it goes on.
    clear = min(mapped, page_up(end))
    if end > file_end and clear > file_end and prot & PROT_WRITE and not space.zero(file_end, clear):
        raise LaunchError(
            CANNOT_SET_UP, _no_memory(space) if space.exhausted else f"{path}: its end cannot be read"
        )


def _check(result: int, path: str, address: int) -> None:
    if result < 0:
        why = os.strerror(-result).lower()
        raise LaunchError(NOT_EXECUTABLE, f"{path}: segment at {address:#x} cannot be mapped: {why}")


def _no_memory(space: AddressSpace) -> str:
    reason = space.exhausted.text if space.exhausted is not None else "the stack cannot be written"
    return (
        f"the program cannot be started: {reason}: give more than {space.resident_bytes // PAGE_4K * 4} KiB"
    )
