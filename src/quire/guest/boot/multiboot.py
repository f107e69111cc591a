"""Multiboot kernels: placed as ELF or header say, entered in 32-bit protected mode with a description of the machine.

The Multiboot Specification 0.6.96: EAX has a magic number, EBX the address of the multiboot information (§3.3), which
has memory, command line, a memory map, and the initial RAM disks as modules. As other loaders that boot a kernel
directly do, the command line begins with the file's name. ACPI tables are where the BIOS would have them.
"""

import os
import struct
from pathlib import PurePath

from quire.guest.boot.elf_kernel import Piece, read_elf_kernel
from quire.guest.boot.image import HIGH, LOW_END, Given, Initrd, Start, Write, ranges_of, refusal
from quire.guest.boot.multiboot_header import Addresses, Header

__all__ = ["MultibootImage"]

_LOADED = 0x2BADB002
#: The information, and what it points to, are from here to the end of ordinary memory below 1 MiB.
_INFORMATION = 0x90000
_MEMORY, _COMMAND, _MODULES, _MAP, _LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
#: flags, lower and upper memory in KiB, boot device, command line, modules (count, at), symbols, map (length, at),
#: drives, configuration table, name of the loader (§3.3).
_WORDS = struct.Struct("<18I")
_LENGTH_OF_WORDS = 128
_RANGE, _MODULE = struct.Struct("<IQQI"), struct.Struct("<4I")
_NAME = b"quire\0"
_PAGE = 4096


class MultibootImage:
    """The file `data`, called `path` in messages, whose header is `header`. Raises LaunchError."""

    usual = ""

    def __init__(self, data: bytes, path: str, header: Header) -> None:
        self._path = path
        if header.addresses is not None:
            self._entry, self._pieces = _by_addresses(data, path, header.offset, header.addresses)
        else:
            kernel = read_elf_kernel(data, path)
            if kernel is None:
                raise refusal(
                    f"{path} has a multiboot header without addresses and is no ELF file: "
                    "set flag 16 of the header, or link the kernel as ELF"
                )
            self._entry, self._pieces = kernel.entry, kernel.pieces
        for piece in self._pieces:
            if (piece.start < HIGH and piece.end > _INFORMATION) or piece.start < _PAGE * 2:
                raise refusal(
                    f"{path} would lie at {piece.start:#x} to {piece.end:#x}, where the loader's tables are: "
                    f"link it at {HIGH:#x} or above"
                )

    def place(self, write: Write, given: Given) -> Start:
        """Write kernel, modules and the multiboot information. Raises LaunchError."""
        end = max(piece.end for piece in self._pieces)
        if end > given.memory:
            least = -(-end >> 20)
            raise refusal(
                f"{self._path} needs {least} MiB of memory to start: give --memory {least}M or more"
            )
        modules = _module_places(given.initrds, max(end, HIGH), given.memory)
        information = self._information(given, modules)
        for piece in self._pieces:
            write(piece.start, bytes(piece.data))
        for at, one in zip(modules, given.initrds, strict=True):
            write(at, one.data)
        write(_INFORMATION, information)
        return Start({"rip": self._entry, "rax": _LOADED, "rbx": _INFORMATION}, protected=True)

    def _information(self, given: Given, modules: list[int]) -> bytes:
        """Return the multiboot information with all that it points to. Raises LaunchError for what is too long."""
        tail = bytearray()

        def add(data: bytes) -> int:
            at = _INFORMATION + _LENGTH_OF_WORDS + len(tail)
            tail.extend(data + bytes(-len(data) % 4))
            return at

        ranges = [_RANGE.pack(_RANGE.size - 4, *one) for one in ranges_of(given.memory)]
        map_at = add(b"".join(ranges))
        names = [add(os.fsencode(one.name) + b"\0") for one in given.initrds]
        rows = [
            _MODULE.pack(at, at + len(one.data), name, 0)
            for at, one, name in zip(modules, given.initrds, names, strict=True)
        ]
        modules_at, name_at = add(b"".join(rows)), add(_NAME)
        words = f"{PurePath(self._path).name} {given.command_line}".rstrip()
        command_at = add(os.fsencode(words) + b"\0")
        flags = _MEMORY | _COMMAND | _MODULES | _MAP | _LOADER
        lower, upper = LOW_END >> 10, given.memory - HIGH >> 10
        head = [flags, lower, upper, 0, command_at, len(modules), modules_at, 0, 0, 0, 0]
        head += [len(ranges) * _RANGE.size, map_at, 0, 0, 0, name_at, 0]
        made = _WORDS.pack(*head).ljust(_LENGTH_OF_WORDS, b"\0") + tail
        room = LOW_END - _INFORMATION
        if len(made) > room:
            raise refusal(
                f"Command line and names of modules take {len(made)} bytes, {self._path} gets {room}: append less"
            )
        return made


def _by_addresses(data: bytes, path: str, offset: int, said: Addresses) -> tuple[int, tuple[Piece, ...]]:
    """Return entry and the one piece of a kernel whose header has addresses (§3.1.3)."""
    begin = offset - (said.header - said.load)
    length = (said.load_end or said.load + len(data) - begin) - said.load
    end = max(said.bss_end, said.load + length)
    if said.header < said.load or begin < 0 or length <= 0 or begin + length > len(data):
        raise refusal(
            f"{path}: by its multiboot header {length:#x} bytes at {begin:#x} of a file of {len(data):#x} "
            f"go to {said.load:#x}: give a complete kernel whose addresses are right"
        )
    if not said.load <= said.entry < end:
        raise refusal(
            f"{path} begins at {said.entry:#x}, outside of {said.load:#x} to {end:#x}: correct its header"
        )
    return said.entry, (Piece(said.load, end, memoryview(data)[begin : begin + length], said.load),)


def _module_places(initrds: tuple[Initrd, ...], behind: int, memory: int) -> list[int]:
    """Return where each module goes: at pages of their own behind the kernel."""
    places, at = [], behind
    for one in initrds:
        at = (at + _PAGE - 1) & -_PAGE
        places.append(at)
        at += len(one.data)
    if at > memory:
        raise refusal(f"Kernel and modules end at {at:#x}, memory at {memory:#x}: give more --memory")
    return places
