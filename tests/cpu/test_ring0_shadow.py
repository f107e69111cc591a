"""Ring-0 guests that test what shadow paging follows: tables written in use, mapped by themselves, used as data."""

from agreement import SMALL_PAGES, agree

AD, A = 0x60, 0x20


def test_tables_are_written_while_they_are_used() -> None:
    """The PTE of the page that executes, of the stack, of the table that holds the PTE; then each level above."""
    agree(
        SMALL_PAGES
        + """
    mov esi, 0x12000            # the page that executes, and a copy of it with another constant
    mov edi, 0x312000
    mov ecx, 0x2000
    rep movsb
    lea rbx, [rip + constant]
    mov qword ptr [rbx + 0x300000], 2
    report [rbx]
    store 0x204090, 0x312003
    store 0x204098, 0x313003
    invlpg [0x12000]
    invlpg [0x13000]
    report [rip + constant]
    push 77                     # the stack: page 0xf000 moves to 0x320000
    mov esi, 0xf000
    mov edi, 0x320000
    mov ecx, 0x1000
    rep movsb
    store 0x204078, 0x320003
    invlpg [rsp]
    pop rbx
    report rbx
    push 78
    report [0x320ff8]
    pop rbx
    store 0x205028, 0x330003    # linear 0x205000, the table that holds this PTE, is now other memory
    invlpg [0x205000]
    store 0x205030, 0x331003    # so that this does nothing yet
    report [0x330030]
    invlpg [0x206000]
    store 0x206000, 5
    report [0x206000]
    report [0x331000]
    mov rax, 0x205003           # back, through a page table that is mapped elsewhere
    store 0x203000, 0x205003
    mov rbx, 0x400000
    report [rbx + 0x28]
    mov [rbx + 0x28], rax
    invlpg [0x205000]
    report [0x205028]
    finish
constant: .quad 1
    """,
        [1, 2, 77, 78, 0x331003, 5, 0, 0x330003 | AD, 0x205003 | A],
    )


def test_entries_above_the_leaves_are_written_while_they_are_used() -> None:
    """Another page table, page directory, PDPT and root for the same addresses, INVLPG or MOV to CR3 after each."""
    agree(
        SMALL_PAGES
        + """
    store 0x300000, 0xa
    store 0x301000, 0xb
    store 0x302000, 0xc
    store 0x303000, 0xd
    store 0x203000, 0x300003
    store 0x206000, 0x301003        # another page table
    mov rbx, 0x400000
    report [rbx]
    store 0x202010, 0x206003
    invlpg [rbx]
    report [rbx]
    store 0x207010, 0x208003        # another page directory, for the second GiB as well
    store 0x208000, 0x302003
    store 0x201008, 0x207003
    mov rcx, 0x40400000
    report [rcx]
    store 0x201008, 0x202003
    invlpg [rcx]
    report [rcx]
    store 0x209000, 0x20a003        # another PDPT in slot 1, and the same in slot 2
    store 0x20a010, 0x203003
    store 0x200008, 0x209003
    store 0x200010, 0x209003
    mov rsi, 0x8000400000
    mov rdi, 0x10000400000
    report [rsi]
    report [rdi]
    store 0x203000, 0x303003
    invlpg [rsi]
    invlpg [rdi]
    report [rsi]
    report [rdi]
    store 0x209000, 0
    invlpg [rdi]
    invlpg [rsi]
    try mov rax, [rsi]
    try mov rax, [rdi]
    store 0x202010, 0
    mov rax, cr3
    mov cr3, rax
    try mov byte ptr [rbx], 1
    mov esi, 0x200000               # another root, whose slot 3 is slot 0
    mov edi, 0x20b000
    mov ecx, 0x1000
    rep movsb
    mov rax, [0x20b000]
    mov [0x20b018], rax
    mov rax, 0x20b000
    mov cr3, rax
    mov rsi, 0x18000303000
    report [rsi]
    mov qword ptr [rsi], 0xe
    report [0x303000]
    report [0x20b018]
    finish
    """,
        [
            *(0xA, 0xB, 0xC, 0xB, 0xA, 0xA, 0xD, 0xD),
            *(0x8000400000, 0, 0x10000400000, 0, 0x400000, 2, 0xD, 0xE, 0x201007 | A),
        ],
    )


WINDOW = """
    store 0x200ff8, 0x200003        # the root is its own entry 511
    mov r12, 0xffffff8000002000     # of 0x400000 the PTE,
    mov r13, 0xffffffffc0000010     # the PDE,
    mov r14, 0xffffffffffe00000     # the PDPTE,
    mov r15, 0xfffffffffffff000     # the PML4E
"""


def test_tables_are_mapped_by_themselves() -> None:
    """Slot 511 of the root: each table is read and edited as a page that the tables themselves map, at each level."""
    agree(
        SMALL_PAGES
        + WINDOW
        + """
    store 0x300000, 0xa
    store 0x301000, 0xb
    mov rbx, 0x400000
    mov qword ptr [r12], 0x300003
    report [rbx]
    mov qword ptr [r12], 0x301003
    invlpg [rbx]
    report [rbx]
    report [r12]
    store 0x206000, 0x300001
    mov qword ptr [r13], 0x206003
    invlpg [rbx]
    invlpg [r12]
    report [rbx]
    try mov qword ptr [rbx], 1
    report [r12]
    report [r13]
    or qword ptr [r12], 2
    invlpg [rbx]
    mov qword ptr [rbx], 0xc
    report [r12]
    mov qword ptr [r14 + 8], 0x202003
    report [rbx + 0x40000000]
    report [r14 + 8]
    mov qword ptr [r15 + 8], 0x201003
    mov rcx, 0x8000400000
    report [rcx]
    mov rax, 0xffffff8000000000 + (0x8000400000 >> 9)
    report [rax]
    mov qword ptr [rax], 0x301001
    invlpg [rcx]
    report [rcx]
    mov qword ptr [r15 + 8], 0
    invlpg [rcx]
    invlpg [rax]
    try mov rax, [rcx]
    try mov rax, [rax]
    report [r15 + 0xff8]
    report [0x200ff8]
    mov qword ptr [r15 + 0xff8], 0  # the window closes itself
    mov rax, cr3
    mov cr3, rax
    try mov qword ptr [r15], 0
    report [0x200ff8]
    finish
    """,
        [
            0xA,
            0xB,
            0x301023,
            0xA,
            0x400000,
            3,
            0x300021,
            0x206023,
            0x300063,
            0xC,
            0x202023,
            0xC,
            0x300063,
            0xB,
            0x8000400000,
            0,
            0xFFFFFF8040002000,
            0,
            0x200063,
            0x200063,
            0xFFFFFFFFFFFFF000,
            2,
            0,
        ],
    )


def test_a_large_entry_of_the_window() -> None:
    """A page directory that maps itself as a large page is a table in a large page that may be written."""
    agree(
        SMALL_PAGES
        + """
    store 0x202018, 0x2000e3        # 0x600000: the 2 MiB that hold all tables
    store 0x300000, 0xa
    store 0x600000 + 0x3000, 0x300003
    mov rbx, 0x400000
    report [rbx]
    mov qword ptr [0x600000 + 0x2010], 0
    invlpg [rbx]
    try mov rax, [rbx]
    mov qword ptr [0x600000 + 0x2010], 0x203003
    report [rbx]
    mov qword ptr [0x600000 + 0x2018], 0x2000e1 # of itself: no more writes
    invlpg [0x600000]
    try mov qword ptr [0x600000], 1
    try mov qword ptr [0x602010], 1
    report [0x602018]
    finish
    """,
        [
            0xA,
            0x400000,
            0,
            0xA,
            0x600000,
            3,
            0x602010,
            3,
            0x2000E1,
        ],
    )


def test_a_page_is_table_and_stack() -> None:
    """PUSH makes PTEs, then PDEs; INT pushes its frame among them."""
    agree(
        SMALL_PAGES
        + """
    gate 0x80, on_call
    store 0x300000, 0xa
    store 0x301000, 0xb
    mov r8, rsp
    mov rsp, 0x204000               # the end of page table 0x203000
    mov rbx, 0x5ff000
    mov rax, 0x300003
    push rax
    report [rbx]
    pop rax
    report rax
    mov rax, 0x301001
    push rax
    invlpg [rbx]
    report [rbx]
    try mov qword ptr [rbx], 9
    int 0x80
    try mov rax, [rbx - 0x5000]
    mov rsp, 0x203000               # the end of the page directory
    mov rbx, 0x3fe00000
    mov rax, 0x206003
    push rax
    store 0x206000, 0x300003
    report [rbx]
    int 0x80
    report [rbx]
    pop rax
    report rax
    mov rax, 0xe3                   # 2 MiB at 0
    push rax
    invlpg [rbx]
    report "[rbx + 0x12000]"
    int 0x80
    mov rsp, r8
    finish
on_call:
    report "[rsp]"
    report "[rsp + 8]"
    report "[rsp + 24]"
    iretq
    """,
        [
            0xA,
            0x300023,
            0xB,
            0x5FF000,
            3,
            0x12232,
            8,
            0x203FF8,
            0x5FA000,
            0,
            0xA,
            0x12282,
            8,
            0x202FF8,
            0xA,
            0x206023,
            0xE3,
            0x122E5,
            8,
            0x202FF8,
        ],
    )


def test_a_page_is_table_and_descriptor_table() -> None:
    """A GDT in a page table, then in a page directory; a segment load writes its accessed flag."""
    agree(
        SMALL_PAGES
        + """
    gate 13, on_protection
    .irp table, 0x203000, 0x202000
    mov esi, offset gdt
    mov edi, \\table + 0xf00
    mov ecx, gdtr - gdt
    rep movsb
    mov rax, 0x00cf92000000ffff     # data, not accessed
    mov [\\table + 0xf10], rax
    mov word ptr [0x340000], gdtr - gdt - 1
    mov qword ptr [0x340002], \\table + 0xf00
    lgdt [0x340000]
    mov ax, DATA
    mov ds, ax
    mov es, ax
    report [\\table + 0xf10]
    mov ax, USER_DATA               # SS at CPL 0 does not take it: #GP, with the selector
    mov ss, ax
    report [\\table + 0xf18]
    lar ebx, eax
    report rbx
    push CODE
    lea rax, [rip + 96f]
    push rax
    lretq
96:
    .endr
    finish
on_protection:
    report "[rsp]"
    add rsp, 8
    add qword ptr [rsp], 2
    iretq
    """,
        [
            0xCF93000000FFFF,
            0x18,
            0xCFF3000000FFFF,
            0xC0F300,
            0xCF93000000FFFF,
            0x18,
            0xCFF3000000FFFF,
            0xC0F300,
        ],
    )
