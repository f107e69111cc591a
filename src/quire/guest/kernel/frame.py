"""The signal frame: what the kernel puts on the user stack before a handler runs, and takes back afterwards.

Models ``struct rt_sigframe`` of Linux x86-64 (arch/x86/include/uapi/asm/sigcontext.h, ucontext.h) to the
byte, with an FXSAVE image and no XSAVE area, as on a processor without AVX. A frame read back comes from a
hostile guest: segments and flags that it may not choose are refused or kept.
"""

import struct
from dataclasses import dataclass

from quire.arch import GENERAL, RFLAGS
from quire.errors import InternalError
from quire.guest.kernel.actions import AltStack
from quire.guest.kernel.siginfo import SIGINFO_BYTES, SignalInfo
from quire.guest.mm.linux import ADDRESS_END

__all__ = [
    "FPU_BYTES",
    "FRAME_BYTES",
    "INITIAL_FPU",
    "MINIMUM_SIGNAL_STACK",
    "SAVED",
    "SIGINFO",
    "UCONTEXT",
    "Context",
    "Frame",
    "FrameError",
    "Place",
    "Trap",
    "checked_fpu",
    "decode_context",
    "encode_frame",
    "place_frame",
]

#: Registers in the order of ``struct sigcontext``, which continues with cs, gs, fs, ss, err, trapno.
SAVED = (
    *GENERAL[8:],
    "rdi",
    "rsi",
    "rbp",
    "rbx",
    "rdx",
    "rax",
    "rcx",
    "rsp",
    "rip",
    "rflags",
)

#: Offsets in the frame: the return address, then the ucontext, then siginfo.
UCONTEXT = 8
_MCONTEXT = UCONTEXT + 40
_UCONTEXT_BYTES = 304
SIGINFO = UCONTEXT + _UCONTEXT_BYTES
FRAME_BYTES = SIGINFO + SIGINFO_BYTES
FPU_BYTES = 512

_RED_ZONE = 128
_USER_CS, _USER_SS = 0x33, 0x2B
#: UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS; UC_FP_XSTATE is absent, there is no XSAVE area.
_UC_FLAGS = 6
_CONTEXT = struct.Struct("<18Q4H8Q")
#: What sigreturn may change (FIX_EFLAGS).
_USER_FLAGS = RFLAGS.mask("AC", "RF", "OF", "DF", "TF", "SF", "ZF", "AF", "PF", "CF")
_MXCSR_MASK = 0xFFFF
_MXCSR_AT = 24
#: The frame, the FXSAVE image and their alignments, as AT_MINSIGSTKSZ counts them.
MINIMUM_SIGNAL_STACK = (FRAME_BYTES + FPU_BYTES + 63 + 15 + 15) & ~15

#: x87 and SSE as the kernel gives them to a new program and to a handler: FCW 0x37F, MXCSR 0x1F80.
INITIAL_FPU = struct.pack("<H22xI", 0x37F, 0x1F80).ljust(FPU_BYTES, b"\0")


class FrameError(Exception):
    """A frame that sigreturn cannot take back, or one that does not fit: SIGSEGV for the guest."""


@dataclass(frozen=True, slots=True)
class Trap:
    """The last fault of the process: vector, error code and CR2, as sigcontext reports them."""

    vector: int = 0
    error_code: int = 0
    address: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame goes: the new stack pointer and the FXSAVE image above it."""

    frame: int
    fpu: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame says besides the registers."""

    restorer: int
    info: SignalInfo
    mask: int
    altstack: AltStack
    trap: Trap


@dataclass(frozen=True, slots=True)
class Context:
    """What sigreturn restores: registers by name, signal mask, signal stack, the FXSAVE image or 0."""

    registers: dict[str, int]
    mask: int
    altstack: AltStack
    fpu: int


def place_frame(rsp: int, altstack: AltStack | None) -> Place:
    """Return where the frame goes for stack pointer `rsp`: below it, or on `altstack`.

    `altstack` is the stack to switch to, or that the guest is on. Raises FrameError when the frame would not
    fit on it.
    """
    base = rsp - _RED_ZONE
    if altstack is not None and not altstack.contains(rsp):
        base = altstack.sp + altstack.size
    fpu = (base - FPU_BYTES) & ~63
    frame = ((fpu - FRAME_BYTES) & ~15) - 8
    if frame < 0 or (altstack is not None and not altstack.contains(frame)):
        raise FrameError("the signal frame does not fit on the signal stack")
    return Place(frame, fpu)


def encode_frame(place: Place, registers: list[int], frame: Frame) -> bytes:
    """Return the FRAME_BYTES of a frame; `registers` are those of SAVED."""
    context = _CONTEXT.pack(
        *registers,
        _USER_CS,
        0,  # gs and fs: their bases do not go through the frame
        0,
        _USER_SS,
        frame.trap.error_code,
        frame.trap.vector,
        frame.mask,
        frame.trap.address,
        place.fpu,
        0,
        0,
        0,
    )
    data = (
        struct.pack("<3Q", frame.restorer, _UC_FLAGS, 0)
        + frame.altstack.pack()
        + context.ljust(256, b"\0")
        + struct.pack("<Q", frame.mask)
        + frame.info.pack()
    )
    if len(data) != FRAME_BYTES:
        raise InternalError(f"the signal frame has {len(data)} bytes and not {FRAME_BYTES}.")
    return data


def decode_context(data: bytes, rflags: int) -> Context:
    """Return what the frame `data` restores; `rflags` are the present ones. Raises FrameError."""
    words = _CONTEXT.unpack_from(data, _MCONTEXT)
    registers = dict(zip(SAVED, words, strict=False))
    if registers["rip"] >= ADDRESS_END:
        raise FrameError(f"the signal frame returns to {registers['rip']:#x}, outside user space")
    if words[18] | 3 != _USER_CS:
        raise FrameError(f"the signal frame has code segment {words[18]:#x}; 64-bit code has {_USER_CS:#x}")
    registers["rflags"] = (rflags & ~_USER_FLAGS) | (registers["rflags"] & _USER_FLAGS)
    stack = AltStack.unpack(data[UCONTEXT + 16 : UCONTEXT + 40])
    (mask,) = struct.unpack_from("<Q", data, UCONTEXT + 296)
    return Context(registers, mask, stack, words[26])


def checked_fpu(image: bytes) -> bytes:
    """Return an FXSAVE image that the processor will load. Raises FrameError when MXCSR has reserved bits."""
    (mxcsr,) = struct.unpack_from("<I", image, _MXCSR_AT)
    if mxcsr & ~_MXCSR_MASK:
        raise FrameError(f"the signal frame has MXCSR {mxcsr:#x}, whose high bits are reserved")
    return image
