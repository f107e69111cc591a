"""Saves what a guest of Quire has in memory, with its registers, before the guest's memory goes.

Under ept the image is guest-physical memory, page for page what EPT maps; EPT itself is the hypervisor's and is not
in it, unless both dimensions are asked for: then it is the host-physical memory that was ever touched, and a note of
Quire's own has the EPT pointer. Under native there is only host-physical memory, guest and tables alike.
"""

from collections.abc import Container, Iterator
from typing import BinaryIO

from quire.arch import ACCESS_RIGHTS, PAGE_SHIFT, PAGE_SIZE
from quire.machine import Vcpu
from quire.memory import HostMemory, OwnerKind
from quire.paging import Context
from quire.state.images.core_writer import MemoryRange, write_core
from quire.state.images.processor import NOTE_REGISTERS, ProcessorState, SegmentState

__all__ = ["save_image"]

_SCAN = 512  # frames asked for at a time
_DESCRIPTOR_SHIFT = 8  # QEMU keeps access rights where a descriptor's upper half has them
_SEGMENTS = {
    "cs": "cs",
    "ds": "ds",
    "es": "es",
    "fs": "fs",
    "gs": "gs",
    "ss": "ss",
    "ldt": "ldtr",
    "tr": "tr",
}


def save_image(vcpu: Vcpu, file: BinaryIO, *, cr2: int = 0, with_ept: bool = False) -> None:
    """Write an ELF core of the guest to `file`, both dimensions `with_ept`. Raises OSError if it cannot be written."""
    memory = vcpu.host.memory
    if vcpu.mmu.mapped is not None and not with_ept:
        places = [(one.start, one.target, one.size) for one in vcpu.mmu.mapped.memory_map.mappings()]
    else:
        secrets = set(vcpu.host.pool.frames_held(OwnerKind.SECURE).tolist())
        places = [(start, start, size) for start, size in _touched(memory, secrets)]
    eptp = int(vcpu.mmu.context[Context.EPTP]) if with_ept else 0
    ranges = [_range(memory, *place) for place in _joined(places)]
    write_core(file, ranges, [_processor(vcpu, cr2)], eptp=eptp)


def _joined(places: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join neighbours whose frames are neighbours too: fewer segments."""
    found: list[tuple[int, int, int]] = []
    for start, target, size in places:
        if found and (start, target) == (found[-1][0] + found[-1][2], found[-1][1] + found[-1][2]):
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + size)
        else:
            found.append((start, target, size))
    return found


def _range(memory: HostMemory, start: int, hpa: int, size: int) -> MemoryRange:
    def is_hole(offset: int, length: int) -> bool:
        return memory.is_hole(hpa + offset >> PAGE_SHIFT, length >> PAGE_SHIFT)

    return MemoryRange(start, memory.octets.data[hpa : hpa + size], is_hole)


def _touched(memory: HostMemory, secrets: Container[int]) -> Iterator[tuple[int, int]]:
    """Yield first address and size of each frame that the kernel backs, but for `secrets`."""
    for chunk in range(0, memory.frame_count, _SCAN):
        count = min(_SCAN, memory.frame_count - chunk)
        if not memory.is_hole(chunk, count):
            for frame in range(chunk, chunk + count):
                if frame not in secrets and not memory.is_hole(frame, 1):
                    yield frame << PAGE_SHIFT, PAGE_SIZE


def _processor(vcpu: Vcpu, cr2: int) -> ProcessorState:
    read, field = vcpu.cpu.registers.read, vcpu.vmcs.read
    registers = {name: read(name) for name in (*NOTE_REGISTERS, "rip", "rflags")}
    registers |= {"cr0": field("guest_cr0"), "cr2": cr2, "cr4": field("guest_cr4")}
    registers["cr3"] = int(vcpu.mmu.guest_context[Context.CR3])
    segments = {}
    for name, segment in _SEGMENTS.items():
        rights = field(f"guest_{segment}_access_rights") & ~ACCESS_RIGHTS.mask("unusable")
        selector, limit = field(f"guest_{segment}_selector"), field(f"guest_{segment}_limit")
        base = read(f"{name}_base") if name in ("fs", "gs") else field(f"guest_{segment}_base")
        segments[name] = SegmentState(selector, limit, rights << _DESCRIPTOR_SHIFT, base)
    for name in ("gdt", "idt"):
        segments[name] = SegmentState(0, field(f"guest_{name}r_limit"), 0, field(f"guest_{name}r_base"))
    return ProcessorState(registers, segments)
