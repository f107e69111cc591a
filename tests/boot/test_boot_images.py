"""Kinds of kernel images: vmlinux and flat binaries start as they should; what is no kernel is said in a line."""

import shutil
import struct
import subprocess
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, strategies
from limits import PATIENCE
from multiboot_guest import HELPERS, MMUS, assemble, assemble_flat, boot

import quire
from quire.guest.boot.image import Given, Initrd
from quire.guest.boot.images import choose_image
from quire.guest.load.launch import LaunchError

pytestmark = pytest.mark.timeout(PATIENCE)

MEMORY = 64 << 20
#: Says the command line of the zero page at RSI, then all of the initrd; the status is 2 if there is no setup header.
TOLD = (
    """
    mov rbx, rsi
    mov eax, cs
    cmp eax, 0x10
    jne bad
    cmp dword ptr [rbx + 0x202], 0x53726448
    jne bad
    mov esi, [rbx + 0x228]
    call say
    mov ebp, [rbx + 0x218]
    mov ecx, [rbx + 0x21c]
1:  mov al, [rbp]
    call put
    inc ebp
    dec ecx
    jnz 1b
    mov al, 0
    jmp finish
bad: mov al, 2
    jmp finish
"""
    + HELPERS
)
#: Ends with memory in MiB, from RDI, and calls something by the stack.
FLAT = (
    """
    call 1f
1:  pop rax
    lea rbx, [rip + 1b]
    cmp rax, rbx
    mov eax, 1
    jne finish
    shr rdi, 20
    mov eax, edi
    jmp finish
"""
    + HELPERS
)


@pytest.fixture(scope="module")
def vmlinux(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ELF file that Debian's bzImage has within; skip where no tool unpacks it."""
    data = kernel.read_bytes()
    packed = data[((data[0x1F1] or 4) + 1) * 512 :]
    offset, length = struct.unpack_from("<II", data, 0x248)
    packed = packed[offset : offset + length]
    tool = {b"\xfd7zXZ\0": "xz", b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}
    name = next((name for magic, name in tool.items() if packed.startswith(magic)), None)
    if name is None or shutil.which(name) is None:
        pytest.skip(f"nothing here unpacks {packed[:4].hex()}")
    # The last four bytes are the length, which is no part of the packed data.
    done = subprocess.run(
        [name, "-dc"], input=packed[:-4], capture_output=True, timeout=PATIENCE, check=False
    )
    place = tmp_path_factory.mktemp("vmlinux") / "vmlinux"
    place.write_bytes(done.stdout)
    return place


@pytest.mark.xdist_group("boot")
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_a_stock_vmlinux(vmlinux: Path, initrd: Path, mmu: str) -> None:
    with quire.boot(
        vmlinux, initrds=(initrd,), append="console=ttyS0 quiet", mmu=mmu, memory=256 << 20
    ) as guest:
        guest.expect("# ")
        assert guest.ask("cat /proc/cmdline") == "console=ttyS0 quiet"
        guest.send("poweroff -f\n")
        guest.run(30)
        assert guest.ended and guest.report()["outcome"]["how"] == "switched off"


@pytest.mark.parametrize("mmu", MMUS)
def test_a_vmlinux_finds_its_zero_page(mmu: str, tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"disk")
    done = boot(assemble_flat(TOLD, 16 << 20, elf=True), tmp_path, "--initrd", "initrd", "--mmu", mmu)
    assert done == (1, "console=ttyS0disk", "")


def test_each_initrd_begins_at_a_multiple_of_4(tmp_path: Path) -> None:
    words = []
    for number, data in enumerate((b"070701", b"", b"070", b"07070")):
        (tmp_path / f"disk{number}").write_bytes(data)
        words += ["--initrd", f"disk{number}"]
    done = boot(assemble_flat(TOLD, 16 << 20, elf=True), tmp_path, "--append", "x", *words)
    assert done == (1, "x070701\0\x00070\x0007070", "")


@pytest.mark.parametrize("mmu", MMUS)
@pytest.mark.parametrize("at", [0x10000, 0x234567])
def test_a_flat_binary(at: int, mmu: str, tmp_path: Path) -> None:
    done = boot(assemble_flat(FLAT, at), tmp_path, "--flat", f"{at:#x}", "--mmu", mmu)
    assert done == (2 * 64 + 1, "", "")


@pytest.mark.parametrize("mmu", MMUS)
@pytest.mark.parametrize("target", [0x4A03C1BA, 0xFEE00000])
def test_a_jump_to_where_no_memory_is_ends_the_guest(target: int, mmu: str, tmp_path: Path) -> None:
    done = boot(
        assemble_flat(f"mov eax, {target:#x}\n jmp rax", 1 << 20), tmp_path, "--flat", "1M", "--mmu", mmu
    )
    assert done.status == 1 and done.errors.count("\n") == 1 and "the guest ended: " in done.errors


@pytest.mark.parametrize(
    ("data", "flat", "append", "text"),
    [
        (b"", 1 << 20, None, "{} is empty: give a flat binary with --flat"),
        (b"x", 0xFFFF, None, "{} cannot go to 0xffff: give --flat 0x10000 or more"),
        (b"xx", 0xDFFFF, None,
         "{} would lie at 0xdffff to 0xe0001, on ACPI tables at 0xe0000: give --flat 0x100000 or more"),
        (b"xx", 0x3FFFFFF, None,
         "{} would end at 0x4000001, memory at 0x4000000: give a lower --flat or more --memory"),
        (b"x", 1 << 20, "a", "{} is a flat binary, which gets nothing: leave --initrd and --append out"),
    ],
    ids=count(),
)  # fmt: skip
def test_flat_binaries_that_do_not_do(
    data: bytes, flat: int, append: str | None, text: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(LaunchError) as error:
        quire.boot(tmp_path / "file", flat=flat, append=append, memory=64 << 20)
    assert (error.value.status, str(error.value)) == (125, text.format(tmp_path / "file"))


def elf(**changes: int) -> bytes:
    """Return an ELF64 kernel of one byte at 1 MiB, with some of its numbers changed."""
    numbers = {
        "kind": 2, "type": 2, "machine": 62, "entry": 1 << 20, "table": 64, "size": 56, "count": 1,
        "segment": 1, "offset": 120, "virtual": 1 << 20, "physical": 1 << 20, "in_file": 1, "in_memory": 1,
    } | changes  # fmt: skip
    n = numbers
    start = b"\x7fELF" + bytes((n["kind"], 1, 1)) + bytes(9)
    start += struct.pack(
        "<HHIQQQIHHH", n["type"], n["machine"], 1, n["entry"], n["table"], 0, 0, 64, n["size"], n["count"]
    )
    start = start.ljust(64, b"\0")
    places = ("offset", "virtual", "physical", "in_file", "in_memory")
    return start + struct.pack("<IIQQQQQQ", n["segment"], 7, *(n[name] for name in places), 0) + b"\xf4"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (elf(kind=3), "is an ELF file of 121 bytes and class 3: give one of x86, complete"),
        (elf()[:55], "is an ELF file of 55 bytes and class 2: give one of x86, complete"),
        (elf(machine=183), "is an ELF file of type 2 for machine 183: give a kernel of type 2 for 62, x86-64"),
        (elf(type=3), "is an ELF file of type 3 for machine 62: give a kernel of type 2 for 62, x86-64"),
        (elf(count=0), "has 0 program headers of 56 bytes at 0x40 of 0x79: 1 to 64 of 56 within the file are possible"),
        (elf(size=32), "has 1 program headers of 32 bytes"),
        (elf(table=2**64 - 1), "has 1 program headers of 56 bytes at 0xffffffffffffffff of 0x79"),
        (elf(segment=0), "has nothing to load: give an ELF kernel with PT_LOAD segments"),
        (elf(offset=121),
         "segment 0 has 0x1 bytes at 0x79 of a file of 0x79, and 0x1 in memory: give a complete kernel"),
        (elf(in_file=2), "segment 0 has 0x2 bytes at 0x78 of a file of 0x79, and 0x1 in memory"),
        (elf(entry=5), "begins at 0x5, which is in none of its segments: link it with its entry within"),
        (elf(physical=0xFF000), "is an ELF file that is loaded at 0xff000, below 0x100000: give a vmlinux, a kernel"),
        (elf(physical=2**64 - 1), "needs 17592186044416 MiB of memory to start"),
        (elf(in_memory=2**64 - 1), "MiB of memory to start"),
    ],
    ids=count(),
)  # fmt: skip
def test_elf_files_that_do_not_do(data: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(LaunchError) as error:
        quire.boot(tmp_path / "file", memory=64 << 20)
    assert text in str(error.value) and error.value.status == 125


def test_an_entry_by_virtual_address(tmp_path: Path) -> None:
    """The one byte of the kernel is HLT, with interrupts off."""
    high = 0xFFFFFFFF_80000000
    assert boot(elf(entry=high, virtual=high), tmp_path) == (0, "", "")


@given(strategies.data())
def test_any_numbers_are_taken_or_refused(data: strategies.DataObject) -> None:
    """Whatever is written, and the entry, is within memory; every refusal is a LaunchError of one line."""
    word = strategies.sampled_from(
        (0, 1, 0x60, 0x1000, 0x90000, 1 << 20, MEMORY - 1, MEMORY, 2**32 - 1, 2**64 - 1)
    )
    if data.draw(strategies.booleans()):
        names = ("entry", "table", "offset", "virtual", "physical", "in_file", "in_memory")
        image = elf(**data.draw(strategies.dictionaries(strategies.sampled_from(names), word)))
    else:
        flags = data.draw(strategies.sampled_from((0, 1 << 16, 1 << 16 | 3, 1 << 16 | 4)))
        words = [data.draw(word) & 0xFFFFFFFF for _ in range(5)]
        image = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *words)
    initrds = tuple(
        Initrd("disk", bytes(size)) for size in data.draw(strategies.lists(strategies.integers(0, 9000)))
    )
    written: list[tuple[int, int]] = []
    try:
        found = choose_image(image, "file", data.draw(strategies.none() | word))
        line = "x" * data.draw(strategies.sampled_from((0, 10, 2047, 2048, 70000)))
        start = found.place(
            lambda at, what: written.append((at, len(what))), Given(MEMORY, line, initrds, 0xE0000)
        )
    except LaunchError as error:
        assert str(error).isprintable() and error.status == 125
    else:
        assert 0 <= start.registers["rip"] < MEMORY
        assert all(at >= 0x2000 and at + length <= MEMORY for at, length in written)


def test_32_bit_elf_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(assemble("hlt").replace(b"\x02\xb0\xad\x1b", bytes(4)))
    with pytest.raises(LaunchError) as error:
        quire.boot(tmp_path / "kernel")
    assert str(error.value).endswith(
        "is 32-bit ELF without a multiboot header in its first 8 KiB: give it one"
    )
