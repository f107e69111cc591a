"""ELF files: what readelf says of them, and what is refused with which words."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import pytest
from limits import PATIENCE

from quire.errors import FormatError
from quire.guest.load.elf import read_elf

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
LOAD = (1, 5, 0, 0x400000, 0, 0x1000, 0x1000, 0x1000)


def elf(path, phdrs=(LOAD,), *, size=0x1000, **change):
    fields = dict(
        ident=b"\x7fELF\2\1\1".ljust(16, b"\0"),
        type=2,
        machine=62,
        version=1,
        entry=0x400100,
        phoff=64,
        shoff=0,
        flags=0,
        ehsize=64,
        phentsize=56,
        phnum=len(phdrs),
        shentsize=0,
        shnum=0,
        shstrndx=0,
    )
    fields.update(change)
    data = HEADER.pack(*fields.values()) + b"".join(PHDR.pack(*phdr) for phdr in phdrs)
    path.write_bytes(data.ljust(size, b"\0")[:size])
    return str(path)


def says(path):
    with pytest.raises(FormatError) as caught:
        read_elf(path)
    return str(caught.value)


def readelf(path):
    command = ["readelf", "-lWh", path]
    text = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    loads = []
    for line in text.splitlines():
        match = re.match(r"\s+LOAD\s+(\S+) (\S+) \S+ (\S+) (\S+) (.{3}) (\S+)", line)
        if match:
            flags = sum(bit for letter, bit in (("R", 4), ("W", 2), ("E", 1)) if letter in match[5])
            numbers = [int(match[n], 16) for n in (2, 1, 3, 4)]
            loads.append((*numbers, flags, int(match[6], 16)))
    entry = int(re.search(r"Entry point address:\s+(\S+)", text)[1], 16)
    interpreter = re.search(r"program interpreter: (.*)\]", text)
    return loads, entry, interpreter and interpreter[1], int(re.search(r"headers:\s+(\d+)\n", text)[1])


def check_against_readelf(path):
    image = read_elf(path)
    loads, entry, interpreter, _ = readelf(path)
    assert [(s.vaddr, s.offset, s.filesz, s.memsz, s.flags, s.align) for s in image.segments] == loads
    assert (image.entry, image.interpreter) == (entry, interpreter)
    return image


needs_readelf = pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not installed")
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")


@needs_readelf
def test_bin_ls():
    image = check_against_readelf("/bin/ls")
    assert image.kind == "ET_DYN" and image.phdr_vaddr == 64 and not image.executable_stack
    check_against_readelf(image.interpreter)


@needs_readelf
@needs_gcc
@pytest.mark.parametrize(
    ("flags", "kind"),
    [("-static", "ET_EXEC"), ("-static-pie", "ET_DYN"), ("-static -z execstack", "ET_EXEC")],
)
def test_gcc(tmp_path, flags, kind):
    source, path = tmp_path / "a.c", str(tmp_path / "a")
    source.write_text("int main(void) { return 0; }")
    made = subprocess.run(
        ["gcc", *flags.split(), str(source), "-o", path], capture_output=True, timeout=PATIENCE
    )
    if made.returncode:
        pytest.skip("gcc cannot link statically here")
    image = check_against_readelf(path)
    assert image.kind == kind and image.interpreter is None
    assert image.executable_stack == ("execstack" in flags)


def test_minimal(tmp_path):
    image = read_elf(elf(tmp_path / "a"))
    assert (image.start, image.end, image.entry, image.phdr_vaddr) == (0x400000, 0x401000, 0x400100, 0x400040)


def test_bogus_sections_do_not_matter(tmp_path):
    assert read_elf(elf(tmp_path / "a", shoff=1 << 60, shnum=9, shstrndx=7, shentsize=64)).phnum == 1


def load(**change):
    names = ("type", "flags", "offset", "vaddr", "paddr", "filesz", "memsz", "align")
    return tuple((dict(zip(names, LOAD, strict=True)) | change).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": 1}, "ELF of type ET_REL; a program is ET_EXEC or ET_DYN: link it"),
        ({"machine": 183}, "ELF for AArch64; Quire runs x86-64"),
        ({"machine": 3}, "ELF for i386; Quire runs x86-64"),
        ({"machine": 0xFEED}, "ELF for machine 0xfeed; Quire runs x86-64"),
        ({"phentsize": 32}, "ELF program headers of 32 bytes; x86-64 has 56"),
        ({"phnum": 0}, "ELF with 0 program headers; 1 to 1170 are possible"),
        ({"phnum": 0xFFFF}, "ELF with 65535 program headers; 1 to 1170 are possible"),
        (
            {"phoff": (1 << 64) - 8},
            "ELF is truncated: program headers end at 0x10000000000000030, the file at 0x1000",
        ),
        ({"entry": 1 << 47}, "ELF entry point 0x800000000000; user space ends at 0x800000000000"),
        (
            {"ident": b"\x7fELF\1\1\1".ljust(16, b"\0")},
            "32-bit ELF; Quire runs 64-bit little-endian x86-64",
        ),
        ({"size": 10}, "ELF is truncated: the file has 0xa bytes, the header 0x40"),
        ({"size": 40}, "ELF is truncated: the file has 0x28 bytes, the header 0x40"),
        ({"size": 0x60}, "ELF is truncated: program headers end at 0x78, the file at 0x60"),
        ({"size": 0x800}, "ELF is truncated: segment at 0x400000 ends at 0x1000, the file at 0x800"),
    ],
)
def test_header_refusals(tmp_path, change, message):
    assert says(elf(tmp_path / "a", **change)) == message


@pytest.mark.parametrize(
    ("phdrs", "message"),
    [
        ([load(filesz=0x1001)], "ELF segment 0 has 0x1001 bytes in the file, 0x1000 in memory"),
        (
            [load(vaddr=0x400010)],
            "ELF segment 0 has address 0x400010 and offset 0x0: they differ within a page",
        ),
        ([load(align=3)], "ELF segment 0 has alignment 0x3; it must be a power of two"),
        ([load(memsz=1 << 47)], "ELF segment 0 ends at 0x800000400000; user space ends at 0x800000000000"),
        (
            [load(vaddr=(1 << 64) - 0x1000)],
            "ELF segment 0 ends at 0x10000000000000000; user space ends at 0x800000000000",
        ),
        ([LOAD, LOAD], "ELF segment 1 begins at 0x400000; the segment before ends at 0x401000"),
        ([load(vaddr=0x1000)], "ELF segment 0 begins at 0x1000; programs may start at 0x10000"),
        ([load(type=4)], "ELF without a loadable segment: there is nothing to run"),
        ([LOAD, load(type=3, filesz=1)], "ELF interpreter name of 1 bytes; 2 to 4096 are possible"),
        (
            [LOAD, load(type=3, filesz=9, offset=0x1000)],
            "ELF is truncated: the interpreter name ends at 0x1009, the file at 0x1000",
        ),
        ([LOAD, load(type=3, filesz=4, offset=0)], "ELF interpreter name does not end with a NUL"),
    ],
)
def test_segment_refusals(tmp_path, phdrs, message):
    assert says(elf(tmp_path / "a", phdrs)) == message


def test_not_elf(tmp_path):
    (tmp_path / "a").write_bytes(b"MZ\x90\0")
    assert says(str(tmp_path / "a")) == "not an ELF program (starts with 0x4d5a9000)"
