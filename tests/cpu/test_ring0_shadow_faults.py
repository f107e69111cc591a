"""Ring-0 guests under shadow paging: large pages over every memory, stores that a fault cuts off, failing delivery."""

import pytest
from agreement import FAULTS, SMALL_PAGES, agree
from ring0_guest import SWITCH


@pytest.mark.parametrize("host_page", [4 << 10, 2 << 20], ids=["4K", "2M"])
def test_large_pages_over_small_and_large_memory(host_page: int) -> None:
    """2 MiB and 1 GiB pages with tables within them, splintered and joined; rights and flags of each."""
    agree(
        FAULTS
        + SWITCH
        + """
    store 0x202018, 0x600003            # no large page: its table is the page itself, which is empty
    try mov rax, [0x600010]
    store 0x202018, 0x6000e3            # 2 MiB that hold no table
    store 0x202020, 0x200083            # 2 MiB that hold all tables
    store 0x201008, 0x83                # 1 GiB at 0
    mov rbx, 0x600010
    invlpg [rbx]
    mov qword ptr [rbx], 0xa
    report [rbx]
    report [0x202018]
    mov rcx, 0x40600010
    mov qword ptr [rcx], 0xb
    report [rbx]
    report [0x201008]
    store 0x802010, 0x206003            # through the window of 2 MiB: another page table
    store 0x206000, 0x600003
    report [0x400010]
    mov rsi, 0x40206000                 # through the one of 1 GiB
    mov qword ptr [rsi], 0x601001
    invlpg [0x400000]
    try mov qword ptr [0x400010], 1
    report [rsi]
    store 0x207000, 0x600003
    mov qword ptr [0x202018], 0x207003  # large to small
    invlpg [rbx]
    mov qword ptr [rbx], 0xc
    report [0x207000]
    try mov rax, [rbx + 0x1000]
    mov qword ptr [0x202018], 0x600081  # and back, read-only
    invlpg [rbx]
    report "[rbx + 0x1000]"
    try mov [rbx], rax
    report [0x202018]
    mov qword ptr [0x202018], 0x602083  # a reserved bit
    invlpg [rbx]
    try mov rax, [rbx]
    mov rax, 0x80000000006000e3
    mov [0x202018], rax
    invlpg [rbx]
    mov qword ptr [0x600100], 0xc3
    lea rdx, [rip + 1f]
    lea rax, [0x600100]
    call rax
1:  mov qword ptr [0x201008], 0x40000083 # no memory is there, and nobody asks
    mov qword ptr [0x201008], 0x202003
    invlpg [rcx]
    report [rcx]
    finish
    """,
        [
            0x600010,
            0,
            0xA,
            0x6000E3,
            0xB,
            0xE3,
            0xB,
            0x400010,
            3,
            0x601001,
            0x600063,
            0x601010,
            0,
            0,
            0x600010,
            3,
            0x6000A1,
            0x600010,
            9,
            0x600100,
            0x11,
            0xC,
        ],
        host_page=host_page,
    )


def test_the_second_page_of_a_store_is_a_gap_or_a_fault() -> None:
    """A store that ends a page directory and begins a page that is new, then not present, then a page table."""
    agree(
        SMALL_PAGES
        + """
    store 0x207000, 0x203003            # a page directory for the second GiB; linear 0x20a000 follows it
    store 0x201008, 0x207003
    store 0x205038, 0x209003            # linear 0x207000 to 0x208fff is 0x209000, 0x207000
    store 0x205040, 0x207003
    store 0x205048, 0x30a003
    invlpg [0x207000]
    invlpg [0x208000]
    mov rbx, 0x7fe00000                 # by the last entry of that directory
    mov rax, 0x00203003
    try mov rcx, [rbx]
    mov [0x208ff8], rax
    store 0x203000, 0x300003
    report [rbx]
    mov rax, 0x1100000000206003
    mov [0x208ffb], rax                 # into both
    report [0x208ff8]
    report [0x30a000]
    mov rax, 0x203003
    mov [0x208ff8], rax                 # it must have been followed, and this must be
    invlpg [rbx]
    report [rbx]
    store 0x205048, 0
    invlpg [0x209000]
    mov rax, -1
    try mov [0x208ffc], rax             # a #PF: nothing may have been written
    report [0x208ff8]
    mov qword ptr [0x208ff8], 0         # nor may this be missed
    invlpg [rbx]
    try mov rcx, [rbx]
    finish
    """,
        [
            0x7FE00000,
            0,
            0,
            0x206003203023,
            0x110000,
            0,
            0x209000,
            2,
            0x203023,
            0x7FE00000,
            0,
        ],
    )


def test_a_double_fault_through_bad_tables() -> None:
    """#PF whose own gate, stack or handler's page is not present: #DF on its own stack; without its gate, shutdown."""
    agree(
        SMALL_PAGES
        + """
    gate 8, on_double, 1
    mov rbx, 0x400000
    mov r15, 3
    lea rdx, [rip + 1f]
    store 0x204060, 0                   # the stack's page
    mov rax, cr3
    mov cr3, rax
    mov rsp, 0xd000
    mov rax, [rbx]
1:  mov rsp, 0x10000
    lea rdx, [rip + 2f]
    store 0x203000, 0x300003            # an IDT whose gates from 8 on have a page of their own
    store 0x203008, 0x301003
    mov rsi, offset idt
    mov rdi, 0x400f80
    mov ecx, 0x1000
    rep movsb
    mov word ptr [0x340000], 0xfff
    mov qword ptr [0x340002], 0x400f80
    lidt [0x340000]
    try mov rax, [0x402000]
    lea rdx, [rip + 2f]
    store 0x203008, 0                   # without it there is no #PF, and no #DF
    invlpg [0x401000]
    mov rax, [0x402000]
2:  finish 1
on_double:
    report rsp
    report "[rsp]"
    report "[rsp + 32]"
    mov rax, cr2
    report rax
    add rsp, 8
    mov [rsp], rdx
    iretq
    """,
        [
            0xDFD0,
            0,
            0xD000,
            0xCFF8,
            0x402000,
            0,
        ],
        reason="stopped",
    )


@pytest.mark.parametrize(
    "ruin",
    [
        "mov qword ptr [0x200000], 0\nmov rax, cr3\nmov cr3, rax",
        "mov rax, 0x300000\nmov cr3, rax",
        "mov qword ptr [0x202000], 0x2083\nmov rax, cr3\nmov cr3, rax",
    ],
    ids=["no root entry", "empty root", "reserved bit"],
)
def test_a_triple_fault_through_bad_tables(ruin: str) -> None:
    """Tables that lose the page that executes: the handler is gone too."""
    seen = agree(SMALL_PAGES + ruin + "\nfinish 1\n", [], reason="stopped")
    assert seen.delivered == {}


def test_a_guest_that_takes_its_own_page_away_has_a_page_fault() -> None:
    """At the next instruction or, for want of a flush until then, the one after: its place is left out."""
    agree(
        SMALL_PAGES
        + """
    gate 14, elsewhere
    lea rbx, [rip]
    shr rbx, 12
    mov rcx, rbx
    and qword ptr [0x204000 + 8 * rbx], 0
    mov rax, cr3
    mov cr3, rax
    finish 1
    .balign 0x1000
elsewhere:                              # `report` needs the page that is gone
    mov rax, [rsp]
    out 0xe9, eax
    shr rax, 32
    out 0xe9, eax
    mov rax, cr2
    shr rax, 12
    sub rax, rcx
    out 0xe9, eax
    shr rax, 32
    out 0xe9, eax
    mov qword ptr [rsp + 8], 0
    finish
    """,
        [0x10, 0],
    )
