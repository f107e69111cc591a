"""Events of ring-0 guests: rings, stacks, nested faults, exits within delivery; and guests that are hostile."""

import random

import pytest
from ring0_guest import SWITCH, assemble, make, reported, run

from quire.arch import ExitReason
from quire.cpu import Detail
from quire.exits import ExitContext, Next
from quire.guest.boot.bare import FIRST_FREE, BareGuest, bare_config
from quire.vcpu import Exit

MMUS = ("native", "ept", "shadow")
EVERY = [(mmu, detail) for mmu in MMUS for detail in Detail]
every = pytest.mark.parametrize(("mmu", "detail"), EVERY, ids=[f"{m}-{d.name.lower()}" for m, d in EVERY])
both = pytest.mark.parametrize("mmu", MMUS)

# Page 0x400000 is the user's code, 0x401000 its stack; the rest is the supervisor's.
USER = """
    store 0x203000, 0x300007
    store 0x203008, 0x301007
    lea rsi, [rip + user]
    mov edi, 0x300000
    mov ecx, offset user_end - user
    rep movsb
"""
ENTER_USER = """
    push USER_DATA
    push 0x402000
    pushf
    push USER_CODE
    push 0x400000
    iretq
"""


@every
def test_ring_3_and_back(mmu: str, detail: Detail) -> None:
    """A user access to a supervisor page faults with U, on the stack of TSS.RSP0; INT 0x80 comes back."""
    source = (
        "gate 14, on_fault\ngate 0x80, on_call, 0, 3\n"
        + USER
        + SWITCH
        + ENTER_USER
        + """
user:
    mov rax, 0x1234
    int 0x80
    mov rbx, [0x200000]
    nop
    int 0x80
user_end:
on_call:
    report rax
    report rsp
    report "[rsp]"
    report "[rsp + 8]"
    cmp rax, 0x1234
    jne 1f
    iretq
1:  finish
on_fault:
    mov rax, cr2
    report rax
    report "[rsp]"
    mov rax, 0x5678
    add rsp, 8
    add qword ptr [rsp], 8
    iretq
    """
    )
    outcome, values = run(source, mmu, detail)
    assert outcome.reason == "exited", outcome
    assert values == [
        *(0x1234, 0xF000 - 40, 0x400009, 0x23),
        *(0x200000, 5),
        *(0x5678, 0xF000 - 40, 0x400014, 0x23),
    ]
    assert outcome.delivered == {14: 1, 0x80: 2}


@both
def test_privileged_instructions_in_ring_3_are_general_protection(mmu: str) -> None:
    source = (
        "gate 13, on_gp\ngate 0x80, on_call, 0, 3\n"
        + USER
        + SWITCH
        + ENTER_USER
        + """
user:
    .byte 0x0f, 0x20, 0xd8   # mov rax, cr3
    .byte 0x0f, 0x01, 0x38   # invlpg [rax]
    .byte 0x0f, 0x32, 0x90   # rdmsr
    .byte 0xee, 0x90, 0x90   # out dx, al
    .byte 0xf4, 0x90, 0x90   # hlt
    .byte 0xfa, 0x90, 0x90   # cli
    int 0x80
user_end:
on_gp:
    report "[rsp + 8]"
    add rsp, 8
    add qword ptr [rsp], 3
    iretq
on_call:
    finish
    """
    )
    outcome, values = run(source, mmu)
    assert outcome.reason == "exited", outcome
    assert values == [0x400000 + 3 * n for n in range(6)]


@every
def test_syscall_and_sysret(mmu: str, detail: Detail) -> None:
    source = (
        """
    gate 0x80, on_call, 0, 3
    wrmsr_ 0xc0000081, 0x0013000800000000
    lea r8, [rip + on_syscall]
    wrmsr_ 0xc0000082, r8
    wrmsr_ 0xc0000084, 0x200
    """
        + USER
        + SWITCH
        + ENTER_USER
        + """
user:
    mov rax, 1
    syscall
    mov rbx, cs
    int 0x80
user_end:
on_syscall:
    mov rdx, cs
    report rdx
    report rcx
    .byte 0x48, 0x0f, 0x07   # sysretq
on_call:
    report rbx
    report rsp
    finish
    """
    )
    source = source.replace("report rdx\n    report rcx", "mov r12, rsp\n mov rsp, 0xe000\n report rdx\n"
                            " report rcx\n mov rsp, r12")  # fmt: skip
    outcome, values = run(source, mmu, detail)
    assert outcome.reason == "exited", outcome
    assert values == [8, 0x400009, 0x23, 0xF000 - 40]


@both
def test_a_double_fault_has_its_own_stack(mmu: str) -> None:
    source = (
        "gate 14, 0x40000000\ngate 8, on_double, 1\n"
        + """
    mov rsp, 0xd000
    mov rax, [0x40000000]
on_double:
    report rsp
    report "[rsp]"
    report "[rsp + 32]"
    mov rax, cr2
    report rax
    finish
    """
    )
    source = source.replace("gate 14, 0x40000000", "gate 14, main\nmov byte ptr [idt + 14 * 16 + 5], 0x0e")
    outcome, values = run(source, mmu)
    assert outcome.reason == "exited", outcome
    assert values == [0xE000 - 48, 0, 0xD000, 0x40000000]
    assert outcome.delivered == {8: 1}


@both
def test_a_triple_fault_ends_the_guest(mmu: str) -> None:
    outcome, _ = run("mov rax, [0x40000000]", mmu)
    assert outcome.reason == "stopped"
    assert outcome.exits["TRIPLE_FAULT"] == 1
    assert "TRIPLE_FAULT" in outcome.text


def test_an_exit_within_delivery_leaves_vectoring_information_and_resumes() -> None:
    """The stack of the handler is a page that EPT does not back yet."""
    source = (
        "gate 0x21, on_call\nmov rsp, 0x350000\nint 0x21\nreport rbx\nfinish\n"
        + """
on_call:
    mov rbx, [rsp]
    iretq
    """
    )
    guest = make(source, "ept")
    seen = []
    original = guest.machine.handlers[ExitReason.EPT_VIOLATION]

    def violation(vcpu: ExitContext, stop: Exit) -> Next:
        vmcs = guest.vcpu.vmcs
        if stop.idt_vectoring is not None:
            seen.append((stop.gpa, vmcs.read("idt_vectoring_information"), stop.instruction_length))
        return original(vcpu, stop)

    guest.machine.handlers[ExitReason.EPT_VIOLATION] = violation
    outcome = guest.run()
    assert outcome.reason == "exited", outcome
    assert seen == [(0x34FFF8, 1 << 31 | 4 << 8 | 0x21, 2)]
    behind = reported(outcome)[0]
    assert guest.read(behind - 2, 2) == b"\xcd\x21"
    guest.close()


@both
def test_a_guest_gives_the_same_outcome_twice_and_under_each_mmu(mmu: str) -> None:
    source = SWITCH + "mov ecx, 1000\n1: rdtsc\nloop 1b\nreport rax\nfinish\n"
    first, second = run(source, mmu, Detail.FULL)[0], run(source, mmu, Detail.FULL)[0]
    assert first == second
    assert reported(first) == reported(run(source, "native")[0])


@both
def test_hostile_guests_are_stopped_by_value(mmu: str) -> None:
    """Random code, random CR3 and random tables: an outcome, never an exception of ours."""
    seeded = random.Random(2026)
    reasons = set()
    for number in range(40):
        image = bytearray(seeded.randbytes(0x3000))
        if number % 2:
            # mov rax, CR3; mov cr3, rax: into tables of garbage
            root = seeded.choice(
                (0x11000, 0x12000, seeded.getrandbits(45) & ~0xFFF, seeded.getrandbits(23) & ~0xFFF)
            )
            image[:13] = b"\x48\xb8" + root.to_bytes(8, "little") + b"\x0f\x22\xd8"
        guest = BareGuest(bytes(image), bare_config(memory=8 << 20, mmu=mmu))
        outcome = guest.run(2.0)
        reasons.add(outcome.reason)
        guest.machine.host.pool.audit()
        guest.close()
    assert "stopped" in reasons


# What a mutated guest is sprinkled with: system instructions, far transfers, descriptor tables, string I/O.
HOSTILE = """
    0f22d8 0f22e0 0f22c0 0f30 0f0138 cd80 ee 6e f36c 0f05 480f07 48cf 8ed0 0f00d8 0f0110 0f0118 0f23f8
    0f01f8 660f388208 cb 9d f4 0f01c1 0f20c0 0f01f0 f1 cc 0f0b
"""


@every
def test_mutated_guests_are_stopped_by_value(mmu: str, detail: Detail) -> None:
    """A working guest with rings and handlers, its bytes changed at random: an outcome each time."""
    handlers = "".join(f"gate {vector}, leave\n" for vector in (6, 13, 14)) + "gate 0x80, leave, 0, 3\n"
    source = (
        handlers
        + USER
        + SWITCH
        + ENTER_USER
        + "user: int 0x80\nuser_end:\nleave: iretq\n.fill 512, 1, 0x90\n"
    )
    image = assemble(source)
    hostile = [bytes.fromhex(code) for code in HOSTILE.split()]
    for number in range(12):
        seeded = random.Random(number)
        mutated = bytearray(image)
        for _ in range(seeded.randint(1, 60)):
            mutated[seeded.randrange(len(mutated))] = seeded.getrandbits(8)
        for _ in range(40):
            code = seeded.choice(hostile)
            at = seeded.randrange(len(mutated) - 0x260, len(mutated) - 8)
            mutated[at : at + len(code)] = code
        guest = BareGuest(bytes(mutated), bare_config(memory=8 << 20, mmu=mmu), detail=detail)
        assert guest.run(0.02).reason in ("stopped", "halted", "exited", "interrupted")
        guest.close()


@both
def test_a_table_cannot_reach_the_hypervisors_frames(mmu: str) -> None:
    guest = BareGuest(
        b"\x48\xb8" + (16 << 20).to_bytes(8, "little") + b"\x0f\x22\xd8\x90",
        bare_config(memory=16 << 20, mmu=mmu),
    )
    before = guest.machine.host.memory.octets[16 << 20 :].copy() if mmu == "native" else None
    outcome = guest.run()
    assert outcome.reason == "stopped"
    assert guest.cpu.registers.read("rip") == FIRST_FREE + 13
    if before is not None:
        changed = (before != guest.machine.host.memory.octets[16 << 20 :]).sum()
        assert changed < 4096  # the VMCS alone
    guest.close()


@every
def test_ring_3_loads_segments_from_a_supervisors_table(mmu: str, detail: Detail) -> None:
    """Descriptor tables are read as a supervisor reads them; the user itself still may not."""
    source = (
        "gate 14, on_fault\ngate 0x80, on_call, 0, 3\n"
        + USER
        + SWITCH
        + ENTER_USER
        + """
user:
    mov ecx, 0x1b
    mov ds, ecx
    mov es, ecx
    lar ebx, ecx
    .byte 0x48, 0x8b, 0x34, 0x25
    .long gdt                  # mov rsi, [gdt]
    int 0x80
user_end:
on_call:
    mov rcx, ds
    report rcx
    report rbx
    finish
on_fault:
    mov rax, cr2
    sub rax, offset gdt
    report rax
    report "[rsp]"
    add rsp, 8
    add qword ptr [rsp], 8
    iretq
    """
    )
    outcome, values = run(source, mmu, detail)
    assert outcome.reason == "exited", outcome
    assert values == [0, 5, 0x1B, 0xC0F300]
