"""The state in which a 64-bit image is entered: flat segments, memory mapped at its own addresses, interrupts off.

A GDT at 0x1000, a PML4 at 0x2000, a page-directory-pointer table at 0x3000, from 0x4000 a page directory for each GiB,
which map the first 4 GiB at most with writable, executable supervisor pages of 2 MiB. No IDT, no TSS.
"""

import struct
from collections.abc import Callable, Sequence

from quire.arch import ACCESS_RIGHTS, CR0, CR4, EFER, LOW32, PAGE_SIZE, PDE_2M, PDPTE, PML4E, RFLAGS
from quire.machine import Vcpu

__all__ = ["CODE_64", "FLAT_DATA", "TABLES", "build_tables", "start_long_mode"]

#: Where the GDT is, the first of the tables.
TABLES = 0x1000
_PML4, _PDPT, _DIRECTORIES = 0x2000, 0x3000, 0x4000
_MOST_DIRECTORIES = 4
_LARGE = 2 << 20
#: Descriptors of a flat 64-bit code segment, and of flat data (SDM 3A §3.4.5).
CODE_64, FLAT_DATA = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
_FLAT = LOW32
_CODE_RIGHTS = ACCESS_RIGHTS.encode(type=11, S=1, P=1, L=1, G=1)
_DATA_RIGHTS = ACCESS_RIGHTS.encode(type=3, S=1, P=1, DB=1, G=1)
_TSS_RIGHTS = ACCESS_RIGHTS.encode(type=11, P=1)
_UNUSABLE = ACCESS_RIGHTS.mask("unusable")


def build_tables(write: Callable[[int, bytes], None], mapped: int, descriptors: Sequence[int]) -> None:
    """Write a GDT of `descriptors`, and page tables for the first `mapped` bytes."""
    write(TABLES, struct.pack(f"<{len(descriptors)}Q", *descriptors))
    large = min(mapped // _LARGE, _MOST_DIRECTORIES * 512)
    directories = -(-large // 512)
    write(_PML4, PML4E.encode(P=1, RW=1, addr=_PDPT).to_bytes(8, "little"))
    entries = [PDPTE.encode(P=1, RW=1, addr=_DIRECTORIES + PAGE_SIZE * n) for n in range(directories)]
    write(_PDPT, struct.pack(f"<{directories}Q", *entries))
    pages = [PDE_2M.encode(P=1, RW=1, PS=1, addr=_LARGE * n) for n in range(large)]
    write(_DIRECTORIES, struct.pack(f"<{large}Q", *pages))


def start_long_mode(vcpu: Vcpu, code: int, data: int, descriptors: int) -> None:
    """Put `vcpu` into 64-bit mode on those tables, with selectors `code` and `data` of so many `descriptors`.

    General registers and RIP stay as they are: 0.
    """
    vcpu.processor.reset(
        CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, PG=1),
        _PML4,
        CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1),
        EFER.encode(SCE=1, LME=1, LMA=1, NXE=1),
    )
    fields = {
        "guest_gdtr_base": TABLES,
        "guest_gdtr_limit": 8 * descriptors - 1,
        "guest_idtr_base": 0,
        "guest_idtr_limit": 0,
    }
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"):
        rights = {"cs": _CODE_RIGHTS, "tr": _TSS_RIGHTS, "ldtr": _UNUSABLE}.get(name, _DATA_RIGHTS)
        selector = {"cs": code, "tr": 0, "ldtr": 0}.get(name, data)
        fields[f"guest_{name}_selector"] = selector
        fields[f"guest_{name}_base"] = 0
        fields[f"guest_{name}_limit"] = 0xFFFF if name in ("tr", "ldtr") else _FLAT
        fields[f"guest_{name}_access_rights"] = rights
    vcpu.vmcs.write_many(**fields)
    vcpu.cpu.registers.write("rflags", RFLAGS.encode(always_1=1))
