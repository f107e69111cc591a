"""What an image says of a processor: its registers, and what they mean for a walk."""

from dataclasses import dataclass, field

from quire.arch import CR0, CR4, EFER, GENERAL, RFLAGS, PagingMode, paging_mode
from quire.arch.segments import SELECTOR
from quire.paging import Context

__all__ = ["NOTE_REGISTERS", "NOTE_SEGMENTS", "ProcessorState", "SegmentState"]

#: General registers and segments in the order of QEMU's note.
NOTE_REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *GENERAL[8:])
NOTE_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One segment register; `flags` are bits 55:40 of the descriptor from bit 8 on, as in its upper half."""

    selector: int = 0
    limit: int = 0
    flags: int = 0
    base: int = 0


@dataclass(frozen=True, slots=True)
class ProcessorState:
    """The registers of one vCPU by their lower-case names: general ones, rip, rflags, cr0, cr2, cr3, cr4.

    `efer` is None where the image does not say it.
    """

    registers: dict[str, int]
    segments: dict[str, SegmentState] = field(default_factory=dict)
    efer: int | None = None

    def settings(self) -> dict[Context, int]:
        """Return the fields of a walk's context that the registers decide."""
        read = self.registers.get
        cr0, cr4, efer = read("cr0", 0), read("cr4", 0), self.efer or 0
        mode = paging_mode(cr0, cr4, efer)
        selector = self.segments.get("cs", SegmentState()).selector
        return {
            Context.CR3: read("cr3", 0),
            Context.MODE: mode,
            Context.NXE: EFER.get(efer, "NXE"),
            Context.WP: CR0.get(cr0, "WP"),
            Context.CD: CR0.get(cr0, "CD"),
            Context.PSE: CR4.get(cr4, "PSE"),
            Context.SMEP: CR4.get(cr4, "SMEP"),
            Context.SMAP: CR4.get(cr4, "SMAP"),
            Context.PKE: CR4.get(cr4, "PKE") if mode >= PagingMode.LEVEL_4 else 0,
            Context.PKS: CR4.get(cr4, "PKS") if mode >= PagingMode.LEVEL_4 else 0,
            Context.AC: RFLAGS.get(read("rflags", 0), "AC"),
            Context.USER: int(SELECTOR.get(selector, "RPL") == 3),
        }


def assumed_efer(cr0: int, cr4: int, *, long_mode: bool) -> int:
    """Return the EFER of an image whose notes leave it out: LMA if the file is of a processor in IA-32e mode.

    NXE is taken as 1 where it counts, in PAE, 4-level and 5-level paging: every system of today sets it.
    """
    wide = bool(CR0.get(cr0, "PG") and CR4.get(cr4, "PAE"))
    active = long_mode and wide
    return EFER.encode(LME=active, LMA=active, NXE=wide)
