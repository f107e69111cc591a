"""One ring-0 guest under every Mmu: equal reports, equal end, equal guest memory, flags of its tables included."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from ring0_guest import SWITCH, assemble, reported

from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine import CachingMode
from quire.mmu import ShadowOptions
from quire.mmu.backed import BackedMmu

MEMORY = 8 << 20
_PAGE = 0x1000
_SECONDS = 30.0

#: (Mmu, detail, audit). The first is what the others are held to.
RUNS = (
    ("native", Detail.EXITS, False),
    ("native", Detail.FULL, False),
    ("ept", Detail.EXITS, False),
    ("ept", Detail.FULL, False),
    ("shadow", Detail.EXITS, True),
    ("shadow", Detail.FULL, False),
)

#: And once more for each way of caching, under one Mmu each, so that a run costs little.
CACHING = (("ept", CachingMode.RETAIN), ("native", CachingMode.EVICT))

#: A handler that reports CR2 and error code, and goes on where RDX says; `try` sets it behind one instruction.
FAULTS = """
.macro try code:vararg
    lea rdx, [rip + 98f]
    \\code
98:
.endm
.macro fill table, entry, count
    mov rdi, \\table
    mov rax, \\entry
    mov ecx, \\count
97: mov [rdi], rax
    add rdi, 8
    add rax, 0x1000
    loop 97b
.endm
    gate 14, on_fault
    jmp begin
on_fault:
    push rbx
    mov rbx, cr2
    report rbx
    report "[rsp + 8]"
    pop rbx
    add rsp, 8
    mov [rsp], rdx
    iretq
begin:
"""
#: The same on tables of the guest's own (see ring0_guest.SWITCH), every page of the first 4 MiB on its own entry:
#: page tables at 0x204000 for the first 2 MiB and 0x205000 for the second.
SMALL_PAGES = (
    FAULTS
    + SWITCH
    + """
    fill 0x204000, 3, 512
    fill 0x205000, 0x200003, 512
    store 0x202000, 0x204007
    store 0x202008, 0x205007
    mov rax, cr3
    mov cr3, rax
"""
)


class Seen(NamedTuple):
    """What a guest shows of itself, and its memory in pages."""

    reason: str
    status: int | None
    values: list[int]
    delivered: dict[int, int]
    memory: list[bytes]


def pages(guest: BareGuest, size: int = MEMORY) -> list[bytes]:
    """Return all guest memory by page; what is not backed yet reads as zero."""
    mmu = guest.vcpu.mmu
    if not isinstance(mmu, BackedMmu):
        whole = guest.read(0, size)
        return [whole[at : at + _PAGE] for at in range(0, size, _PAGE)]
    zero = bytes(_PAGE)
    return [
        guest.read(gpa, _PAGE) if mmu.memory_map.target(gpa) is not None else zero
        for gpa in range(0, size, _PAGE)
    ]


def see(image: bytes, mmu: str, detail: Detail, *, audit: bool = False, **options: Any) -> Seen:
    """Run `image` and return what it showed."""
    shadow = ShadowOptions(audit=audit)
    seconds = options.pop("seconds", _SECONDS)
    guest = BareGuest(image, bare_config(memory=MEMORY, mmu=mmu, shadow=shadow, **options), detail=detail)
    try:
        outcome = guest.run(seconds)
        return Seen(outcome.reason, outcome.status, reported(outcome), outcome.delivered, pages(guest))
    finally:
        guest.close()


def same_memory(one: Sequence[bytes], other: Sequence[bytes]) -> None:
    """Assert equal memory, naming the first word that differs."""
    for number, (left, right) in enumerate(zip(one, other, strict=True)):
        if left != right:
            words = zip(struct.unpack("<512Q", left), struct.unpack("<512Q", right), strict=True)
            at, (a, b) = next((n, pair) for n, pair in enumerate(words) if pair[0] != pair[1])
            raise AssertionError(f"GPA {number * _PAGE + 8 * at:#x} holds {a:#x} and {b:#x}")


def agree(
    source: str,
    expected: list[int] | None,
    *,
    reason: str = "exited",
    host_page: int = _PAGE,
    runs: Sequence[tuple[str, Detail, bool]] = RUNS,
) -> Seen:
    """Assert that the guest `source` reports `expected` and ends for `reason` under every Mmu, memory equal too."""
    first: Seen | None = None
    for mmu, detail, audit in runs:
        seen = see(assemble(source), mmu, detail, audit=audit, host_page=host_page)
        name = f"{mmu}, {detail.name}"
        assert seen.reason == reason, (name, seen.reason, [hex(value) for value in seen.values])
        if expected is not None:
            assert [hex(value) for value in seen.values] == [hex(value) for value in expected], name
        if first is None:
            first = seen
        assert seen[:4] == first[:4], name
        same_memory(first.memory, seen.memory)
    assert first is not None
    for mmu, caching in CACHING:
        seen = see(assemble(source), mmu, Detail.EXITS, host_page=host_page, caching=caching)
        assert seen[:4] == first[:4], f"{mmu}, {caching}"
        same_memory(first.memory, seen.memory)
    return first
