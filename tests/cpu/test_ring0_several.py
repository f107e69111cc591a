"""Several vCPUs of one guest: turns, interrupts between them, TLBs of their own, and who shoots them down."""

import pytest
from ring0_guest import SWITCH, assemble, reported

from quire.arch.apic import X2APIC_ICR, ApicRegister
from quire.cpu import Detail
from quire.devices import ApicBus, LocalApic
from quire.errors import MisuseError
from quire.exits import SKIP, ExitContext, Next
from quire.guest.boot.bare import BareGuest, BareOutcome, bare_config
from quire.paging import Rights
from quire.tlb import Operation
from quire.vcpu import Exit

#: vCPU 0 builds tables; the others wait for them, take the IDT, turn interrupts on and go to `second`.
START = (
    """
    cmp rsi, 0
    jne wait
    gate 0x40, on_shoot_down
"""
    + SWITCH
    + """
    store 0x300000, 111
    store 0x301000, 222
    store 0x203000, 0x300003
    mov qword ptr [ready], 1
    jmp first
wait:
    pause
    cmp qword ptr [ready], 1
    jne wait
    mov rax, 0x200000
    mov cr3, rax
    sti
    jmp second
.balign 8
ready: .quad 0
seen: .quad 0
asked: .quad 0
acknowledged: .quad 0
.macro send command
    mov ecx, 0x830
    mov rax, \\command
    mov rdx, rax
    shr rdx, 32
    wrmsr
.endm
.macro until location, value
97: pause
    cmp qword ptr [\\location], \\value
    jne 97b
.endm
on_shoot_down:
    push rax
    push rcx
    push rdx
    invlpg [0x400000]
    inc qword ptr [acknowledged]
    mov ecx, 0x80b
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq
"""
)
#: The second vCPU reads page 0x400000 whenever it is asked, and says what it saw.
READER = """
second:
    until asked, 1
    mov rax, [0x400000]
    mov [seen], rax
    mov qword ptr [asked], 0
    jmp second
"""
ASK = """
    mov qword ptr [asked], 1
    until asked, 0
    report [seen]
"""


def run(source: str, mmu: str, detail: Detail = Detail.EXITS, vcpus: int = 2, **options: int) -> BareOutcome:
    guest = BareGuest(assemble(source), bare_config(mmu=mmu, vcpus=vcpus), detail=detail, **options)
    try:
        return guest.run()
    finally:
        guest.close()


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_a_shoot_down_by_interrupt(mmu: str, detail: Detail) -> None:
    source = (
        START
        + "first:"
        + ASK
        + """
    store 0x203000, 0x301003
    invlpg [0x400000]
    send 0x00000000000c0040     # fixed, vector 0x40, to all others
    until acknowledged, 1
    """
        + ASK
        + "finish 3\n"
        + READER
    )
    outcome = run(source, mmu, detail)
    assert (outcome.reason, outcome.status) == ("exited", 3), outcome
    assert reported(outcome) == [111, 222]
    assert outcome.delivered == {0x40: 1}
    assert outcome.invalidations["INVLPG"] == 2


def test_the_slice_changes_the_order_and_not_the_result() -> None:
    source = START + "first:" + ASK + ASK + "finish\n" + READER
    for blocks in (1, 7, 500):
        assert reported(run(source, "ept", slice_blocks=blocks)) == [111, 111]
    first, second = run(source, "ept", vcpus=3), run(source, "ept", vcpus=3)
    assert first == second


def test_each_vcpu_has_tlbs_and_tags_of_its_own() -> None:
    source = START + "first:" + ASK + "finish\n" + READER
    guest = BareGuest(assemble(source), bare_config(vcpus=2), detail=Detail.FULL)
    try:
        assert guest.run().reason == "exited"
        first, second = guest.vcpus
        assert {entry.space.vpid for entry in first.tlb.valid()} == {1, None}
        assert {entry.space.vpid for entry in second.tlb.valid()} == {2, None}
        assert 0x400000 not in {entry.address for entry in first.tlb.valid() if entry.kind.is_page}
        assert 0x400000 in {entry.address for entry in second.tlb.valid() if entry.kind.is_page}
        # A flush of one vCPU leaves the other alone; of both, neither.
        guest.machine.shoot_down(Operation.INVEPT_CONTEXT, vcpus=[first])
        assert not list(first.tlb.valid())
        assert list(second.tlb.valid())
        guest.machine.shoot_down(Operation.INVEPT_CONTEXT)
        assert not list(second.tlb.valid())
    finally:
        guest.close()


def test_memory_that_the_hypervisor_moves_is_seen_by_all_after_a_shoot_down() -> None:
    source = START + "first:" + ASK + "vmcall\n" + ASK + "finish\n" + READER
    guest = BareGuest(assemble(source), bare_config(vcpus=2))

    def move(vcpu: ExitContext, stop: Exit) -> Next:
        mapped = vcpu.mmu.mapped
        assert mapped is not None
        other = vcpu.mmu.reach(0x301000)
        mapped.memory_map.unmap(0x300000)
        mapped.memory_map.map(0x300000, other, 4096, Rights.READ | Rights.WRITE | Rights.EXECUTE)
        guest.machine.shoot_down(Operation.INVEPT_CONTEXT)
        return SKIP

    from quire.arch import ExitReason

    guest.machine.handlers[ExitReason.VMCALL] = move
    try:
        outcome = guest.run()
        assert reported(outcome) == [111, 222]
    finally:
        guest.close()


def test_what_cannot_be_made() -> None:
    with pytest.raises(MisuseError) as error:
        BareGuest(b"\xf4", bare_config(vcpus=17))
    assert str(error.value) == "A guest with 17 vCPUs cannot be made: give 1 to 16"
    with pytest.raises(MisuseError) as error:
        BareGuest(b"\xf4", bare_config(vcpus=2), slice_blocks=0)
    assert str(error.value) == "A turn of 0 blocks does nothing: give at least 1"
    with pytest.raises(MisuseError) as error:
        BareGuest(b"\xf4", bare_config(mmu="shadow", vcpus=2))
    assert str(error.value) == (
        "A machine guest under shadow has one vCPU: several share the memory of a process guest, or of a machine guest "
        "under native or ept"
    )


def test_priorities_of_a_local_apic() -> None:
    bus = ApicBus()
    one, two = LocalApic(0, bus), LocalApic(1, bus)
    icr, eoi, self_ipi = ApicRegister.ICR.msr, ApicRegister.EOI.msr, ApicRegister.SELF_IPI.msr
    assert one.read_msr(ApicRegister.ID.msr) == 0 and two.read_msr(ApicRegister.ID.msr) == 1
    assert one.write_msr(icr, X2APIC_ICR.encode(vector=0x31, destination=1)) is None
    assert one.write_msr(icr, X2APIC_ICR.encode(vector=0x52, destination=1)) is None
    assert one.next_vector() is None
    assert two.next_vector() == 0x52
    two.accept(0x52)
    assert two.next_vector() is None  # 0x31 is of a lower class than what is in service
    two.write_msr(self_ipi, 0x61)
    assert two.next_vector() == 0x61
    assert two.write_msr(eoi, 0) is None
    two.accept(0x61)
    two.write_msr(eoi, 0)
    assert two.next_vector() == 0x31
    for number, value in ((eoi, 1), (icr, 1 << 12), (self_ipi, 0x100), (0x803, 0)):
        assert one.write_msr(number, value) is not None
    one.write_msr(icr, X2APIC_ICR.encode(mode=4, shorthand=3))
    assert (one.nmi, two.nmi) == (False, True)


#: The second vCPU calls `answer` whenever it is asked, and says what that returned.
CALLER = """
second:
    until asked, 1
    call answer
    mov [seen], rax
    mov qword ptr [asked], 0
    jmp second
.balign 4096
answer:
    mov eax, 1
    ret
"""


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_code_that_one_vcpu_changes_is_executed_as_changed_by_the_other(mmu: str, detail: Detail) -> None:
    change = "mov byte ptr [answer + 1], {0}\n" + ASK
    mapped = (
        "lea rax, [rip + answer + 3]\nmov [0x203008], rax\nmov byte ptr [0x401001], 9\n" + ASK
    )  # at another address
    changes = "".join(change.format(value) for value in (2, 3, 4))
    outcome = run(START + "first:" + ASK + changes + mapped + "finish\n" + CALLER, mmu, detail)
    assert reported(outcome) == [1, 2, 3, 4, 9]


#: The same, but the second vCPU calls it in the upper half of the address space, where the first maps all memory too.
UPPER = "mov rax, cr3\nmov rbx, [rax]\nmov [rax + 0x800], rbx\n"
CALLER_ABOVE = CALLER.replace(
    "call answer", "lea rax, [rip + answer]\nmov rbx, 0xffff800000000000\nadd rax, rbx\ncall rax"
)


@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_code_in_the_upper_half_that_one_vcpu_changes(mmu: str) -> None:
    """As when Linux patches itself: pages of the upper half are dropped by their whole addresses."""
    change = "mov byte ptr [answer + 1], {0}\n" + ASK
    changes = "".join(change.format(value) for value in range(2, 8))
    outcome = run(START + "first:" + UPPER + ASK + changes + "finish\n" + CALLER_ABOVE, mmu)
    assert reported(outcome) == [1, 2, 3, 4, 5, 6, 7]
