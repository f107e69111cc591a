"""Ring-0 guests that manage their own memory: tables, faults through their own IDT, large pages, TLB instructions."""

import pytest
from ring0_guest import SWITCH, guest_made, make, run

from quire.cpu import Detail

MMUS = ("native", "ept", "shadow")
EVERY = [(mmu, detail) for mmu in MMUS for detail in Detail]
every = pytest.mark.parametrize(("mmu", "detail"), EVERY, ids=[f"{m}-{d.name.lower()}" for m, d in EVERY])
both = pytest.mark.parametrize("mmu", MMUS)

# Faults on page 0x400000, whose handler reports CR2 and the error code and maps it to 0x300000.
FAULT = (
    """
    gate 14, on_fault
    store 0x300000, 0x1122334455667788
    """
    + SWITCH
)
ON_FAULT = """
on_fault:
    push rax
    mov rax, cr2
    report rax
    report "[rsp + 8]"
    store 0x203000, 0x300003
    pop rax
    add rsp, 8
    iretq
"""


@every
def test_a_guest_builds_tables_and_switches_to_them(mmu: str, detail: Detail) -> None:
    source = (
        """
    store 0x300000, 0x1122334455667788
    store 0x301ff8, 42
    """
        + SWITCH
        + """
    store 0x203008, 0x300003
    store 0x203010, 0x301003
    mov rax, cr3
    report rax
    report [0x401000]
    report [0x402ff8]
    mov qword ptr [0x401008], 77
    report [0x300008 - 0x300000 + 0x401000]
    report [0x203008]
    finish
    """
    )
    outcome, values = run(source, mmu, detail)
    assert outcome.reason == "exited", outcome
    accessed_dirty = 0x60
    assert values == [0x200000, 0x1122334455667788, 42, 77, 0x300003 | accessed_dirty]
    assert guest_made(outcome, mmu) == {"MOV_CR3": 1}


@every
def test_a_page_fault_goes_through_the_guests_idt(mmu: str, detail: Detail) -> None:
    source = (
        FAULT
        + """
    mov rbx, 0x400123
    mov rbx, [rbx - 0x123]
    report rbx
    mov rbx, rsp
    mov byte ptr [0x400040], 9
    cmp rbx, rsp
    sete al
    movzx eax, al
    report rax
    finish 5
    """
        + ON_FAULT
    )
    outcome, values = run(source, mmu, detail)
    assert (outcome.reason, outcome.status) == ("exited", 5), outcome
    assert values == [0x400000, 0, 0x1122334455667788, 1]
    assert outcome.delivered == {14: 1}
    assert guest_made(outcome, mmu) == {"MOV_CR3": 1, "PAGE_FAULT": 1}


@every
def test_large_pages(mmu: str, detail: Detail) -> None:
    source = (
        SWITCH
        + """
    store 0x201008, P | RW | PS             # 1 GiB at 0x40000000, of GPA 0
    store 0x202018, 0x200000 | P | RW | PS  # 2 MiB at 0x600000, of GPA 0x200000
    store 0x300000, 7
    report [0x40300000]
    report [0x700000]
    mov qword ptr [0x40300008], 8
    report [0x700008]
    report [0x201008]
    report [0x202018]
    finish
    """
    )
    outcome, values = run(source, mmu, detail)
    assert outcome.reason == "exited", outcome
    assert values == [7, 7, 8, 0xE3, 0x200000 | 0xA3]


@both
def test_page_rights(mmu: str) -> None:
    """Write protection, NX and SMEP, each with its error code; CR0.WP off lets the supervisor write."""
    source = (
        """
    gate 14, on_fault
    """
        + SWITCH
        + """
    store 0x203000, 0x300001
    mov rdx, offset after_write
    mov byte ptr [0x400000], 1
after_write:
    mov rax, cr0
    and eax, 0xfffeffff
    mov cr0, rax
    mov byte ptr [0x400000], 0xc3       # ret
    mov rax, cr0
    or eax, 0x10000
    mov cr0, rax
    mov rdx, offset after_second
    mov byte ptr [0x400001], 1
after_second:
    mov rdx, offset lost
    mov rax, 0x400000
    call rax
    store 0x203000, 0x8000000000300003
    invlpg [0x400000]
    mov rdx, offset after_nx
    mov rax, 0x400000
    call rax
after_nx:
    or qword ptr [0x202010], US
    store 0x203000, 0x300007
    invlpg [0x400000]
    mov rax, 0x400000
    or qword ptr [0x200000], US
    or qword ptr [0x201000], US
    call rax
    mov rax, cr4
    or eax, 0x100000
    mov cr4, rax
    mov rdx, offset after_smep
    mov rax, 0x400000
    call rax
after_smep:
    finish
lost:
    finish 1
on_fault:
    mov rax, cr2
    report rax
    report "[rsp]"
    mov rsp, 0x10000
    jmp rdx
    """
    )
    outcome, values = run(source, mmu)
    assert (outcome.reason, outcome.status) == ("exited", 0), outcome
    page = 0x400000
    assert values == [page, 3, page + 1, 3, page, 0x11, page, 0x11]
    assert guest_made(outcome, mmu) == {"INVLPG": 2, "MOV_CR3": 1, "MOV_CR4_SMEP": 1, "PAGE_FAULT": 4}


@both
def test_smap_and_ac(mmu: str) -> None:
    source = (
        """
    gate 14, on_fault
    """
        + SWITCH
        + """
    store 0x203000, 0x300007
    mov rax, cr4
    or eax, 0x200000
    mov cr4, rax
    mov rdx, offset after_read
    mov rax, [0x400000]
after_read:
    stac
    mov qword ptr [0x400000], 5
    mov rax, [0x400000]
    clac
    report rax
    mov rdx, offset after_second
    mov rax, [0x400000]
after_second:
    finish
on_fault:
    mov rax, cr2
    report rax
    report "[rsp]"
    mov rsp, 0x10000
    jmp rdx
    """
    )
    outcome, values = run(source, mmu)
    assert outcome.reason == "exited", outcome
    assert values == [0x400000, 1, 5, 0x400000, 1]


@both
def test_tlb_instructions_act_on_the_modelled_tlb(mmu: str) -> None:
    """What INVLPG, MOV CR3 with and without bit 63, and a flip of PGE leave in the TLB shows in its misses."""
    touch = """
    mov rax, [0x400000]
    mov rax, [0x401000]
    """
    begin = (
        SWITCH
        + """
    store 0x203000, 0x300003
    store 0x203008, 0x301103
    mov rax, cr4
    or eax, 0x20080
    mov cr4, rax
    """
        + touch
    )
    counts = {}
    for name, operation in {
        "nothing": "",
        "invlpg": "invlpg [0x400000]",
        "cr3": "mov rax, cr3; mov cr3, rax",
        "cr3_keep": "mov rax, 0x8000000000200000; mov cr3, rax",
        "pcid": "mov rax, 0x200001; mov cr3, rax",
        "pcid_and_back": "mov rax, 0x200001; mov cr3, rax; mov rax, 0x8000000000200000; mov cr3, rax",
        "pge": "mov rax, cr4; xor eax, 0x80; mov cr4, rax",
        "invpcid_all": "mov eax, 2; invpcid rax, [0x300000]",
    }.items():
        outcome, _ = run(begin + operation + touch + "\nfinish\n", mmu, Detail.FULL)
        assert outcome.reason == "exited", (name, outcome)
        counts[name] = outcome.events["l2d_misses"]
    assert {name: count - counts["nothing"] for name, count in counts.items()} == {
        "nothing": 0, "invlpg": 1, "cr3": 1, "cr3_keep": 0, "pcid": 1, "pcid_and_back": 0, "pge": 2,
        "invpcid_all": 2,
    }  # fmt: skip


@both
def test_a_guest_in_the_upper_half(mmu: str) -> None:
    """Linear addresses with the sign bit: the PML4's last entry, executed and read in full detail."""
    source = (
        SWITCH
        + """
    store 0x200ff8, 0x201007
    store 0x201ff0, 0x202007
    mov rax, offset high
    mov rbx, 0xffffffff80000000
    or rax, rbx
    jmp rax
high:
    mov rcx, 100
1:  mov rax, [rbx + 0x300000]
    dec rcx
    jnz 1b
    report rsp
    finish
    """
    )
    outcome, values = run(source, mmu, Detail.FULL)
    assert outcome.reason == "exited", outcome
    assert values == [0x10000]
    assert outcome.events["faulted_walks"] == 0


def test_a_page_size_that_changes_without_invlpg_is_a_conflict() -> None:
    """A 2 MiB page is split; its last part was never looked up, the rest is still held as 2 MiB (SDM 3A §4.10.2.3)."""
    source = (
        SWITCH
        + """
    store 0x202010, 0x400000 | P | RW | PS
    mov rax, [0x400000]
    store 0x203000, 0x400003
    store 0x202010, 0x203007
    {flush}
    mov rax, [0x400008]
    mov byte ptr [0x400010], 1   # its dirty flag is not set yet: a walk, which finds the other size
    finish
    """
    )
    conflicts = []
    for flush in ("nop", "invlpg [0x400000]"):
        guest = make(source.format(flush=flush), "native", Detail.FULL)
        try:
            assert guest.run().reason == "exited"
            conflicts.append(guest.tlb.conflicts)
        finally:
            guest.close()
    assert conflicts == [1, 0]
