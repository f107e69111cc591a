"""Ring-0 guests that test what shadow paging depends on: control registers and contexts."""

from agreement import SMALL_PAGES, agree

#: `user N` runs the user's code at 0x407000 + N, which comes back by INT 0x80: 0 reads [RBX], 8 writes it, 16 runs it.
USER = """
    .macro user offset
    lea r9, [rip + 94f]
    mov r8, rsp
    mov rdx, 0x407003
    push USER_DATA
    push 0x408000
    push 2
    push USER_CODE
    push 0x407000 + \\offset
    iretq
94:
    .endm
    .macro control number, bits, on
    mov rax, cr\\number
    .if \\on
    or rax, \\bits
    .else
    and rax, ~(\\bits)
    .endif
    mov cr\\number, rax
    .endm
    .set WP, 1 << 16
    .set SMEP, 1 << 20
    .set SMAP, 1 << 21
    .set PGE, 1 << 7
    .set PCIDE, 1 << 17
    gate 0x80, on_call, 0, 3
    jmp 93f
on_call:
    mov rsp, r8
    jmp r9
93: store 0x203038, 0x307005
    store 0x307000, 0x80cd038b48        # mov rax, [rbx]; int 0x80
    store 0x307008, 0x80cd038948        # mov [rbx], rax; int 0x80
    store 0x307010, 0xe3ff              # jmp rbx
    store 0x301000, 0x80cd              # int 0x80
    mov rbx, 0x400000
"""


def test_writes_without_write_protection() -> None:
    """CR0.WP = 0: the supervisor writes read-only pages, the user's too; each side keeps its other rights."""
    agree(
        SMALL_PAGES
        + USER
        + """
    store 0x203000, 0x300001            # a supervisor's, read-only
    store 0x203008, 0x301005            # a user's, read-only
    try mov qword ptr [rbx], 1
    try mov qword ptr [rbx + 0x1000], 1
    control 0, WP, 0
    mov qword ptr [rbx], 2
    report [rbx]
    report [0x203000]
    mov rbx, 0x401000
    user 0
    report rax
    mov qword ptr [rbx + 8], 3
    report [0x203008]
    user 0
    user 8
    user 16
    mov qword ptr [rbx + 8], 4
    user 0
    report "[rbx + 8]"
    control 4, SMEP, 1
    mov qword ptr [rbx + 8], 5
    lea rdx, [rip + 1f]
    call rbx
1:  user 16
    control 4, SMEP, 0
    control 0, WP, 1
    try mov qword ptr [rbx + 8], 6
    user 0
    user 8
    and qword ptr [0x203008], ~0x60
    invlpg [rbx]
    control 0, WP, 0
    report "[rbx + 8]"
    report [0x203008]
    mov qword ptr [rbx + 8], 7
    report [0x203008]
    control 0, WP, 1
    store 0x206000, 0x302003            # read-only in the page directory, which the guest rewrites with WP = 0
    store 0x202018, 0x206001
    mov rbx, 0x600000
    try mov qword ptr [rbx], 1
    control 0, WP, 0
    mov qword ptr [rbx], 8
    report [0x206000]
    store 0x205010, 0x202001            # the same table through a read-only entry
    invlpg [0x202000]
    mov qword ptr [0x202018], 0
    invlpg [rbx]
    try mov rax, [rbx]
    control 0, WP, 1
    try mov qword ptr [0x202018], 1
    finish
    """,
        [
            0x400000,
            3,
            0x401000,
            3,
            2,
            0x300061,
            0x80CD,
            0x301065,
            0x401000,
            7,
            4,
            0x401000,
            0x11,
            0x401008,
            3,
            0x401000,
            7,
            5,
            0x301025,
            0x301065,
            0x600000,
            3,
            0x302063,
            0x600000,
            0,
            0x202018,
            3,
        ],
    )


def test_access_prevention_with_and_without_write_protection() -> None:
    """SMAP with AC by STAC, CLAC and POPF, with WP = 1 and WP = 0: reads, writes, accesses to system tables."""
    agree(
        SMALL_PAGES
        + USER
        + """
    store 0x203000, 0x300007
    store 0x203008, 0x301005
    control 4, SMAP, 1
    .irp wp, 1, 0
    control 0, WP, \\wp
    try mov rax, [rbx]
    try mov qword ptr [rbx], 1
    stac
    mov qword ptr [rbx], 2 + \\wp
    try mov qword ptr [rbx + 0x1000], 0x80cd
    report [rbx]
    clac
    try mov rax, [rbx]
    try mov qword ptr [rbx + 0x1000], 0x80cd
    pushf
    or qword ptr [rsp], 1 << 18
    popf
    mov rax, [rbx + 0x1000]
    report rax
    try mov qword ptr [rbx + 0x1000], 0x80cd
    clac
    try mov rax, [rbx + 0x1000]
    user 0
    user 8
    report [0x203000]
    report [0x203008]
    .endr
    control 4, SMAP, 0
    report [rbx]
    finish
    """,
        [
            0x400000,
            1,
            0x400000,
            3,
            0x401000,
            3,
            3,
            0x400000,
            1,
            0x401000,
            3,
            0x80CD,
            0x401000,
            3,
            0x401000,
            1,
            0x300067,
            0x301025,
            0x400000,
            1,
            0x400000,
            3,
            2,
            0x400000,
            1,
            0x401000,
            3,
            0x80CD,
            0x401000,
            1,
            0x300067,
            0x301065,
            2,
        ],
    )


def test_no_execute_is_turned_off_and_on() -> None:
    """EFER.NXE = 0 makes bit 63 reserved, at each level; on again it forbids fetches."""
    agree(
        SMALL_PAGES
        + USER
        + """
    mov rax, 0x8000000000301007
    mov [0x203008], rax
    mov rbx, 0x401000
    user 16
    user 0
    report rax
    wrmsr_ 0xc0000080, 0x501
    invlpg [rbx]
    try mov rax, [rbx]
    try mov qword ptr [rbx], 1
    user 0
    user 16
    btr qword ptr [0x203008], 63
    invlpg [rbx]
    user 16
    bts qword ptr [0x202010], 63
    invlpg [rbx]
    try mov rax, [rbx]
    wrmsr_ 0xc0000080, 0xd01
    invlpg [rbx]
    report [rbx]
    lea rdx, [rip + 1f]
    call rbx
1:  btr qword ptr [0x202010], 63
    invlpg [rbx]
    user 16
    store 0x203008, 0x400000301007      # beyond the physical addresses: reserved whatever NXE
    invlpg [rbx]
    try mov rax, [rbx]
    finish
    """,
        [
            0x401000,
            0x15,
            0x80CD,
            0x401000,
            9,
            0x401000,
            0xB,
            0x401000,
            0xD,
            0x401000,
            0xD,
            0x401000,
            9,
            0x80CD,
            0x401000,
            0x11,
            0x401000,
            9,
        ],
    )


CONTEXTS = (
    SMALL_PAGES
    + USER
    + """
    control 4, PCIDE | PGE, 1
    store 0x300000, 0xa
    store 0x301000, 0xb
    store 0x302000, 0xc
    store 0x303000, 0xd
    .macro root at, pt                  # roots that share all but the page table of 0x400000
    mov esi, 0x200000
    mov edi, \\at
    mov ecx, 0x3000
    rep movsb
    store \\at, (\\at + 0x1003)
    store \\at + 0x1000, (\\at + 0x2003)
    store \\at + 0x2010, (\\pt + 3)
    store \\pt, 0x300003
    store \\pt + 8, 0x301103            # global
    .endm
    root 0x220000, 0x230000
    root 0x240000, 0x250000
    .macro load root, pcid, keep=0
    mov rax, \\root | \\pcid
    .if \\keep
    bts rax, 63
    .endif
    mov cr3, rax
    .endm
    .macro invalidate type, pcid, address=0
    mov qword ptr [0x340000], \\pcid
    mov qword ptr [0x340008], \\address
    mov rcx, \\type
    invpcid rcx, [0x340000]
    .endm
"""
)


def test_contexts_with_identifiers() -> None:
    """Roots under PCIDs, loaded with and without bit 63, edited while they are in use and while they are not."""
    agree(
        CONTEXTS
        + """
    load 0x220000, 1
    report [rbx]
    load 0x240000, 2
    report [rbx]
    store 0x230000, 0x302003            # of the other
    store 0x250000, 0x303003
    invlpg [rbx]
    report [rbx]
    load 0x220000, 1                    # without bit 63: all of PCID 1 goes
    report [rbx]
    load 0x240000, 2, 1
    report [rbx]
    store 0x230000, 0x300001
    load 0x220000, 1
    report [rbx]
    try mov qword ptr [rbx], 1
    report [0x230000]
    load 0x220000, 1
    report [rbx + 0x1000]
    load 0x240000, 2
    store 0x230008, 0x302103            # a global page: INVLPG takes it from every PCID
    invlpg [rbx + 0x1000]
    load 0x220000, 1, 1
    mov rcx, [rbx + 0x1000]
    load 0x240000, 2, 1
    report rcx
    load 0x240000, 1                    # another root under the same PCID
    report [rbx]
    load 0x220000, 3, 1                 # never used before
    report [rbx]
    store 0x222010, 0x250003
    invlpg [rbx]
    mov qword ptr [rbx], 0xe
    load 0x240000, 2
    report [rbx]
    mov rax, cr3
    report rax
    load 0x200000, 0
    control 4, PCIDE, 0
    mov rdx, offset 1f
    control 4, SMEP, 1
1:  report [0x303000]
    finish
    """,
        [
            0xA,
            0xA,
            0xD,
            0xC,
            0xD,
            0xA,
            0x400000,
            3,
            0x300021,
            0xB,
            0xC,
            0xD,
            0xA,
            0xE,
            0x240002,
            0xE,
        ],
    )


def test_invpcid() -> None:
    """Types 0 to 3, each for what it has to invalidate: an address, a context, all, all but global pages."""
    agree(
        CONTEXTS
        + """
    gate 13, on_protection
    load 0x220000, 1
    report [rbx]
    report [rbx + 0x1000]
    load 0x240000, 2
    report [rbx]
    store 0x230000, 0x302003
    invalidate 0, 1, 0x400000
    load 0x220000, 1, 1
    report [rbx]
    load 0x240000, 2, 1
    store 0x230000, 0x303003
    invalidate 1, 1
    load 0x220000, 1, 1
    report [rbx]
    store 0x250000, 0x302003
    store 0x230008, 0x303103
    store 0x250008, 0x303103
    invalidate 2, 0
    report [rbx + 0x1000]
    load 0x240000, 2, 1
    report [rbx]
    report [rbx + 0x1000]
    store 0x230000, 0x300003
    store 0x250000, 0x300003
    invalidate 3, 0
    report [rbx]
    load 0x220000, 1, 1
    report [rbx]
    store 0x230008, 0x302103
    store 0x250008, 0x302103
    control 4, PGE, 0
    report [rbx + 0x1000]
    load 0x240000, 2
    report [rbx + 0x1000]
    store 0x250000, 0
    invalidate 0, 2, 0x400000
    try mov rax, [rbx]
    lea rdx, [rip + 1f]
    invalidate 4, 0
1:  lea rdx, [rip + 2f]
    invalidate 0, 0x1000
2:  lea rdx, [rip + 3f]
    invpcid rcx, [rbx]                  # the descriptor's own page is not present
3:  finish
on_protection:
    report "[rsp]"
    add rsp, 8
    mov [rsp], rdx
    iretq
    """,
        [
            0xA,
            0xB,
            0xA,
            0xC,
            0xD,
            0xD,
            0xC,
            0xD,
            0xA,
            0xA,
            0xC,
            0xC,
            0x400000,
            0,
            0,
            0,
            0x400000,
            0,
        ],
    )
