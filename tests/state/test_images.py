"""Memory images: every format written and read back, and every way in which a file can be wrong."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from limits import PATIENCE

from quire.arch import PagingMode
from quire.errors import FormatError, MisuseError
from quire.paging import Context
from quire.state.images import ImageMemory, MemoryRange, ProcessorState, open_image, read_tables, write_core
from quire.state.images.processor import SegmentState

PAGE = 4096
LOW, HIGH = bytes(range(256)) * 16, b"\xab" * PAGE
RANGES = [(0x1000, LOW), (0x10_0000, HIGH)]
REGISTERS = {"rip": 0x40_1000, "rflags": 0x4_0002, "cr0": 0x8001_0033, "cr2": 0x1234, "cr3": 0x1000,
             "cr4": 0x30_0020, "rax": 1, "r15": 15}  # fmt: skip
USER = ProcessorState(REGISTERS, {"cs": SegmentState(selector=0x33), "gs": SegmentState(base=77)})


def lime_header(start: int, last: int, *, magic: bytes = b"EMiL", version: int = 1) -> bytes:
    return struct.pack("<4sIQQ8x", magic, version, start, last)


def core(*processors: ProcessorState, ranges: list[tuple[int, bytes]] = RANGES) -> bytes:
    file = io.BytesIO()
    write_core(file, [MemoryRange(start, memoryview(content)) for start, content in ranges], processors)
    return file.getvalue()


def save(folder: Path, content: bytes) -> str:
    (folder / "image").write_bytes(content)
    return str(folder / "image")


def holds(memory: ImageMemory) -> None:
    """Assert that the memory is RANGES and nothing else."""
    assert memory.ranges == [(start, len(content)) for start, content in RANGES]
    assert bytes(memory.read(0x1000, PAGE) or b"") == LOW
    assert memory[0x10_0000 >> 3] == 0xABAB_ABAB_ABAB_ABAB
    assert 0x1FFF in memory and 0x2000 not in memory and 0x0FFF not in memory
    for address in (0, 0x0FF8, 0x2000, 0x10_1000, 1 << 51):
        with pytest.raises(IndexError):
            memory[address >> 3]
    assert memory.read(0x1FFC, 8) is None


def test_lime_round_trip(tmp_path: Path) -> None:
    content = b"".join(lime_header(start, start + PAGE - 1) + body for start, body in RANGES)
    image = open_image(save(tmp_path, content))
    holds(image.memory)
    assert (image.title, image.settings) == ("LiME image, 0x2000 bytes in 2 ranges", {})


def test_raw_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path, LOW)
    assert open_image(path).memory.ranges == [(0, PAGE)]
    image = open_image(path, base=0x1000)
    assert image.memory[0x1008 >> 3] == int.from_bytes(LOW[8:16], "little")
    assert image.title == "raw image, 0x1000 bytes at 0x1000"


def test_raw_of_odd_length(tmp_path: Path) -> None:
    """A word that the file holds in part is a hole."""
    memory = open_image(save(tmp_path, b"\1" * 20)).memory
    assert memory[1] == 0x0101_0101_0101_0101
    with pytest.raises(IndexError):
        memory[2]


def test_core_round_trip(tmp_path: Path) -> None:
    image = open_image(save(tmp_path, core(USER)))
    holds(image.memory)
    assert image.title == "ELF core, 0x2000 bytes in 2 ranges, registers of vCPU 0"
    state = image.processors[0]
    assert {name: state.registers[name] for name in REGISTERS} == REGISTERS
    assert state.segments["gs"].base == 77
    on = {field.name for field, value in image.settings.items() if value}
    assert on == {"CR3", "MODE", "NXE", "WP", "SMEP", "SMAP", "AC", "USER"}
    assert image.settings[Context.MODE] == PagingMode.LEVEL_4


def test_core_without_registers(tmp_path: Path) -> None:
    image = open_image(save(tmp_path, core()))
    assert (image.settings, image.processors) == ({}, ())
    assert image.title == "ELF core, 0x2000 bytes in 2 ranges, no registers"


@pytest.mark.parametrize(
    ("cr0", "cr4", "mode"),
    [
        (0x33, 0, PagingMode.NONE),
        (0x8000_0033, 0x10, PagingMode.BITS_32),
        (0x8000_0033, 0x20, PagingMode.LEVEL_4),
        (0x8000_0033, 0x1020, PagingMode.LEVEL_5),
    ],
)
def test_mode_follows_the_registers(cr0: int, cr4: int, mode: PagingMode, tmp_path: Path) -> None:
    state = ProcessorState({**REGISTERS, "cr0": cr0, "cr4": cr4}, {"cs": SegmentState(selector=0x10)})
    settings = open_image(save(tmp_path, core(state))).settings
    assert settings[Context.MODE] == mode
    assert settings[Context.NXE] == int(mode >= PagingMode.LEVEL_4)
    assert settings[Context.USER] == 0


def test_core_of_a_32_bit_machine_is_pae(tmp_path: Path) -> None:
    """QEMU writes EM_386 while the processor is not in IA-32e mode."""
    content = bytearray(core(USER))
    content[18:20] = (3).to_bytes(2, "little")
    assert open_image(save(tmp_path, bytes(content))).settings[Context.MODE] == PagingMode.PAE


def test_registers_of_another_vcpu(tmp_path: Path) -> None:
    other = ProcessorState({**REGISTERS, "cr3": 0x2000})
    path = save(tmp_path, core(USER, other))
    assert open_image(path, vcpu=1).settings[Context.CR3] == 0x2000
    with pytest.raises(
        MisuseError, match="There is no vCPU 2: the core has the registers of 2, counted from 0"
    ):
        open_image(path, vcpu=2)


def test_more_segments_than_a_header_counts(tmp_path: Path) -> None:
    """PN_XNUM: from 65 535 program headers on, their number is in a section header."""
    ranges = [(n * 2 * PAGE, n.to_bytes(8, "little")) for n in range(65_600)]
    memory = open_image(save(tmp_path, core(USER, ranges=ranges))).memory
    assert len(memory.ranges) == 65_600
    assert memory[65_599 * PAGE >> 2] == 65_599


def test_zero_pages_cost_no_disk(tmp_path: Path) -> None:
    size = 64 << 20
    asked = []

    def is_hole(offset: int, length: int) -> bool:
        asked.append((offset, length))
        return offset > 0

    with open(tmp_path / "image", "wb") as file:
        write_core(file, [MemoryRange(0, memoryview(bytes(size)), is_hole)], [USER])
    assert (tmp_path / "image").stat().st_blocks * 512 < 1 << 20
    assert open_image(str(tmp_path / "image")).memory.ranges == [(0, size)]
    assert len(asked) == size >> 21


def test_debuggers_read_the_core(tmp_path: Path) -> None:
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("this machine has no gdb")
    path = save(tmp_path, core(USER))
    commands = ["-ex", "info registers rip r15 gs_base", "-ex", "x/2xg 0x1008"]
    done = subprocess.run(
        [gdb, "-batch", "-nx", *commands, "-core", path],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    words = " ".join(done.stdout.split())
    assert "rip 0x401000" in words and "r15 0xf" in words and "gs_base 0x4d" in words
    assert "0x1008: 0x0f0e0d0c0b0a0908 0x1716151413121110" in words


SHORT = core(USER)
BAD = {
    "empty": (b"", "is empty or no regular file: an image must be a file that can be mapped"),
    "avml": (b"AVML" + bytes(60), "is an AVML image: make it a LiME one with avml-convert"),
    "kdump": (b"KDUMP   " + bytes(60),
              "is a kdump-compressed core: make it an ELF one, dump-guest-memory without -z, -l and -s"),
    "lime-header": (b"EMiL\1\0", "LiME header at offset 0x0 is cut: the file ends at 0x6"),
    "lime-version": (lime_header(0, 7, version=2) + bytes(8), "LiME header at offset 0x0 has version 2: Quire reads 1"),
    "lime-order": (lime_header(8, 7), "LiME range at offset 0x0 ends at 0x7 before 0x8"),
    "lime-cut": (lime_header(0, 0xFFF) + bytes(8),
                 "LiME range 0x0 to 0xfff at offset 0x20 is cut: it needs 0x1020 bytes of file, which ends at 0x28"),
    "lime-second": (lime_header(0, 7) + bytes(8) + lime_header(8, 15, magic=b"LiME"),
                    "no LiME header at offset 0x28: found 0x4c694d45, not 0x454d694c"),
    "lime-overlap": ((lime_header(0, 7) + bytes(8)) * 2,
                     "two ranges of the image hold address 0x0: one starts there, one at 0x0 ends at 0x8"),
    "elf-32": (b"\x7fELF\1\1" + bytes(60),
               "32-bit or big-endian ELF: Quire reads 64-bit little-endian cores, as QEMU writes"),
    "elf-header": (b"\x7fELF\2\1\1" + bytes(9), "ELF header is cut: the file has 0x10 bytes, the header 0x40"),
    "elf-program": (SHORT[:16] + b"\2\0" + SHORT[18:],
                    "ELF file is ET_EXEC for EM_X86_64: give a core of an x86 machine "
                    "(QEMU's dump-guest-memory, quire run --save-image)"),
    "elf-arm": (SHORT[:18] + b"\xb7\0" + SHORT[20:],
                "ELF file is ET_CORE for EM_AARCH64: give a core of an x86 machine "
                "(QEMU's dump-guest-memory, quire run --save-image)"),
    "elf-phentsize": (SHORT[:54] + b"\x20\0" + SHORT[56:],
                      "program headers have 0x20 bytes each: 64-bit ones have 0x38"),
    "elf-phdrs": (SHORT[:80], "ELF core is cut: program headers at offset 0x40 ends at 0xe8, the file at 0x50"),
    "elf-segment": (SHORT[:-1],
                    f"ELF core is cut: segment at offset 0x2000 ends at 0x3000, the file at {len(SHORT) - 1:#x}"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_file_that_is_no_image(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = save(tmp_path, content)
    with pytest.raises(FormatError) as found:
        open_image(path)
    assert str(found.value) in (f"{path}: {message}", f"{path} {message}")


def test_note_that_is_cut(tmp_path: Path) -> None:
    at = SHORT.index(b"QEMU\0") - 12
    for size, message in (
        (0x10, "QEMU's CPU note has 0x10 bytes, its fields take 0x1b8: the core was cut or is of another architecture"),
        (0xFFFF, "ELF note at 0x164 of its segment is cut: it ends at 0x10177, the segment at 0x330"),
    ):  # fmt: skip
        content = SHORT[: at + 4] + size.to_bytes(4, "little") + SHORT[at + 8 :]
        path = save(tmp_path, content)
        with pytest.raises(FormatError) as found:
            open_image(path)
        assert str(found.value) == f"{path}: {message}"


def test_any_flipped_byte_of_the_headers_is_an_answer(tmp_path: Path) -> None:
    """A hostile core is a FormatError or an image, never anything else."""
    for n in range(0xE8):
        for value in (0, 0x7F, 0xFF):
            content = bytearray(SHORT)
            content[n] = value
            try:
                memory = open_image(save(tmp_path, bytes(content))).memory
            except FormatError:
                continue
            memory.read(0x1000, 8)


def test_base_and_vcpu_where_they_mean_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, SHORT)
    with pytest.raises(MisuseError) as found:
        open_image(path, base=0x1000)
    assert (
        str(found.value)
        == f"{path} says itself where its memory lies: leave --base 0x1000 out, it is for raw images"
    )
    path = save(tmp_path, LOW)
    with pytest.raises(MisuseError) as found:
        open_image(path, vcpu=1)
    assert str(found.value) == f"{path} has no registers, so there is no vCPU 1: leave --vcpu out"
    with pytest.raises(MisuseError, match="ends beyond 52 address bits: give a lower --base"):
        open_image(path, base=(1 << 52) - 1)


def test_images_are_read_only(tmp_path: Path) -> None:
    memory = open_image(save(tmp_path, LOW)).memory
    with pytest.raises(MisuseError, match="An image cannot be written, 0x1 at 0x0: walk an Overlay of it"):
        memory[0] = 1


def tables(folder: Path, text: str) -> str:
    (folder / "t.toml").write_text(text)
    return str(folder / "t.toml")


TABLE = "[[table]]\naddress = 0x1000\n"


def test_tables_in_every_mode(tmp_path: Path) -> None:
    """Entries of 4 and of 8 bytes, tables of 4 entries, numbers and names, ranges of pages."""
    text = 'mode = "{}"\ncr3 = 0x1000\n' + TABLE + "level = {}\nentries = {{ {} }}\n"
    image = read_tables(tables(tmp_path, text.format("32", 1, '1 = { addr = 0x5000, bits = "P RW" }')))
    assert image.memory[0x1000 >> 3] == 0x5003 << 32
    assert image.settings[Context.MODE] == PagingMode.BITS_32
    image = read_tables(tables(tmp_path, text.format("pae", 3, '3 = { addr = 0x5000, bits = "P" }')))
    assert image.memory[0x1018 >> 3] == 0x5001
    image = read_tables(tables(tmp_path, text.format("5", 2, '"1..3" = { addr = 0x200000, bits = "P PS" }')))
    assert [image.memory[0x1000 + 8 * n >> 3] for n in range(5)] == [0, 0x20_0081, 0x40_0081, 0x60_0081, 0]
    image = read_tables(tables(tmp_path, text.format("4", 3, '"0..1" = { addr = 0x7000, bits = "P" }')))
    assert [image.memory[0x1000 + 8 * n >> 3] for n in range(2)] == [0x7001, 0x8001]
    image = read_tables(tables(tmp_path, text.format("4", 1, '0x1f = 0xffff_ffff_ffff_ffff, "0b1" = 2')))
    assert (image.memory[0x10F8 >> 3], image.memory[0x1008 >> 3]) == ((1 << 64) - 1, 2)


def test_two_tables_in_one_page(tmp_path: Path) -> None:
    """PAE page-directory-pointer tables have 32 bytes."""
    text = 'mode = "pae"\n' + "".join(
        f"[[table]]\naddress = {at:#x}\nlevel = 3\nentries = {{ 0 = {at + 1:#x} }}\n"
        for at in (0x1000, 0x1020)
    )
    memory = read_tables(tables(tmp_path, text)).memory
    assert (memory[0x1000 >> 3], memory[0x1020 >> 3]) == (0x1001, 0x1021)


def test_memory_that_reads_as_zero(tmp_path: Path) -> None:
    image = read_tables(tables(tmp_path, "memory = 0x4000\n" + TABLE + "entries = { 0 = 5 }\n"))
    assert image.whole and 0x3FFF in image.memory and 0x4000 not in image.memory
    assert (image.memory[0x1000 >> 3], image.memory[0x3000 >> 3]) == (5, 0)
    assert not read_tables(tables(tmp_path, TABLE)).whole


BAD_TABLES = {
    "syntax": ("mode = ", "t.toml is not TOML: Invalid value (at end of document)"),
    "no-table": ("cr3 = 1", "t.toml: there is no table: begin each with a line [[table]]"),
    "key": ("tabel = 1", "t.toml: the file has 'tabel', which means nothing (did you mean 'table'?): "
            "it may have mode, cr3, eptp, memory, profile, settings, table"),
    "mode": ("mode = 6", "t.toml: mode is '6': give one of none, 32, pae, 4, 5"),
    "address": ("[[table]]\n", "t.toml: a table has no address: write address = 0x1000 below [[table]]"),
    "aligned": ("[[table]]\naddress = 0x1008",
                "t.toml: table 0x1008: tables are aligned to 0x1000, below 0x10000000000000"),
    "level": (TABLE + "level = 5", "t.toml: table 0x1000: level is 5: guest tables here have levels 1 to 4"),
    "dimension": (TABLE + 'dimension = "host"', "t.toml: table 0x1000: dimension is 'host': give guest or ept"),
    "index": (TABLE + "entries = { 512 = 1 }",
              "t.toml: table 0x1000, entry 512: the index must be from 0 to 511, or a range like 0..511"),
    "word": (TABLE + "entries = { x = 1 }",
             "t.toml: table 0x1000, entry x: 'x' of index is not a number: give 0x1f, 0b11111 or 31"),
    "names": (TABLE + 'entries = { 0 = { bits = "P" } }',
              "t.toml: table 0x1000, entry 0: names of bits depend on the level: "
              "add level = 4, 3, 2 or 1 to the table"),
    "bit": (TABLE + 'level = 1\nentries = { 0 = { bits = "P WR" } }',
            "t.toml: table 0x1000, entry 0: PTE has no field 'WR' (did you mean 'RW'?): "
            "its fields are P, RW, US, PWT, PCD, A, D, PAT, G, addr, pkey, XD"),
    "target": (TABLE + 'level = 1\nentries = { 0 = { addr = 0x10, bits = "P" } }',
               "t.toml: table 0x1000, entry 0: PTE.addr = 0x10 is not aligned to 0x1000: clear bits 11:0"),
    "wide": ('mode = "32"\n' + TABLE + "entries = { 0 = 0x1_0000_0000 }",
             "t.toml: table 0x1000, entry 0: the entry does not fit in 4 bytes"),
    "negative": ("cr3 = -1\n" + TABLE, "t.toml: cr3 is -1: give a number that is not negative, 0x1000 for instance"),
    "setting": ("settings = { wq = 1 }\n" + TABLE, None),
    "profile": ('profile = "zen"\n' + TABLE,
                "t.toml: No CPU profile is called 'zen' (did you mean 'zen4'?): there is skylake-x, icelake-sp, "
                "sapphire-rapids, zen2, zen3, zen4, ideal, none, architecture, or give a file that ends in .toml"),
    "profile's type": ("profile = 5\n" + TABLE, "t.toml: profile is 5: give a name in quotes, such as 'skylake-x'"),
    "memory": ("memory = 5\n" + TABLE, "t.toml: memory is 0x5 bytes: give a multiple of 0x1000 below 0x10000000000000"),
    "width": ("settings = { wp = 2 }\n" + TABLE, "t.toml: settings.wp is 0x2: give 0x0 to 0x1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_description_that_is_wrong(name: str, tmp_path: Path) -> None:
    text, message = BAD_TABLES[name]
    with pytest.raises(FormatError) as found:
        read_tables(tables(tmp_path, text))
    said = str(found.value).replace(f"{tmp_path}/", "")
    if message is None:
        assert said.startswith(
            "t.toml: settings has 'wq', which means nothing (did you mean 'wp'?): it may have cr3"
        )
    else:
        assert said == message
