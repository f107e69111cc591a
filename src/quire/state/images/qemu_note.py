"""The notes of a core as QEMU's dump-guest-memory writes them: one QEMUCPUState a vCPU, and the kernel's prstatus.

QEMU: ``target/i386/arch_dump.c`` and ``contrib/elf2dmp/qemu_elf.h``. The note holds CR0, CR2, CR3 and CR4, which is
all that a walk needs but for EFER. Fails with FormatError for a note that is shorter than its version.
"""

import struct

from quire.arch import WORD
from quire.errors import FormatError
from quire.state.images.processor import NOTE_REGISTERS, NOTE_SEGMENTS, ProcessorState, SegmentState

__all__ = ["decode_processor", "encode_processor", "encode_status"]

_VERSION = 1
_STATE = struct.Struct("<II18Q" + "IIIIQ" * len(NOTE_SEGMENTS) + "5QQ")
_KERNEL_GS = 8  # the last field; older notes end before it
_CONTROLS = ("cr0", "cr1", "cr2", "cr3", "cr4")
#: The 27 registers of x86_64 user_regs_struct, in the prstatus of a core.
_STATUS_ORDER = (
    "r15",
    "r14",
    "r13",
    "r12",
    "rbp",
    "rbx",
    "r11",
    "r10",
    "r9",
    "r8",
    "rax",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "orig_rax",
    "rip",
    "cs",
    "rflags",
    "rsp",
    "ss",
    "fs_base",
    "gs_base",
    "ds",
    "es",
    "fs",
    "gs",
)
_STATUS = struct.Struct(f"<32xI76x{len(_STATUS_ORDER)}Q8x")


def encode_processor(state: ProcessorState) -> bytes:
    """Return the content of a ``QEMU`` note."""
    values: list[int] = [_VERSION, _STATE.size]
    values += [state.registers.get(name, 0) for name in (*NOTE_REGISTERS, "rip", "rflags")]
    for name in NOTE_SEGMENTS:
        segment = state.segments.get(name, SegmentState())
        values += [segment.selector, segment.limit, segment.flags, 0, segment.base]
    values += [state.registers.get(name, 0) for name in (*_CONTROLS, "kernel_gs_base")]
    return _STATE.pack(*values)


def decode_processor(content: bytes) -> ProcessorState:
    """Return the registers in the content of a ``QEMU`` note; EFER is not among them."""
    if len(content) < _STATE.size - _KERNEL_GS:
        raise FormatError(
            f"QEMU's CPU note has {len(content):#x} bytes, its fields take {_STATE.size:#x}: "
            "the core was cut or is of another architecture"
        )
    values = _STATE.unpack(content[: _STATE.size].ljust(_STATE.size, b"\0"))
    names = (*NOTE_REGISTERS, "rip", "rflags")
    registers = dict(zip(names, values[2:20], strict=True))
    segments = {}
    for n, name in enumerate(NOTE_SEGMENTS):
        selector, limit, flags, _, base = values[20 + 5 * n : 25 + 5 * n]
        segments[name] = SegmentState(selector, limit, flags, base)
    controls = values[20 + 5 * len(NOTE_SEGMENTS) :]
    registers.update(zip((*_CONTROLS, "kernel_gs_base"), controls, strict=True))
    return ProcessorState(registers, segments)


def encode_status(state: ProcessorState, number: int) -> bytes:
    """Return the prstatus of vCPU `number`, from 0, for debuggers that know no QEMU note."""
    values = dict(state.registers)
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        segment = state.segments.get(name, SegmentState())
        values[name] = segment.selector
        values[f"{name}_base"] = segment.base
    values["orig_rax"] = WORD
    return _STATUS.pack(number + 1, *(values.get(name, 0) for name in _STATUS_ORDER))
