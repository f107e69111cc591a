"""The text of /proc/self/maps and the records behind it.

Models the kernel's format (fs/proc/task_mmu.c, show_map_vma) to the byte: names start in column 73.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from quire.guest.mm.backing import FileBacking
from quire.guest.mm.linux import PAGE_4K, PROT_EXEC, PROT_READ, PROT_WRITE, VSYSCALL
from quire.guest.mm.vma import Vma

__all__ = ["VSYSCALL_REGION", "Region", "maps_line", "maps_text", "regions"]

_NAME_COLUMN = 73


@dataclass(frozen=True, slots=True)
class Region:
    """One line of /proc/self/maps. `permissions` reads like ``rw-p``; `offset` is in bytes."""

    start: int
    end: int
    permissions: str
    offset: int
    device: int
    inode: int
    name: bytes


#: The page that every process has, though no area is there.
VSYSCALL_REGION = Region(VSYSCALL, VSYSCALL + PAGE_4K, "--xp", 0, 0, 0, b"[vsyscall]")


def regions(areas: Iterable[Vma]) -> list[Region]:
    """Return the record of each area, in the order given."""
    return [_region(vma) for vma in areas]


def maps_text(areas: Iterable[Vma]) -> bytes:
    """Return what a program reads from /proc/self/maps: its areas, and the page that every process has."""
    return b"".join(map(maps_line, (*regions(areas), VSYSCALL_REGION)))


def _region(vma: Vma) -> Region:
    permissions = "".join(
        letter if vma.prot & bit else "-"
        for letter, bit in (("r", PROT_READ), ("w", PROT_WRITE), ("x", PROT_EXEC))
    )
    device, inode = 0, 0
    name = vma.name
    if vma.backing is not None:
        name = name or vma.backing.name
        # Shared anonymous memory has no device; the kernel shows its internal tmpfs, 00:01.
        device, inode = vma.backing.key if isinstance(vma.backing, FileBacking) else (1, vma.backing.key[1])
    return Region(
        vma.start, vma.end, permissions + ("s" if vma.shared else "p"), vma.offset, device, inode, name
    )


def maps_line(region: Region) -> bytes:
    """Return the line of one area."""
    device = f"{os.major(region.device):02x}:{os.minor(region.device):02x}"
    where = f"{region.start:08x}-{region.end:08x} {region.permissions} {region.offset:08x}"
    text = f"{where} {device} {region.inode} ".encode()
    if region.name:
        text = text.ljust(_NAME_COLUMN) + region.name.replace(b"\n", b"\\012")
    return text + b"\n"
