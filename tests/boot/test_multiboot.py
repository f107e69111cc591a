"""Multiboot kernels are entered in 32-bit mode, find what the specification promises, and go on to 64-bit mode."""

import struct
from itertools import count
from pathlib import Path

import pytest
from limits import PATIENCE
from multiboot_guest import HELPERS, KLUDGE, LONG_MODE, MMUS, assemble, boot

import quire
from quire.guest.boot.memory import GuestMemory
from quire.guest.load.launch import LaunchError

pytestmark = pytest.mark.timeout(PATIENCE)

#: Takes a #PF at 0x400000, whose handler maps the page, then one interrupt of the APIC's timer.
EVENTS = (
    LONG_MODE
    + """
    gate 14, on_page_fault
    gate 0x40, on_timer
    mov qword ptr [0x400000], 7  # faults
    cmp qword ptr [0x600000], 7  # where the handler maps 0x400000
    jne failed
    cmp dword ptr [faults], 1
    jne failed
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff
    mov dword ptr [rbx + 0x3e0], 0xb
    mov dword ptr [rbx + 0x320], 0x40
    mov dword ptr [rbx + 0x380], 20000
    sti
1:  hlt
    cmp dword ptr [ticks], 1
    jne 1b
    mov esi, offset pass
    call say
    mov al, 0
    call finish
failed:
    mov esi, offset fail
    call say
    mov al, 1
    call finish
on_page_fault:
    push rax
    mov rax, cr2
    cmp rax, 0x400000
    jne failed
    cmp qword ptr [rsp + 8], 2
    jne failed
    inc dword ptr [faults]
    mov qword ptr [directory + 16], 0x600083
    pop rax
    add rsp, 8
    iretq
on_timer:
    inc dword ptr [ticks]
    mov dword ptr [rbx + 0xb0], 0
    iretq
faults: .long 0
ticks: .long 0
pass: .asciz "PASS\\n"
fail: .asciz "FAIL\\n"
"""
)
#: Says the command line and the first module's text and name, each in a line.
TOLD = (
    LONG_MODE
    + """
    cmp dword ptr [magic], 0x2badb002
    jne bad
    mov ebx, [information]
    mov esi, [rbx + 16]
    call say
    mov al, 10
    call put
    mov ebx, [rbx + 24]
    mov ecx, [rbx]
    mov r8d, [rbx + 4]
1:  mov al, [rcx]
    call put
    inc ecx
    cmp ecx, r8d
    jb 1b
    mov al, 10
    call put
    mov esi, [rbx + 8]
    call say
    mov al, 10
    call put
    # fw_cfg: the signature, then the count of processors, then the fourth byte of memory as the status
    mov dx, 0x510
    xor eax, eax
    out dx, ax
    mov ecx, 4
2:  mov dx, 0x511
    in al, dx
    call put
    loop 2b
    mov dx, 0x510
    mov eax, 5
    out dx, ax
    inc edx
    in al, dx
    add al, 0x30
    call put
    mov dx, 0x510
    mov eax, 3
    out dx, ax
    inc edx
    in al, dx
    in al, dx
    in al, dx
    in al, dx
    call finish
bad:
    mov al, 99
    call finish
"""
)


@pytest.mark.parametrize("mmu", MMUS)
def test_a_page_fault_and_a_timer_in_64_bit_mode(mmu: str, tmp_path: Path) -> None:
    assert boot(assemble(EVENTS), tmp_path, "--mmu", mmu) == (1, "PASS\n", "")


@pytest.mark.parametrize(
    ("form", "flags", "addresses"), [("elf64-x86-64", 0x3, ""), ("binary", 0x10003, KLUDGE)]
)
def test_other_files(form: str, flags: int, addresses: str, tmp_path: Path) -> None:
    kernel = assemble(EVENTS, flags, form=form, addresses=addresses)
    assert boot(kernel, tmp_path) == (1, "PASS\n", "")


def test_what_the_kernel_is_told(tmp_path: Path) -> None:
    (tmp_path / "one.env").write_bytes(b"A=1")
    done = boot(assemble(TOLD), tmp_path, "--append", "a  b", "--initrd", "one.env", "--vcpus", "2")
    assert done == (2 * 4 + 1, "kernel a  b\nA=1\none.env\nQEMU2", "")


def test_the_information(tmp_path: Path) -> None:
    """A kernel that halts at once leaves it as it was made: the memory map, memory in KiB, modules at pages."""
    (tmp_path / "kernel").write_bytes(assemble("mov [0x300000], ebx\n cli\n hlt\n" + HELPERS))
    modules = []
    for name, data in (("m1", b"x" * 5000), ("m2", b"y")):
        (tmp_path / name).write_bytes(data)
        modules.append(tmp_path / name)
    with quire.boot(tmp_path / "kernel", initrds=tuple(modules), memory=64 << 20, mmu="native") as guest:
        guest.run()
        read = GuestMemory(guest.machine).read
        at = struct.unpack("<I", read(0x300000, 4))[0]
        words = struct.unpack("<18I", read(at, 72))
        assert words[0] == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
        assert words[1:3] == (0x9FC00 >> 10, 63 << 10)
        rows = [struct.unpack("<4I", read(words[6] + 16 * number, 16)) for number in range(words[5])]
        assert [end - start for start, end, _, _ in rows] == [5000, 1]
        assert all(start % 4096 == 0 for start, _, _, _ in rows) and read(rows[1][0], 1) == b"y"
        ranges = [struct.unpack("<IQQI", read(words[12] + at, 24)) for at in range(0, words[11], 24)]
        assert [one for one in ranges if one[3] == 1] == [(20, 0, 0x9FC00, 1), (20, 1 << 20, 63 << 20, 1)]


@pytest.mark.parametrize("mmu", MMUS)
@pytest.mark.parametrize(
    ("code", "named"),
    [("ud2", "#UD"), ("int 0x30", "interrupt 0x30"), ("mov eax, 0x21\n mov cr4, eax\n lret", "#GP")],
)
def test_an_exception_in_32_bit_mode_ends_the_guest(code: str, named: str, mmu: str, tmp_path: Path) -> None:
    done = boot(assemble(f"mov esp, 0x180000\n {code}\n hlt"), tmp_path, "--mmu", mmu)
    assert done.status == 1 and done.errors.count("\n") == 1, done
    assert f"{named} at RIP 0x2" in done.errors and "in IA-32e mode only" in done.errors


def header(*words: int) -> bytes:
    """Return a multiboot header whose first word is its flags, in a file of a page."""
    flags = words[0]
    return struct.pack(
        f"<{len(words) + 2}I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *words[1:]
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (header(4), "requires a video mode, and there is no frame buffer"),
        (header(8), "requires what Quire does not have"),
        (header(0), "has a multiboot header without addresses and is no ELF file"),
        (header(1 << 16), "ends at 0xc, within its multiboot header at 0x0"),
        (
            header(1 << 16, 0x200000, 0x200000, 0x300000, 0, 0x200000),
            "go to 0x200000: give a complete kernel",
        ),
        (
            header(1 << 16, 0x100000, 0x200000, 0, 0, 0x200000),
            "give a complete kernel whose addresses are right",
        ),
        (header(1 << 16, 0x200000, 0x200000, 0, 0, 0x1FFFFF), "begins at 0x1fffff, outside of 0x200000 to"),
        (header(1 << 16, 0x95000, 0x95000, 0, 0, 0x95000), "where the loader's tables are"),
        (header(1 << 16, 0x200000, 0x200000, 0, 0xFFFFFFFF, 0x200000), "needs 4096 MiB of memory to start"),
    ],
    ids=count(),
)
def test_headers_that_do_not_do(data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(data)
    with pytest.raises(LaunchError) as error:
        quire.boot(tmp_path / "kernel", memory=64 << 20)
    assert text in str(error.value) and error.value.status == 125
