"""What a check must know of the entries of one dimension: present, leaf, reserved bits, rights, memory type.

All of it on whole tables at a time, as arrays of entries.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import (
    EPT_MEMORY_TYPES,
    EPT_PTE,
    EPTP,
    PAE_PDPTE,
    PDE,
    PTE,
    Layout,
    MemoryType,
    PagingMode,
    combined_memory_type,
    entry_layout,
    ept_layout,
    pat_index,
    pat_memory_type,
)
from quire.paging.context import Context

__all__ = ["EptForm", "Form", "GuestForm", "Words"]

Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
_PS = PDE.mask("PS")
#: Rights on the way down, one bit each.
WRITE, EXECUTE, USER = 1, 2, 4


class Form(Protocol):
    """One dimension's entries. `mode` gives the geometry; `subject` its name in findings."""

    subject: str
    mode: PagingMode
    top: int
    entry_bytes: int
    attributes: int  #: bits of a leaf that must be alike for two pages to count as alike

    def present(self, entries: Words) -> Bools:
        """Which entries are used at all."""
        ...

    def maps_page(self, level: int) -> bool:
        """Whether PS = 1 makes a leaf at `level`."""
        ...

    def layout(self, level: int, leaf: bool) -> Layout:
        """The form of an entry."""
        ...

    def forbidden(self, level: int, leaf: bool) -> int:
        """Bits that must be 0 in a present entry."""
        ...

    def width_of(self, bits: int) -> str:
        """Which of the forbidden bits are so because of MAXPHYADDR, in words."""
        ...

    def breaches(self, entries: Words, leaf: bool) -> list[tuple[str, Bools]]:
        """Rules by name with the entries that break them, reserved bits aside."""
        ...

    def rights(self, entry: Words, above: int, level: int) -> npt.NDArray[np.int64]:
        """WRITE, EXECUTE and USER of each entry under those of the tables above."""
        ...

    def exposed(self, rights: int) -> str | None:
        """The rule that a page with these rights breaks, as ``rule`` or ``rule:who``; None if none."""
        ...

    def memory_type(self, entry: int, level: int) -> MemoryType | None:
        """The memory type of a leaf, None if it is reserved."""
        ...

    def large_page(self, level: int) -> bool:
        """Whether the processor maps a page one level above `level`."""
        ...


class GuestForm:
    """The guest's own entries in a paging mode, under the controls of a context (as plain integers)."""

    subject = "guest"

    def __init__(self, state: list[int]) -> None:
        self._state = state
        self.mode = PagingMode(state[Context.MODE])
        self.top = int(self.mode)
        self.entry_bytes = 4 if self.mode is PagingMode.BITS_32 else 8
        self.attributes = PTE.mask("P", "RW", "US", "PWT", "PCD", "PAT", "G", "pkey", "XD")
        self._has_xd = bool(state[Context.NXE]) and self.mode is not PagingMode.BITS_32

    def present(self, entries: Words) -> Bools:
        """Which entries have P = 1."""
        return np.asarray((entries & np.uint64(PTE.mask("P"))) != 0)

    def maps_page(self, level: int) -> bool:
        """SDM 3A §4.3 to §4.5."""
        if self.mode is PagingMode.BITS_32:
            return level == 2 and bool(self._state[Context.PSE])
        return 2 <= level <= (2 if self.mode is PagingMode.PAE else 3)

    def layout(self, level: int, leaf: bool) -> Layout:
        """The layout in this mode."""
        return entry_layout(level, leaf, self.mode)

    def forbidden(self, level: int, leaf: bool) -> int:
        """Reserved bits of the layout, and those that MAXPHYADDR, NXE and missing 1 GiB pages add."""
        layout, state = self.layout(level, leaf), self._state
        if self.mode is PagingMode.BITS_32:
            return layout.reserved_mask | (state[Context.PSE_RESERVED] if leaf and level == 2 else 0)
        mask = layout.reserved_mask | state[Context.RESERVED]
        if layout is not PAE_PDPTE and not state[Context.NXE]:
            mask |= layout.mask("XD")
        if leaf and level == 3 and not state[Context.PAGE_1G]:
            mask |= _PS
        return mask

    def width_of(self, bits: int) -> str:
        """Nothing in 32-bit paging, whose entries have no bit that high."""
        return "" if self.mode is PagingMode.BITS_32 else beyond_width(bits, self._state)

    def breaches(self, entries: Words, leaf: bool) -> list[tuple[str, Bools]]:
        """Guest entries have reserved bits only."""
        del entries, leaf
        return []

    def rights(self, entry: Words, above: int, level: int) -> npt.NDArray[np.int64]:
        """SDM 3A §4.6.1: the AND of R/W and of U/S, no XD anywhere. A PAE PDPTE restricts nothing."""
        found = np.full(len(entry), above, np.int64)
        if self.mode is PagingMode.PAE and level == 3:
            return found
        found[(entry & np.uint64(PTE.mask("RW"))) == 0] &= ~WRITE
        found[(entry & np.uint64(PTE.mask("US"))) == 0] &= ~USER
        if self._has_xd:
            found[(entry & np.uint64(PTE.mask("XD"))) != 0] &= ~EXECUTE
        return found

    def exposed(self, rights: int) -> str | None:
        """Without XD every page would be one: that is one finding of its own."""
        if not self._has_xd or not (rights & WRITE and rights & EXECUTE):
            return None
        return "writable and executable:" + ("user" if rights & USER else "supervisor")

    def memory_type(self, entry: int, level: int) -> MemoryType | None:
        """What the PAT says (SDM 3A §4.9.2)."""
        layout = self.layout(level, True)
        bits = (layout.get(entry, name) for name in ("PWT", "PCD", "PAT"))
        return pat_memory_type(self._state[Context.PAT], pat_index(*bits))

    def large_page(self, level: int) -> bool:
        """4 MiB, 2 MiB or 1 GiB."""
        return self.maps_page(level + 1) and (level == 1 or bool(self._state[Context.PAGE_1G]))


class EptForm:
    """EPT entries under an EPT pointer and the capabilities of a context."""

    subject = "EPT"
    entry_bytes = 8

    def __init__(self, state: list[int]) -> None:
        self._state = state
        self.top = EPTP.get(state[Context.EPTP], "walk_length") + 1
        self.mode = PagingMode.LEVEL_5 if self.top == 5 else PagingMode.LEVEL_4
        self.attributes = EPT_PTE.mask(
            "R",
            "W",
            "X",
            "MT",
            "IPAT",
            "XU",
            "verify_guest_paging",
            "paging_write",
            "SSS",
            "SPP",
            "suppress_VE",
        )

    def present(self, entries: Words) -> Bools:
        """Which entries allow anything."""
        mask = EPT_PTE.mask("R", "W", "X", "XU") if self._state[Context.MBEC] else EPT_PTE.mask("R", "W", "X")
        return np.asarray((entries & np.uint64(mask)) != 0)

    def maps_page(self, level: int) -> bool:
        """2 MiB and 1 GiB."""
        return level in (2, 3)

    def layout(self, level: int, leaf: bool) -> Layout:
        """The layout of an EPT entry."""
        return ept_layout(level, leaf)

    def forbidden(self, level: int, leaf: bool) -> int:
        """Reserved bits of the layout, and those that MAXPHYADDR and missing page sizes add."""
        mask = self.layout(level, leaf).reserved_mask | self._state[Context.RESERVED]
        offered = {1: True, 2: self._state[Context.EPT_2M], 3: self._state[Context.EPT_1G]}
        return mask | _PS if leaf and not offered[level] else mask

    def width_of(self, bits: int) -> str:
        """As in the guest's entries."""
        return beyond_width(bits, self._state)

    def breaches(self, entries: Words, leaf: bool) -> list[tuple[str, Bools]]:
        """SDM 3C §28.3.3.1."""
        read = (entries & np.uint64(EPT_PTE.mask("R"))) != 0
        write = (entries & np.uint64(EPT_PTE.mask("W"))) != 0
        found = [("EPT write without read", write & ~read)]
        if not self._state[Context.EPT_EXECUTE_ONLY]:
            found.append(("EPT execute-only", ~read & ~write))
        if leaf:
            types = (entries & np.uint64(EPT_PTE.mask("MT"))) >> np.uint64(EPT_PTE.shift("MT"))
            legal = np.array([one in EPT_MEMORY_TYPES for one in range(8)])
            found.append(("EPT memory type", ~legal[types.astype(np.int64)]))
        return found

    def rights(self, entry: Words, above: int, level: int) -> npt.NDArray[np.int64]:
        """SDM 3C §28.3.3.2: the AND of bits 1 and of bits 2, or 10 with mode-based execute control."""
        del level
        execute = EPT_PTE.mask("X", "XU") if self._state[Context.MBEC] else EPT_PTE.mask("X")
        found = np.full(len(entry), above, np.int64)
        found[(entry & np.uint64(EPT_PTE.mask("W"))) == 0] &= ~WRITE
        found[(entry & np.uint64(execute)) == 0] &= ~EXECUTE
        return found

    def exposed(self, rights: int) -> str | None:
        """Usual for a hypervisor that leaves protection to the guest."""
        return "EPT writable and executable" if rights & WRITE and rights & EXECUTE else None

    def memory_type(self, entry: int, level: int) -> MemoryType | None:
        """EPT's own type; what a guest's PAT adds to it is not looked at."""
        del level
        encoded = EPT_PTE.get(entry, "MT")
        if encoded not in set(EPT_MEMORY_TYPES):
            return None
        ignore = bool(EPT_PTE.get(entry, "IPAT"))
        return combined_memory_type(MemoryType(encoded), ignore, MemoryType.WB)

    def large_page(self, level: int) -> bool:
        """By capability."""
        return bool(self._state[Context.EPT_2M if level == 1 else Context.EPT_1G]) if level < 3 else False


def entry_name(form: Form, level: int, leaf: bool) -> str:
    """Return the name of an entry in findings."""
    return form.layout(level, leaf).title


def beyond_width(bits: int, state: list[int]) -> str:
    """Say that `bits` are beyond the physical-address width, if any is."""
    if not bits & state[Context.RESERVED]:
        return ""
    return f", beyond MAXPHYADDR, {52 - state[Context.RESERVED].bit_count()} (--maxphyaddr N)"
