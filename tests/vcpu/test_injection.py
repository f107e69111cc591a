"""Delivery to its end: exceptions met on the way, double and triple faults, VM exits, and the VMCS."""

from dataclasses import replace

import pytest
from event_fakes import (
    DF,
    GDT,
    GP,
    IDT,
    INT3,
    INT_N,
    INTERRUPT,
    NMI,
    PF,
    RSP0,
    UD,
    code,
    frame,
    gate,
    slot,
    tables,
    user_state,
)

from quire.arch import SKYLAKE_X, ExitReason, InterruptionType
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.vcpu import (
    Event,
    Exit,
    Nested,
    Outcome,
    Vmcs,
    VmxState,
    combine,
    deliver_event,
)

# Combination


BENIGN = [Event.exception(vector) for vector in (1, 3, 4, 5, 6, 7, 16, 18, 19)] + [
    INTERRUPT,
    NMI,
    INT_N,
    Event(13, InterruptionType.EXTERNAL_INTERRUPT),
    Event(14, InterruptionType.SOFTWARE_INTERRUPT),
    Event(8, InterruptionType.EXTERNAL_INTERRUPT),
]
CONTRIBUTORY = [Event.exception(vector, 0) for vector in (0, 10, 11, 12, 13, 21)]
PAGE_FAULTS = [Event.exception(14, 0), Event.exception(20)]
TABLE = [
    (BENIGN, "second", "second", "second"),
    (CONTRIBUTORY, "second", "double", "second"),
    (PAGE_FAULTS, "second", "double", "double"),
    ([DF], "second", "triple", "triple"),
]


@pytest.mark.parametrize("row", TABLE, ids=["benign", "contributory", "page fault", "double fault"])
def test_every_pair_of_table_6_5(row: tuple[list[Event], str, str, str]) -> None:
    firsts, *wanted = row
    seconds = ((6, None), (13, 0x18)), ((0, None), (13, 0x18)), ((14, 2),)
    for first in firsts:
        for column, want in zip((((6, None), (17, 0)), seconds[1], seconds[2]), wanted, strict=True):
            for vector, code_ in column:
                expected = {"second": Event.exception(vector, code_), "double": DF, "triple": None}[want]
                assert combine(first, Nested(vector, code_)) == expected


def test_a_page_fault_during_an_interrupt_is_delivered_in_its_place() -> None:
    memory, state = tables(), user_state()
    memory.faults[slot(INTERRUPT)] = Nested(14, 0, slot(INTERRUPT))
    assert deliver_event(INTERRUPT, state, memory) == Outcome(
        delivered=Event.exception(14, 0), cr2=slot(INTERRUPT)
    )
    assert frame(memory, RSP0, 6)[4:] == [0x401000, 0]


def test_a_contributory_pair_is_a_double_fault() -> None:
    memory, state = tables(), user_state()
    memory.put(slot(GP), gate(P=0), 16)
    assert deliver_event(GP, state, memory) == Outcome(delivered=DF)
    assert memory.word(RSP0 - 48) == 0


def test_page_fault_during_page_fault_reports_the_second_address() -> None:
    memory = tables()
    memory.faults[slot(PF)] = Nested(14, 0, 0xDEAD)
    assert deliver_event(PF, user_state(), memory) == Outcome(delivered=DF, cr2=0xDEAD)


def test_a_triple_fault() -> None:
    memory, state = tables(), user_state()
    memory.put(GDT + 0x08, code(P=0))
    assert deliver_event(UD, state, memory) == Outcome(exit=Exit(ExitReason.TRIPLE_FAULT))
    assert state == user_state()


# VM exits


def test_an_exit_reports_the_event_that_it_cut_off() -> None:
    memory = tables()
    violation = Exit(ExitReason.EPT_VIOLATION, 0x182, 0x5000, RSP0 - 8)
    memory.faults[RSP0 - 8] = violation
    memory.put(slot(INT_N), gate(DPL=3), 16)
    for event in (INTERRUPT, PF, NMI):
        outcome = deliver_event(event, user_state(), memory)
        assert outcome == Outcome(exit=replace(violation, idt_vectoring=event))
    outcome = deliver_event(INT_N, user_state(), memory)
    assert outcome == Outcome(exit=replace(violation, idt_vectoring=INT_N, instruction_length=2))


def test_an_exit_during_a_double_fault_reports_that() -> None:
    memory = tables()
    violation = Exit(ExitReason.EPT_VIOLATION, 0x182)
    memory.faults[slot(PF)] = Nested(14, 0, 0xDEAD)
    memory.faults[slot(DF)] = violation
    outcome = deliver_event(PF, user_state(), memory)
    assert outcome == Outcome(exit=replace(violation, idt_vectoring=DF), cr2=0xDEAD)


def test_an_nmi_cut_off_blocks_nmis_already() -> None:
    memory, state = tables(), user_state()
    memory.faults[IDT + 32] = Exit(ExitReason.EPT_VIOLATION, 0x181)
    deliver_event(NMI, state, memory)
    assert state.nmi_blocking
    assert state.rip == 0x401000


def test_an_intercepted_second_exception_exits_with_both_events() -> None:
    memory = tables()
    memory.faults[slot(PF)] = Nested(14, 0, 0xDEAD)
    outcome = deliver_event(PF, user_state(), memory, lambda event: event.vector == 14)
    exit = Exit(ExitReason.EXCEPTION_OR_NMI, 0xDEAD, interruption=Event.exception(14, 0), idt_vectoring=PF)
    assert outcome == Outcome(exit=exit)  # CR2 is as it was: the fault exited


def test_an_intercepted_double_fault_did_not_occur_during_delivery() -> None:
    memory = tables()
    memory.faults[slot(PF)] = Nested(14, 0, 0xDEAD)
    outcome = deliver_event(PF, user_state(), memory, lambda event: event.vector == 8)
    assert outcome == Outcome(exit=Exit(ExitReason.EXCEPTION_OR_NMI, interruption=DF), cr2=0xDEAD)


# The VMCS


@pytest.fixture
def vcpu() -> VmxState:
    return VmxState(Vmcs(HostMemory(0x4000), 0x1000), SKYLAKE_X, vpid=1)


def test_an_exit_records_both_events(vcpu: VmxState) -> None:
    stop = Exit(ExitReason.EPT_VIOLATION, instruction_length=2, idt_vectoring=INT_N)
    vcpu.exit(stop, 0, 0, 2)
    read = vcpu.vmcs.read
    assert read("idt_vectoring_information") == 0x8000_0440
    assert read("vm_exit_interruption_information") == 0
    assert read("vm_exit_instruction_length") == 2
    vcpu.exit(Exit(ExitReason.EXCEPTION_OR_NMI, 0x123, interruption=PF, idt_vectoring=GP), 0, 0, 2)
    assert read("vm_exit_interruption_information") == 0x8000_0B0E
    assert read("vm_exit_interruption_error_code") == 7
    assert read("idt_vectoring_information") == 0x8000_0B0D
    assert read("idt_vectoring_error_code") == 0x10
    vcpu.exit(Exit(ExitReason.HLT), 0, 0, 2)
    assert read("idt_vectoring_information") == read("vm_exit_interruption_information") == 0


@pytest.mark.parametrize("event", [PF, INT_N, NMI, INT3, UD])
def test_an_event_is_injected_as_it_was_cut_off(vcpu: VmxState, event: Event) -> None:
    assert vcpu.injection is None
    vcpu.inject(event)
    assert vcpu.injection == replace(event, injected=True)


def test_a_vm_exit_ends_the_injection(vcpu: VmxState) -> None:
    vcpu.inject(PF)
    vcpu.exit(Exit(ExitReason.HLT), 0, 0, 2)
    assert vcpu.injection is None
    assert vcpu.vmcs.read("vm_entry_interruption_information") == 0x0B0E


def test_wrong_events() -> None:
    with pytest.raises(MisuseError, match="vector 0x100"):
        Event(256, InterruptionType.EXTERNAL_INTERRUPT)
    with pytest.raises(MisuseError, match="does not fit in 32 bits"):
        Event.exception(14, 1 << 32)
    with pytest.raises(MisuseError, match="reserved"):
        Event.of(0x8000_0100, 0, 0)
