"""Privileged instructions become VM exits with the manual's qualifications, or are performed, as the controls say."""

import pytest
from ring0_guest import make, reported, run

from quire.arch import (
    CR4,
    PRIMARY_CONTROLS,
    ExitReason,
    InterruptionType,
    Vector,
)
from quire.exits import SKIP, ExitContext, Next, StopGuest
from quire.guest.boot.bare import BareGuest, BareOutcome
from quire.vcpu import Exit

both = pytest.mark.parametrize("mmu", ("native", "ept", "shadow"))


def recorded(source: str, mmu: str, **fields: int) -> tuple[BareOutcome, list[Exit]]:
    """Run `source` with VMCS `fields` changed; return the outcome and every exit that the guest's code caused."""
    guest = make(source, mmu)
    vmcs = guest.vcpu.vmcs
    # Controls come on top of those that must be 1.
    vmcs.write_many(**{name: value | vmcs.read(name) for name, value in fields.items()})
    seen = record(guest)
    try:
        return guest.run(), seen
    finally:
        guest.close()


def record(guest: BareGuest) -> list[Exit]:
    """Have every exit of `guest` noted but those of the Mmu: EPT violations, #PFs that are gaps of the shadow.

    A #PF exit under shadow is the guest's own if it leaves an event to inject.
    """
    seen: list[Exit] = []
    machine = guest.machine
    original, shadow = machine.vcpu.handle_exit, machine.config.mmu == "shadow"

    def handle(stop: Exit) -> None:
        faulted = stop.interruption is not None and stop.interruption.vector == Vector.PF
        if stop.reason is not ExitReason.EPT_VIOLATION and not (shadow and faulted):
            seen.append(stop)
        original(stop)
        if shadow and faulted and machine.vcpu.vmx.injection is not None:
            seen.append(stop)

    guest.vcpu.handle_exit = handle  # type: ignore[method-assign]
    return seen


PRIMARY = PRIMARY_CONTROLS.encode(
    hlt_exiting=1, invlpg_exiting=1, cr3_load_exiting=1, cr3_store_exiting=1, cr8_load_exiting=1,
    mov_dr_exiting=1, rdtsc_exiting=1, unconditional_io_exiting=1, activate_secondary_controls=1,
)  # fmt: skip


@both
def test_exits_have_reason_qualification_and_length(mmu: str) -> None:
    source = """
    mov rbx, cr3
    mov cr3, rbx
    mov rax, cr4
    or rax, 0x80
    mov r9, rax
    mov cr4, r9
    xor r12, r12
    mov cr8, r12
    mov dr0, rdi
    mov rsi, dr7
    invlpg [rax + 0x1234]
    rdtsc
    xor eax, eax
    cpuid
    mov ecx, 0x277
    rdmsr
    wrmsr
    mov dx, 0x3f8
    in al, dx
    out 0x80, ax
    in eax, dx
    clts
    vmcall_:
    hlt
    """
    outcome, seen = recorded(
        source,
        mmu,
        primary_processor_based_controls=PRIMARY,
        cr4_guest_host_mask=CR4.mask("VMXE", "PGE"),
    )
    assert outcome.reason == "halted", outcome
    assert [(stop.reason.name, stop.qualification, stop.instruction_length) for stop in seen] == [
        ("CR_ACCESS", 3 | 1 << 4 | 3 << 8, 3),
        ("CR_ACCESS", 3 | 3 << 8, 3),
        ("CR_ACCESS", 4 | 9 << 8, 4),
        ("CR_ACCESS", 8 | 12 << 8, 4),
        ("MOV_DR", 7 << 8, 3),
        ("MOV_DR", 7 | 1 << 4 | 6 << 8, 3),
        ("INVLPG", 0x6A0 + 0x1234, 7),
        ("RDTSC", 0, 2),
        ("CPUID", 0, 2),
        ("RDMSR", 0, 2),
        ("WRMSR", 0, 2),
        ("IO_INSTRUCTION", 0x3F8 << 16 | 8, 1),
        ("IO_INSTRUCTION", 0x80 << 16 | 1 << 6 | 1, 3),
        ("IO_INSTRUCTION", 0x3F8 << 16 | 8 | 3, 1),
        ("HLT", 0, 1),
    ]


@both
def test_without_controls_the_same_instructions_do_not_exit(mmu: str) -> None:
    source = """
    mov rbx, cr3
    mov cr3, rbx
    mov rax, cr4
    or rax, 0x80
    mov cr4, rax
    mov dr0, rdi
    mov rsi, dr0
    invlpg [rax]
    rdtsc
    smsw rbx
    report rbx
    mov rax, cr0
    or eax, 8
    mov cr0, rax
    clts
    mov rax, cr0
    report rax
    cmp rsi, rdi
    sete al
    movzx eax, al
    report rax
    hlt
    """
    outcome, seen = recorded(source, mmu)
    cr0 = 0x80010033
    assert reported(outcome) == [cr0, cr0, 1]
    # Under shadow these controls are on: what the guest does to its translations is followed.
    paging = {"CR_ACCESS", "INVLPG"} if mmu == "shadow" else set()
    assert {stop.reason.name for stop in seen} == {"IO_INSTRUCTION", "HLT"} | paging
    assert [stop.qualification for stop in seen if stop.reason.name == "CR_ACCESS"] == (
        [3 | 1 << 4 | 3 << 8, 3 | 3 << 8, 4] if paging else []
    )


@both
def test_model_specific_registers(mmu: str) -> None:
    source = """
    gate 13, on_gp
    wrmsr_ 0xc0000080, 0x901
    mov ecx, 0xc0000080
    rdmsr
    report rax
    wrmsr_ 0xc0000101, 0x123456789000
    wrmsr_ 0xc0000102, 0x300000
    swapgs
    mov qword ptr gs:[8], 77
    report [0x300008]
    mov ecx, 0xc0000102
    rdmsr
    report rax
    report rdx
    mov rdx, offset after_unknown
    mov ecx, 0x12345
    rdmsr
after_unknown:
    mov rbx, offset after_address
    mov ecx, 0xc0000101
    mov eax, 0
    mov edx, 0x8000
    wrmsr
after_address:
    mov rbx, offset after_pat
    mov ecx, 0x277
    mov eax, 2
    xor edx, edx
    wrmsr
after_pat:
    finish
on_gp:
    report [rsp]
    pop rax
    cmp ecx, 0x12345
    jne 1f
    mov rbx, rdx
1:  mov [rsp], rbx
    iretq
    """
    outcome, values = run(source, mmu)
    assert outcome.reason == "exited", outcome
    assert values == [0xD01, 77, 0x56789000, 0x1234, 0, 0, 0]
    assert outcome.delivered == {13: 3}


@both
def test_string_io(mmu: str) -> None:
    source = """
    lea rsi, [rip + text]
    mov dx, 0xe9
    mov ecx, 12
    cld
    rep outsb
    report rcx
    mov edi, 0x300000
    mov ecx, 3
    rep insb
    report rdi
    report [0x300000]
    hlt
text: .ascii "hello, world"
    """
    outcome, seen = recorded(source, mmu)
    assert outcome.output[:12] == b"hello, world"
    assert seen[0].qualification == 0xE9 << 16 | 1 << 5 | 1 << 4
    assert [int.from_bytes(outcome.output[12 + 8 * n : 20 + 8 * n], "little") for n in range(3)] == [
        0,
        0x300003,
        0xE9E9E9,
    ]


@both
def test_the_exception_bitmap_takes_exceptions(mmu: str) -> None:
    source = """
    gate 6, skip_two
    gate 3, return_
    gate 14, on_fault
    ud2
    int3
    mov rax, [0x40000000]
    finish
skip_two:
    add qword ptr [rsp], 2
return_:
    iretq
on_fault:
    report "[rsp]"
    mov rbx, cr2
    report rbx
    finish 3
    """
    taken = 1 << Vector.UD | 1 << Vector.BP | 1 << Vector.PF
    outcome, seen = recorded(source, mmu, exception_bitmap=taken)
    assert (outcome.reason, outcome.status) == ("exited", 3), outcome
    exceptions = [stop for stop in seen if stop.reason is ExitReason.EXCEPTION_OR_NMI]
    assert [
        (stop.interruption.vector, stop.interruption.type, stop.interruption.error_code, stop.qualification)
        for stop in exceptions
        if stop.interruption is not None
    ] == [
        (6, InterruptionType.HARDWARE_EXCEPTION, None, 0),
        (3, InterruptionType.SOFTWARE_EXCEPTION, None, 0),
        (14, InterruptionType.HARDWARE_EXCEPTION, 0, 0x40000000),
    ]
    assert exceptions[1].instruction_length == 1
    assert reported(outcome) == [0, 0x40000000]


def test_a_user_may_replace_a_handler() -> None:
    guest = make("vmcall\nfinish", "ept")
    calls = []

    def vmcall(vcpu: ExitContext, stop: Exit) -> Next:
        calls.append(stop)
        return SKIP

    guest.machine.handlers[ExitReason.VMCALL] = vmcall
    assert guest.run().reason == "exited"
    assert [(stop.reason, stop.instruction_length) for stop in calls] == [(ExitReason.VMCALL, 3)]
    guest.close()


def test_a_halted_guest_is_woken_by_an_interrupt() -> None:
    guest = make("gate 0x20, on_timer\nsti\n1: hlt\nreport r15\njmp 1b\non_timer: inc r15\niretq", "ept")
    assert guest.run().reason == "halted"
    for _ in range(3):
        guest.interrupt(0x20)
        outcome = guest.run()
        assert outcome.reason == "halted", outcome
    assert reported(outcome) == [1, 2, 3]
    assert outcome.delivered == {0x20: 3}
    guest.close()


@both
def test_registers_and_flags_are_exact_at_io(mmu: str) -> None:
    """IN and OUT are no block ends in the engine: what follows in the block must not have happened."""
    guest = make("mov ecx, 5\ncmp ecx, 5\nmov al, 1\nout 0x55, al\nmov ecx, 6\ncmp ecx, 0\nhlt", mmu)
    state = []

    def stop(vcpu: ExitContext, exit: Exit) -> Next:
        state.append(guest.cpu.registers.read_many(("rcx", "rflags")))
        return StopGuest(exit)

    guest.machine.handlers[ExitReason.IO_INSTRUCTION] = stop
    outcome = guest.run()
    assert outcome.reason == "stopped"
    assert "IO_INSTRUCTION" in outcome.text
    assert state == [[5, 0x46]]
    guest.close()


@both
def test_a_loaded_code_segment_is_accessed(mmu: str) -> None:
    """A far return to a descriptor without the accessed flag; an exit behind it enters again."""
    source = """
    store gdt+8, 0x00af9a000000ffff
    lea rax, [rip + behind]
    push CODE
    push rax
    lretq
behind: xor eax, eax
    cpuid
    report 7
    finish
"""
    outcome, values = run(source, mmu)
    assert (outcome.reason, values) == ("exited", [7]), outcome
