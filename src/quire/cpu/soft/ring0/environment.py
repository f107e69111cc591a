"""The engine's CPU state in memory: what its API cannot reach while the CPU is in SVM guest mode.

Facts, found by experiment with Unicorn 2.1.4 and checked again whenever an engine is made: the sixteen general
registers lie together, in the order of their encodings, in one of the objects that the engine's structure points to;
RIP, RFLAGS, the hidden flags (the CPL is in bits 1:0, guest mode in bit 21), the ten segment caches and CR0 to CR4
follow. A segment cache is (selector, base, limit, flags), its flags the upper word of a descriptor. STAR,
KERNEL_GS_BASE and the error code of the last exception are found by the values that they are made to have.
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from quire.arch import ACCESS_RIGHTS, CR0, CR4, EFER, LOW32
from quire.cpu.soft.cpu_state import STATE_BYTES, different_layout
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.tcg.offsets import GUEST_MODE

__all__ = [
    "CR4_INDEX",
    "EFLAGS_INDEX",
    "HFLAGS_INDEX",
    "SEGMENT_BYTES",
    "Environment",
    "Segment",
    "SegmentName",
]

_HFLAGS, _SEGMENTS, _CONTROL = 176, 184, 424
#: Bytes of one segment cache.
SEGMENT_BYTES = 24
_SEGMENTS_END = _SEGMENTS + 10 * SEGMENT_BYTES  # one for each SegmentName
#: Index in 32-bit words of the hidden flags and of RFLAGS, for compiled hooks.
HFLAGS_INDEX, EFLAGS_INDEX = _HFLAGS // 4, 136 // 4
#: Index of CR4, in 64-bit words.
CR4_INDEX = _CONTROL // 8 + 4
_CPL, _CODE_32, _STACK_32, _ADD_BASES, _CODE_64 = 3, 1 << 4, 1 << 5, 1 << 6, 1 << 15
_PROTECTED, _LONG_MODE = 1 << 7, 1 << 14
_OF_MODE = _CPL | _CODE_32 | _STACK_32 | _ADD_BASES | _CODE_64 | _PROTECTED | _LONG_MODE
_IN_SHADOW = 1 << 3
_FPU_SHIFT, _SSE, _SMAP = 8, 1 << 22, 1 << 23
_DPL_SHIFT, _BIG, _LONG = 13, 22, 1 << 21
_STAR, _KERNEL_GS_BASE, _EFER = 0xC0000081, 0xC0000102, 0xC0000080
_SVME = 1 << 12
_EFERS = (EFER.encode(SCE=1, LME=1, LMA=1, NXE=1), EFER.encode(SCE=1, LME=1, LMA=1) | _SVME)


class SegmentName(IntEnum):
    """The segment caches in the engine's order; the last two have a base and a limit only."""

    ES = 0
    CS = 1
    SS = 2
    DS = 3
    FS = 4
    GS = 5
    LDTR = 6
    TR = 7
    GDTR = 8
    IDTR = 9


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment register holds: `limit` in bytes, `rights` as the VMCS has them (SDM 3C §24.4.1)."""

    selector: int
    base: int
    limit: int
    rights: int


class Environment:
    """The CPU state of `engine`, which must not be in guest mode yet. Raises BackendError if it is not found."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.address = engine.state_address
        octets = (ctypes.c_uint8 * STATE_BYTES).from_address(self.address)
        self._octets = memoryview(octets).cast("B")
        self._halves = self._octets.cast("I")
        self._words = self._octets.cast("Q")
        self._star = self._find_msr(_STAR)
        self._kernel_gs_base = self._find_msr(_KERNEL_GS_BASE)
        self._efer = self._find_msr(_EFER, _EFERS)

    @property
    def hidden_flags(self) -> int:
        """The engine's hidden flags."""
        return self._halves[HFLAGS_INDEX]

    @property
    def cpl(self) -> int:
        """The current privilege level."""
        return self.hidden_flags & _CPL

    @property
    def in_shadow(self) -> bool:
        """Whether the instruction before, STI or a load of SS, keeps interrupts from coming in front of the next."""
        return bool(self.hidden_flags & _IN_SHADOW)

    @in_shadow.setter
    def in_shadow(self, value: bool) -> None:
        flags = self.hidden_flags & ~_IN_SHADOW
        self._halves[HFLAGS_INDEX] = flags | (_IN_SHADOW if value else 0)

    @property
    def guest_mode(self) -> bool:
        """Whether the CPU is in SVM guest mode."""
        return bool(self.hidden_flags & GUEST_MODE)

    @property
    def long_code(self) -> bool:
        """Whether the CPU executes 64-bit code, not compatibility mode."""
        return bool(self.hidden_flags & _CODE_64)

    @property
    def code_bits(self) -> int:
        """The default size of operands and addresses, as an instruction is decoded by: 64, 32 or 16."""
        if self.long_code:
            return 64
        return 32 if self.hidden_flags & _CODE_32 else 16

    def code_address(self, rip: int) -> int:
        """Return the linear address of code at `rip` (SDM 1 §3.3.3)."""
        return rip if self.long_code else self.segment(SegmentName.CS).base + rip & LOW32

    @property
    def error_code(self) -> int:
        """The error code of the last exception that the engine raised."""
        return self._engine.last_exception.error_code

    @property
    def star(self) -> int:
        """IA32_STAR, which SYSRET reads."""
        return self._words[self._star]

    @star.setter
    def star(self, value: int) -> None:
        self._words[self._star] = value

    @property
    def kernel_gs_base(self) -> int:
        """IA32_KERNEL_GS_BASE, which SWAPGS exchanges."""
        return self._words[self._kernel_gs_base]

    @kernel_gs_base.setter
    def kernel_gs_base(self, value: int) -> None:
        self._words[self._kernel_gs_base] = value

    def halves(self) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return a copy of the state as 32-bit words, to be compared before and after."""
        return np.frombuffer(self._octets, np.uint32).copy()

    def segments(self) -> bytes:
        """Return all segment caches as the engine holds them, to see whether one changed."""
        return bytes(self._octets[_SEGMENTS:_SEGMENTS_END])

    def segment(self, name: SegmentName) -> Segment:
        """Return one segment register."""
        at = _SEGMENTS + name * SEGMENT_BYTES
        flags = self._halves[at // 4 + 5]
        rights = flags >> 8 & ACCESS_RIGHTS.mask("type", "S", "DPL", "P", "AVL", "L", "DB", "G")
        if not ACCESS_RIGHTS.get(rights, "P"):
            rights |= ACCESS_RIGHTS.mask("unusable")
        base, limit = self._words[at // 8 + 1], self._halves[at // 4 + 4]
        return Segment(self._halves[at // 4] & 0xFFFF, base, limit, rights)

    def set_segment(self, name: SegmentName, segment: Segment) -> None:
        """Load one segment register; :meth:`settle` must follow the last."""
        at = _SEGMENTS + name * SEGMENT_BYTES
        self._halves[at // 4] = segment.selector
        self._words[at // 8 + 1] = segment.base
        self._halves[at // 4 + 4] = segment.limit
        self._halves[at // 4 + 5] = (segment.rights & 0xF0FF) << 8

    def settle(self) -> None:
        """Make the hidden flags follow from CS, SS, DS and ES, CR0 and EFER, which are loaded before."""
        code = self._halves[(_SEGMENTS + SegmentName.CS * SEGMENT_BYTES) // 4 + 5]
        stack = self._halves[(_SEGMENTS + SegmentName.SS * SEGMENT_BYTES) // 4 + 5]
        flags = self.hidden_flags & ~_OF_MODE
        if CR0.get(self._words[_CONTROL // 8], "PE"):
            flags |= _PROTECTED | stack >> _DPL_SHIFT & _CPL
        long_mode = EFER.get(self._words[self._efer], "LMA")
        flags |= _LONG_MODE if long_mode else 0
        if code & _LONG and long_mode:
            flags |= _CODE_32 | _STACK_32 | _CODE_64
        else:
            flags |= (_CODE_32 if code >> _BIG & 1 else 0) | (_STACK_32 if stack >> _BIG & 1 else 0)
            flags |= _ADD_BASES
        self._halves[HFLAGS_INDEX] = flags

    def set_control(self, cr0: int, cr4: int) -> None:
        """Give the engine the control registers as far as it acts on them: FPU, SSE, SMAP, TSD, FSGSBASE, UMIP."""
        self._words[_CONTROL // 8] = cr0 & ~CR0.mask("PG")
        self._words[CR4_INDEX] = cr4
        flags = self.hidden_flags & ~(CR0.mask("MP", "EM", "TS") << _FPU_SHIFT | _SSE | _SMAP)
        flags |= (cr0 & CR0.mask("MP", "EM", "TS")) << _FPU_SHIFT
        flags |= (_SSE if CR4.get(cr4, "OSFXSR") else 0) | (_SMAP if CR4.get(cr4, "SMAP") else 0)
        self._halves[HFLAGS_INDEX] = flags

    def set_efer(self, efer: int) -> None:
        """Give the engine EFER: it acts on SCE, and wants SVME in guest mode."""
        self._words[self._efer] = efer | _SVME

    def _find_msr(self, number: int, values: tuple[int, int] = (0x123456789ABC, 0x2B7D0BADCAFE)) -> int:
        """Return the index of the word that holds MSR `number`, which takes both `values`."""
        before = self._engine.read_msr(number)
        found: set[int] | None = None
        for value in values:
            self._engine.write_msr(number, value)
            words = np.frombuffer(self._octets, np.uint64)
            here = {int(n) for n in np.flatnonzero(words == value)}
            found = here if found is None else found & here
        self._engine.write_msr(number, before)
        if not found or len(found) != 1:
            raise different_layout(f"MSR {number:#x}")
        return found.pop()
