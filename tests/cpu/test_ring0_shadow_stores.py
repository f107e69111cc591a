"""Ring-0 guests under shadow paging: what needs no flush, flags set again, stores of every kind into tables."""

from agreement import SMALL_PAGES, agree


def test_no_flush_is_needed_where_the_manual_asks_for_none() -> None:
    """Not present to present at each level, more rights, flags set by hand (SDM 3A §4.10.4.3)."""
    agree(
        SMALL_PAGES
        + """
    store 0x300000, 0xa
    mov rbx, 0x400000
    try mov rax, [rbx]
    store 0x203000, 0x300001
    report [rbx]
    try mov qword ptr [rbx], 1
    store 0x203000, 0x300003
    mov qword ptr [rbx], 0xb
    store 0x203008, 0x301063
    mov qword ptr [rbx + 0x1000], 0xc
    store 0x203010, 0x300001
    report [rbx + 0x2000]
    or qword ptr [0x203010], 0x62
    mov qword ptr [rbx + 0x2000], 0xd
    mov rcx, 0x80400000
    .irp entry, 0x201010, 0x207010, 0x208000
    try mov rax, [rcx]
    .endr
    store 0x201010, 0x207003
    try mov rax, [rcx]
    store 0x207010, 0x208001
    try mov rax, [rcx]
    store 0x208000, 0x301003
    report [rcx]
    try mov qword ptr [rcx], 1
    or qword ptr [0x207010], 2
    mov qword ptr [rcx], 0xe
    report [0x301000]
    mov rax, 0x8000000000302003
    mov [0x208008], rax
    mov byte ptr [0x302000], 0xc3
    mov rdx, offset 1f
    mov rax, rcx
    add rax, 0x1000
    call rax
1:  btr qword ptr [0x208008], 63
    call rax
    store 0x203018, 0
    try mov rax, [rbx + 0x3000]
    mov rax, 0x302003
    lock xchg [0x203018], rax
    report "[rbx + 0x3000]"
    finish
    """,
        [
            0x400000,
            0,
            0xA,
            0x400000,
            3,
            0xB,
            0x80400000,
            0,
            0x80400000,
            0,
            0x80400000,
            0,
            0x80400000,
            0,
            0x80400000,
            0,
            0xC,
            0x80400000,
            3,
            0xE,
            0x80401000,
            0x11,
            0x403000,
            0,
            0xC3,
        ],
    )


def test_accessed_and_dirty_flags_are_cleared_and_set_again() -> None:
    """At every level, with INVLPG after: each access sets what it should, and no more."""
    agree(
        SMALL_PAGES
        + """
    .macro flags
    report [0x203000]
    report [0x202010]
    report [0x201000]
    report [0x200000]
    .endm
    .macro clear mask
    and qword ptr [0x203000], ~\\mask
    and qword ptr [0x202010], ~\\mask
    invlpg [0x400000]
    .endm
    mov rbx, 0x400000
    store 0x203000, 0x300003
    mov rax, [rbx]
    flags
    clear 0x60
    flags
    mov rax, [rbx]
    flags
    mov [rbx], rax
    flags
    clear 0x40
    flags
    mov rax, [rbx]
    flags
    clear 0x20
    mov byte ptr [rbx], 0xc3
    flags
    clear 0x60
    call rbx
    flags
    and qword ptr [0x201000], ~0x20
    and qword ptr [0x200000], ~0x20
    mov rax, cr3
    mov cr3, rax
    flags
    store 0x202018, 0x200000 | P | RW | PS
    mov rax, [0x600000]
    report [0x202018]
    and qword ptr [0x202018], ~0x20
    invlpg [0x700000]
    mov [0x7ff000], rax
    report [0x202018]
    and qword ptr [0x202018], ~0x60
    invlpg [0x600000]
    mov rax, [0x600000]
    report [0x202018]
    finish
    """,
        [
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x300003,
            0x203007,
            0x202027,
            0x201027,
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x300063,
            0x203027,
            0x202027,
            0x201027,
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x300063,
            0x203027,
            0x202027,
            0x201027,
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x300023,
            0x203027,
            0x202027,
            0x201027,
            0x2000A3,
            0x2000E3,
            0x2000A3,
        ],
    )


def test_string_and_locked_instructions_on_tables() -> None:
    """REP STOS and MOVS over tables, stores across two tables, XCHG, CMPXCHG and LOCK on entries."""
    agree(
        SMALL_PAGES
        + """
    fill 0x300000, 0x30100001, 512
    mov rbx, 0x400000
    mov edi, 0x203000
    mov rax, 0x300003
    mov ecx, 512
    rep stosq
    report [rbx]
    mov byte ptr [rbx + 0x1ff000], 5
    report [rbx]
    mov esi, 0x202000               # the used entries of a page directory, byte by byte onto themselves
    mov edi, 0x202000
    mov ecx, 32
    rep movsb
    report [rbx]
    store 0x207000, 0x203003
    store 0x208000, 0x206003
    store 0x206000, 0x301003
    store 0x201008, 0x207003
    store 0x201010, 0x208003
    mov rcx, 0x40000000
    mov rsi, 0x80000000
    store 0x301000, 7
    report [rcx]
    report [rsi]
    store 0x208008, 0
    mov rax, 0x206003
    mov [0x207ffc], rax             # across two page directories: the last entry of one, the first of the other
    report [0x207ff8]
    report [0x208000]
    invlpg [rsi]
    try mov rax, [rsi]
    mov rax, 0x0020600300000000
    mov [0x207ffa], rax
    report [0x207ff8]
    report [0x208000]
    store 0x208000, 0x206003
    store 0x207ff8, 0
    report [rsi]
    mov rax, 0x203003
    xchg [0x208000], rax
    report rax
    invlpg [rsi]
    report [rsi]
    mov rax, [0x208000]
    mov rdx, 0x206003
    lock cmpxchg [0x208000], rdx
    sete al
    invlpg [rsi]
    report [rsi]
    lock and qword ptr [0x208000], ~2
    invlpg [rsi]
    try mov qword ptr [rsi], 1
    lock bts qword ptr [0x208000], 1
    mov qword ptr [rsi], 8
    report [0x301000]
    mov rax, [0x206000]
    mov rdx, 0x300001
    lock xadd [0x206000], rdx       # the sum of two entries is none: bit 1 is P of the other
    report [0x206000]
    lock neg qword ptr [0x206000]
    lock not qword ptr [0x206000]
    lock inc qword ptr [0x208008]
    mov rax, [0x208000]
    xor rdx, rdx
    mov rbx, 0x300003
    mov ecx, 0
    mov rax, [0x206000]
    mov rdx, [0x206008]
    lock cmpxchg16b [0x206000]
    report [0x206000]
    invlpg [rsi]
    report [rsi]
    finish
    """,
        [
            0x30100001,
            0x30100005,
            0x30100005,
            0x30100005,
            7,
            0x20600300000000,
            0,
            0x80000000,
            0,
            0x6003000000000000,
            0x20,
            7,
            0x206023,
            0x30100005,
            7,
            0x80000000,
            3,
            8,
            0x601064,
            0x300003,
            0x30100005,
        ],
    )
