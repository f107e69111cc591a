"""Event delivery: one test a rule of SDM 3A chapter 6, error codes typed by hand."""

from dataclasses import replace

import pytest
from event_fakes import (
    DF,
    GDT,
    HANDLER,
    IDT,
    INT1,
    INT3,
    INT_N,
    INTERRUPT,
    IST1,
    KERNEL_CS,
    LDT,
    LDT_CS,
    NMI,
    PF,
    RSP0,
    TSS,
    UD,
    USER_CS,
    USER_RSP,
    USER_SS,
    FakeMemory,
    code,
    frame,
    gate,
    kernel_state,
    slot,
    tables,
    user_state,
)

from quire.arch import ExitReason, InterruptionType, Vector
from quire.errors import MisuseError
from quire.vcpu import (
    DescriptorTable,
    Event,
    EventState,
    Exit,
    MemoryFault,
    Nested,
    deliver,
)


def refused(event: Event, memory: FakeMemory, state: EventState | None = None) -> MemoryFault | None:
    """Deliver to a state that must not change."""
    state = user_state() if state is None else state
    before = replace(state)
    fault = deliver(event, state, memory)
    assert fault is not None
    assert state == before
    return fault


# Success


def test_from_user_to_kernel() -> None:
    memory, state = tables(), user_state()
    assert deliver(INTERRUPT, state, memory) is None
    assert frame(memory, RSP0, 5) == [USER_SS, USER_RSP, 0x4303, USER_CS, 0x401000]
    assert (state.rip, state.rsp, state.cpl) == (HANDLER, RSP0 - 40, 0)
    assert (state.cs, state.ss) == (KERNEL_CS, 0)
    assert state.rflags == 0x3  # IF, TF and NT are off, CF stays
    assert state.cs_access_rights == 0x209B
    assert state.ss_access_rights == 1 << 16
    assert all(supervisor for *_, supervisor in memory.log)


def test_an_error_code_is_pushed_last() -> None:
    memory, state = tables(), user_state()
    assert deliver(PF, state, memory) is None
    assert frame(memory, RSP0, 6) == [USER_SS, USER_RSP, 0x14303, USER_CS, 0x401000, 7]
    assert state.rsp == RSP0 - 48


def test_the_same_level_keeps_its_stack_and_aligns_it() -> None:
    memory, state = tables(), kernel_state()
    assert deliver(INTERRUPT, state, memory) is None
    assert frame(memory, 0x8FF0, 2) == [0, 0x8FF8]
    assert (state.rsp, state.ss, state.cs) == (0x8FF0 - 40, 0, KERNEL_CS)


def test_an_interrupt_stack_is_used_at_any_level_and_ss_stays() -> None:
    memory, state = tables(), kernel_state()
    state.ss = 0x10
    memory.put(slot(INTERRUPT), gate(IST=1), 16)
    assert deliver(INTERRUPT, state, memory) is None
    assert state.rsp == (IST1 & ~15) - 40
    assert state.ss == 0x10


@pytest.mark.parametrize(("number", "offset"), [(1, 36), (7, 84)])
def test_where_the_tss_has_its_interrupt_stacks(number: int, offset: int) -> None:
    memory, state = tables(), user_state()
    memory.put(slot(INTERRUPT), gate(IST=number), 16)
    memory.put(TSS + offset, 0xB000)
    assert deliver(INTERRUPT, state, memory) is None
    assert state.rsp == 0xB000 - 40


def test_inner_level_1_has_its_own_stack_and_null_ss() -> None:
    memory, state = tables(), user_state()
    memory.put(GDT + 0x08, code(DPL=1))
    memory.put(TSS + 12, 0xB000)
    assert deliver(INTERRUPT, state, memory) is None
    assert (state.rsp, state.cpl, state.ss, state.cs) == (0xB000 - 40, 1, 1, KERNEL_CS | 1)


def test_a_conforming_handler_runs_at_the_current_level() -> None:
    memory, state = tables(), user_state()
    memory.put(GDT + 0x08, code(type=0xF))
    assert deliver(INTERRUPT, state, memory) is None
    assert (state.cpl, state.cs, state.ss, state.rsp) == (3, KERNEL_CS | 3, USER_SS, 0x7000 - 40)
    assert {supervisor for kind, *_, supervisor in memory.log if kind == "write"} == {False}


def test_a_trap_gate_keeps_if() -> None:
    memory, state = tables(), user_state()
    memory.put(slot(INTERRUPT), gate(type=15), 16)
    assert deliver(INTERRUPT, state, memory) is None
    assert state.rflags == 0x203


def test_software_events_return_behind_their_instruction() -> None:
    for event, rip in ((INT_N, 0x401002), (INT3, 0x401001), (INT1, 0x401001), (INTERRUPT, 0x401000)):
        memory, state = tables(), user_state()
        memory.put(slot(event), gate(DPL=3), 16)
        assert deliver(event, state, memory) is None
        assert memory.word(RSP0 - 40) == rip


@pytest.mark.parametrize(
    ("event", "resume"),
    [
        (UD, 1),
        (PF, 1),
        (DF, 0),
        (Event.exception(Vector.DB), 0),
        (INTERRUPT, 0),
        (INT_N, 0),
        (replace(UD, injected=True), 0),
    ],
)
def test_only_faults_save_rf(event: Event, resume: int) -> None:
    memory, state = tables(), user_state()
    memory.put(slot(event), gate(DPL=3), 16)
    assert deliver(event, state, memory) is None
    assert memory.word(RSP0 - 24) >> 16 & 1 == resume


def test_an_nmi_blocks_nmis_and_any_event_ends_the_shadow() -> None:
    state = user_state()
    state.blocking_by_sti_or_mov_ss = True
    assert deliver(INTERRUPT, state, tables()) is None
    assert not state.nmi_blocking and not state.blocking_by_sti_or_mov_ss
    assert deliver(NMI, state, tables()) is None
    assert state.nmi_blocking


def test_the_code_segment_becomes_accessed() -> None:
    memory, state = tables(), user_state()
    memory.put(GDT + 0x08, code(type=0xA))
    assert deliver(INTERRUPT, state, memory) is None
    assert memory.word(GDT + 0x08) == code(type=0xB)
    assert ("write", GDT + 0x0D, 1, True) in memory.log


def test_a_handler_in_the_ldt() -> None:
    memory, state = tables(), user_state()
    state.ldtr = DescriptorTable(LDT, 0xF)
    memory.put(slot(INTERRUPT), gate(selector=LDT_CS), 16)
    assert deliver(INTERRUPT, state, memory) is None
    assert state.cs == LDT_CS


# Refusals: the gate


def test_a_vector_beyond_the_idt() -> None:
    state = user_state()
    state.idtr = DescriptorTable(IDT, 0x40F)
    assert deliver(INTERRUPT, replace(state), tables()) is None
    state.idtr = DescriptorTable(IDT, 0x40E)
    assert refused(INTERRUPT, tables(), state) == Nested(13, 0x203)
    assert refused(INT_N, tables(), state) == Nested(13, 0x202)  # not external


@pytest.mark.parametrize("type", [0, 5, 6, 7, 12, 13, 0x1E, 0x1F])
def test_a_gate_of_another_type(type: int) -> None:
    memory = tables()
    memory.put(slot(INTERRUPT), gate(type=type), 16)
    assert refused(INTERRUPT, memory) == Nested(13, 0x203)


def test_a_gate_not_present() -> None:
    memory = tables()
    memory.put(slot(INTERRUPT), gate(P=0, DPL=3), 16)
    assert refused(INTERRUPT, memory) == Nested(11, 0x203)
    assert refused(INT_N, memory) == Nested(11, 0x202)


def test_only_software_interrupts_need_the_gates_permission() -> None:
    assert refused(INT_N, tables()) == Nested(13, 0x202)
    assert refused(INT3, tables()) == Nested(13, 0x1A)
    assert deliver(INT1, user_state(), tables()) is None
    assert deliver(INT_N, kernel_state(), tables()) is None


def test_the_permission_is_asked_before_presence() -> None:
    memory = tables()
    memory.put(slot(INT_N), gate(P=0), 16)
    assert refused(INT_N, memory) == Nested(13, 0x202)


# Refusals: the code segment


@pytest.mark.parametrize("selector", [0, 3])
def test_a_null_code_selector(selector: int) -> None:
    memory = tables()
    memory.put(slot(INTERRUPT), gate(selector=selector), 16)
    assert refused(INTERRUPT, memory) == Nested(13, 1)


def test_a_code_selector_beyond_the_gdt() -> None:
    memory, state = tables(), user_state()
    state.gdtr = DescriptorTable(GDT, 0xE)
    assert refused(INTERRUPT, memory, state) == Nested(13, 0x9)
    assert refused(UD, memory, state) == Nested(13, 0x9)


def test_a_code_selector_in_an_ldt_that_is_not_there() -> None:
    memory = tables()
    memory.put(slot(INTERRUPT), gate(selector=LDT_CS), 16)
    assert refused(INTERRUPT, memory) == Nested(13, 0xD)


@pytest.mark.parametrize(
    "descriptor",
    [
        code(type=3),
        code(S=0),
        code(L=0, DB=1),
        code(L=0),
        code(DB=1),
        code(P=0, L=0),
    ],
)
def test_a_segment_that_is_not_64_bit_code(descriptor: int) -> None:
    memory = tables()
    memory.put(GDT + 0x08, descriptor)
    assert refused(INTERRUPT, memory) == Nested(13, 0x9)


@pytest.mark.parametrize("type", [0xB, 0xF])
def test_a_code_segment_of_less_privilege(type: int) -> None:
    memory = tables()
    memory.put(GDT + 0x08, code(DPL=3, type=type))
    assert refused(INTERRUPT, memory, kernel_state()) == Nested(13, 0x9)


def test_a_code_segment_not_present() -> None:
    memory = tables()
    memory.put(GDT + 0x08, code(P=0))
    assert refused(INTERRUPT, memory) == Nested(11, 0x9)


# Refusals: the stack and the handler


def test_a_tss_too_short_for_the_stack_pointer() -> None:
    memory, state = tables(), user_state()
    state.tss = DescriptorTable(TSS, 10)
    assert refused(INTERRUPT, memory, state) == Nested(10, 0x41)
    state.tss = DescriptorTable(TSS, 11)
    assert deliver(INTERRUPT, replace(state), memory) is None
    memory.put(slot(INTERRUPT), gate(IST=1), 16)
    assert refused(INTERRUPT, memory, state) == Nested(10, 0x41)


def test_a_stack_that_is_not_canonical() -> None:
    memory = tables()
    memory.put(TSS + 4, 0x8000_0000_0010)
    assert refused(INTERRUPT, memory) == Nested(12, 1)
    state = kernel_state()
    state.rsp = 0xFFFF_8000_0000_0020  # canonical, but not two words further down
    memory = tables()
    memory.put(slot(INT_N), gate(DPL=3), 16)
    assert refused(INT_N, memory, state) == Nested(12, 0)


def test_a_handler_that_is_not_canonical() -> None:
    memory = tables()
    memory.put(slot(INTERRUPT), gate(offset_high=0x8000), 16)
    assert refused(INTERRUPT, memory) == Nested(13, 1)
    state = user_state()
    state.cr4 = 1 << 12  # LA57
    assert deliver(INTERRUPT, state, memory) is None


@pytest.mark.parametrize(
    "at",
    [slot(INTERRUPT), GDT + 0x08, TSS + 4, RSP0 - 8, RSP0 - 40],
    ids=["IDT", "GDT", "TSS", "first word", "last word"],
)
@pytest.mark.parametrize(
    "fault", [Nested(14, 2, 0x123), Exit(ExitReason.EPT_VIOLATION, 0x181)], ids=["page fault", "exit"]
)
def test_every_access_may_fault(at: int, fault: MemoryFault) -> None:
    memory = tables()
    memory.faults[at] = fault
    assert refused(INTERRUPT, memory) == fault


def test_the_write_of_the_accessed_flag_may_fault() -> None:
    memory, state = tables(), user_state()
    memory.put(GDT + 0x08, code(type=0xA))

    class ReadOnlyGdt(FakeMemory):
        def write(self, gva: int, data: bytes, *, supervisor: bool) -> MemoryFault | None:
            return Nested(14, 3, gva) if gva == GDT + 0x0D else None

    read_only = ReadOnlyGdt()
    read_only.bytes = memory.bytes
    assert deliver(INTERRUPT, state, read_only) == Nested(14, 3, GDT + 0x0D)


def test_misuse() -> None:
    with pytest.raises(MisuseError, match="not delivered through the IDT"):
        deliver(Event(0, InterruptionType.OTHER_EVENT), user_state(), tables())
    state = user_state()
    state.efer = 0
    with pytest.raises(MisuseError, match="LMA = 0"):
        deliver(INTERRUPT, state, tables())
