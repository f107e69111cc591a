"""The soft Cpu with hand-assembled guests: stops are exact, counts are exact, code that changes is seen."""

import pytest
from soft_guest import CODE, CODE_HPA, DATA, DATA_HPA, Guest

from quire.arch import Vector
from quire.cpu import Detail
from quire.cpu.soft.engine import Engine
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging import Rights
from quire.tlb import TRANSLATION
from quire.vcpu import Syscall, Trap, TrapKind


@pytest.fixture(params=list(Detail), ids=lambda detail: detail.name.lower())
def detail(request: pytest.FixtureRequest) -> Detail:
    found: Detail = request.param
    return found


LOADS = "488b07 488b5f08 488b5710 488b7718 48ffc9 75ec 0f05"  # 4 loads, dec rcx, jnz, syscall
STORES = "488907 48894708 48ffc9 75f4 0f05"


def test_exact_counts_of_a_loop() -> None:
    guest = Guest(Detail.FULL, LOADS)
    guest.cpu.registers.write("rcx", 1000)
    assert guest.cpu.run() == Syscall()
    events = guest.cpu.events()
    assert events["instructions"] == 6 * 1000 + 1
    assert (events["reads"], events["writes"]) == (4000, 0)
    assert (events["l1d_misses"], events["l1i_misses"], events["walks"]) == (1, 1, 2)
    assert guest.cpu.registers.read("rip") == CODE + 22


def test_a_write_sets_dirty_with_a_walk_of_its_own() -> None:
    guest = Guest(Detail.FULL, "488b07 " + STORES)
    guest.cpu.registers.write("rcx", 10)
    guest.cpu.run()
    events = guest.cpu.events()
    assert (events["reads"], events["writes"], events["dirty_walks"]) == (1, 20, 1)
    mapping = guest.tables.lookup(DATA)
    assert mapping is not None
    assert mapping.accessed
    assert mapping.dirty


def test_page_faults_are_exact_and_leave_the_instruction_undone(detail: Detail) -> None:
    guest = Guest(detail, "48ff8700000000 0f05")  # inc qword [rdi]; syscall
    guest.cpu.registers.write("rdi", 0x12345677)
    stop = guest.cpu.run()
    assert stop == Trap(TrapKind.PAGE_FAULT, Vector.PF, 4, 0x12345677)
    assert guest.cpu.registers.read("rip") == CODE
    guest.cpu.registers.write("rdi", DATA + 8)
    assert guest.cpu.run() == Syscall()
    assert guest.memory.load(DATA_HPA + 8) == 1


def test_instructions_of_a_block_that_faults_are_not_counted() -> None:
    guest = Guest(Detail.FULL, "90 90 488b06 90 90 0f05")  # nop nop mov rax,[rsi] nop nop syscall
    guest.cpu.registers.write("rsi", 0x666000)
    assert isinstance(guest.cpu.run(), Trap)
    assert guest.cpu.events()["instructions"] == 2
    guest.cpu.registers.write("rsi", DATA)
    assert guest.cpu.run() == Syscall()
    assert guest.cpu.events()["instructions"] == 6


@pytest.mark.parametrize(
    ("code", "vector"),
    [("0f0b", Vector.UD), ("f4", Vector.GP), ("31c9 f7f1", Vector.DE), ("488b0425 00000000", Vector.PF)],
)
def test_exceptions(detail: Detail, code: str, vector: Vector) -> None:
    guest = Guest(detail, code)
    stop = guest.cpu.run()
    assert isinstance(stop, Trap)
    assert stop.vector == vector


def test_a_non_canonical_address_is_gp(detail: Detail) -> None:
    guest = Guest(detail, "488b07")
    guest.cpu.registers.write("rdi", 0x8000_0000_0000)
    assert guest.cpu.run() == Trap(TrapKind.EXCEPTION, Vector.GP, gva=0x8000_0000_0000)


def test_a_jump_to_zero_is_a_fetch_fault(detail: Detail) -> None:
    guest = Guest(detail, "31c0 ffe0")  # xor eax,eax; jmp rax
    assert guest.cpu.run() == Trap(TrapKind.PAGE_FAULT, Vector.PF, 0x14, 0)


def test_cpuid_is_an_exit_whose_handler_sets_the_registers(detail: Detail) -> None:
    guest = Guest(detail, "b804000000 31c9 0fa2 0f05")
    guest.cpu._on_exit = lambda stop: (
        guest.exits.append(stop),
        guest.cpu.registers.write_many({"rax": 0x1111, "rbx": 0x2222, "rcx": 0x3333, "rdx": 0x4444}),
    )
    assert guest.cpu.run() == Syscall()
    assert [stop.reason.name for stop in guest.exits] == ["CPUID"]
    assert guest.cpu.registers.read_many(("rax", "rbx", "rcx", "rdx")) == [0x1111, 0x2222, 0x3333, 0x4444]


def test_a_handler_inside_a_run_sees_the_registers_of_its_own_exit(detail: Detail) -> None:
    guest = Guest(detail, "0fa2 54 0fa2 ffc0 0fa2 0f05")  # cpuid; push rsp; cpuid; inc eax; cpuid; syscall
    seen = []
    names = ("rip", "rsp", "rflags")
    guest.cpu._on_exit = lambda stop: seen.append(guest.cpu.registers.read_many(names))
    guest.cpu.registers.write_many({"rax": 1, "rsp": DATA + 0x8000})
    assert guest.cpu.run() == Syscall()
    assert [rip - CODE for rip, _, _ in seen] == [0, 3, 7]
    assert [rsp - DATA for _, rsp, _ in seen] == [0x8000, 0x7FF8, 0x7FF8]
    registers = guest.cpu.registers
    assert registers.read_many(names) == [registers.read(name) for name in names]
    assert registers.read("rip") == CODE + 11


def test_registers_written_are_read_back_at_once() -> None:
    registers = Guest(Detail.EXITS, "0f05").cpu.registers
    registers.write_many({"rip": 0x1234, "rsp": -8, "rflags": 0x246, "rax": -38})
    assert registers.read_many(("rip", "rsp", "rflags")) == [0x1234, (1 << 64) - 8, 0x246]
    registers.write("rip", 0x5678)
    registers.write("rflags", 0x202)
    assert registers.read_many(("rip", "rsp", "rflags")) == [0x5678, (1 << 64) - 8, 0x202]
    assert registers.read("rax") == (1 << 64) - 38
    with pytest.raises(MisuseError):
        registers.write_many({"rax": 0, "nosuch": 1})


def test_code_that_the_guest_rewrites_is_executed_as_written(detail: Detail) -> None:
    # mov byte [rip+5], imm: rewrites the immediate of the mov eax that follows, in a page that is both W and X.
    rwx = Rights.READ | Rights.WRITE | Rights.EXECUTE
    guest = Guest(detail, "c605010000002a b800000000 0f05", code_rights=rwx)
    for _ in range(3):
        guest.cpu.registers.write_many({"rip": CODE, "rax": 0})
        assert guest.cpu.run() == Syscall()
        assert guest.cpu.registers.read("rax") == 42
        guest.memory.write(CODE_HPA + 8, b"\x00\x00\x00\x00")
        guest.cpu.forget_code(CODE_HPA, 4096)


def test_code_that_the_hypervisor_rewrites(detail: Detail) -> None:
    guest = Guest(detail, "b801000000 0f05")
    assert guest.cpu.run() == Syscall()
    guest.memory.write(CODE_HPA, bytes.fromhex("b802000000 0f05"))
    guest.cpu.forget_code(CODE_HPA, 7)
    guest.cpu.registers.write("rip", CODE)
    guest.cpu.run()
    assert guest.cpu.registers.read("rax") == 2


@pytest.mark.parametrize("by_hooks", [True, False], ids=["hooks", "emitted"])
def test_two_pages_of_one_frame_are_told_apart(by_hooks: bool) -> None:
    guest = Guest(Detail.FULL, "488b07 488b06 48ffc9 75f5 0f05", by_hooks=by_hooks)
    guest.tables.map(0x600000, DATA_HPA, 4096, Rights.READ | Rights.WRITE)
    guest.cpu.registers.write_many({"rcx": 50, "rsi": 0x600000})
    assert guest.cpu.run() == Syscall()
    events = guest.cpu.events()
    assert events["reads"] >= 100
    assert (events["aliases"] > 0) is by_hooks  # which know the frame, not the page
    assert {entry.address for entry in guest.tlb.valid() if TRANSLATION.get(entry.value, "RW")} == {
        DATA,
        0x600000,
    }


def test_a_split_access_is_looked_up_in_both_pages() -> None:
    guest = Guest(Detail.FULL, "488b07 488907 0f05")
    guest.cpu.registers.write("rdi", DATA + 0xFFC)
    assert guest.cpu.run() == Syscall()
    events = guest.cpu.events()
    assert (events["reads"], events["writes"], events["splits"]) == (1, 1, 2)
    assert events["l1d_misses"] == 2


def test_fpu_state_survives_a_round_trip() -> None:
    guest = Guest(Detail.EXITS, "660fefc0 660f76c0 d9e8 0f05")  # pxor, pcmpeqd xmm0; fld1; syscall
    guest.cpu.run()
    image = guest.cpu.registers.save_fpu()
    assert len(image) == 512
    assert image[160:176] == b"\xff" * 16
    guest.cpu.registers.load_fpu(bytes(24) + b"\x80\x1f\x00\x00" + bytes(484))
    assert guest.cpu.registers.save_fpu()[160:176] == bytes(16)
    guest.cpu.registers.load_fpu(image)
    assert guest.cpu.registers.save_fpu() == image


def test_the_lru_of_the_hooks_is_that_of_the_model() -> None:
    """65 pages in turn miss in a 64-entry 4-way LRU only in the one set that holds five."""
    guest = Guest(Detail.FULL, "488b07 4881c700100000 48ffc9 75f1 0f05")
    for _ in range(3):
        guest.cpu.registers.write_many({"rip": CODE, "rdi": DATA, "rcx": 65})
        assert guest.cpu.run() == Syscall()
    assert guest.cpu.events()["l1d_misses"] == 65 + 5 + 5


def test_a_second_exception_is_a_first_one_again(detail: Detail) -> None:
    guest = Guest(detail, "31c9 f7f1")
    for _ in range(3):
        guest.cpu.registers.write("rip", CODE)
        assert guest.cpu.run() == Trap(TrapKind.EXCEPTION, Vector.DE)


def test_code_written_through_another_page_is_executed_as_written(detail: Detail) -> None:
    # mov [rsi+1], cl through a writable page of the same frame, then call the code page beside it.
    guest = Guest(detail, "884e01 ffd7 0f05")
    guest.tables.map(0x600000, DATA_HPA + 0x200000, 4096, Rights.READ | Rights.WRITE)
    guest.tables.map(0x700000, DATA_HPA + 0x200000, 4096, Rights.READ | Rights.EXECUTE)
    guest.memory.write(DATA_HPA + 0x200000, bytes.fromhex("b800000000 c3"))
    for value in (7, 9, 11):
        registers = guest.cpu.registers
        registers.write_many(
            {"rip": CODE, "rcx": value, "rsi": 0x600000, "rdi": 0x700000, "rsp": DATA + 0x8000}
        )
        assert guest.cpu.run() == Syscall()
        assert registers.read("rax") == value


def test_what_the_engine_does_not_offer_was_found() -> None:
    engine = Guest(Detail.EXITS, "0f05").cpu._engine
    assert engine.fault_offset
    assert engine.sync_offset
    assert engine.last_exception.error_code_index
    assert len(engine._windows) == 3


def test_one_instruction_may_touch_two_pages_of_a_frame(detail: Detail) -> None:
    guest = Guest(detail, "f3a4 0f05")  # rep movsb; syscall
    guest.tables.map(0x600000, DATA_HPA, 4096, Rights.READ | Rights.WRITE)
    guest.memory.write(DATA_HPA, bytes(range(16)))
    guest.cpu.registers.write_many({"rcx": 16, "rsi": DATA, "rdi": 0x600100})
    assert guest.cpu.run() == Syscall()
    assert guest.memory.read(DATA_HPA + 0x100, 16) == bytes(range(16))
    if detail is Detail.FULL:
        assert guest.cpu.events()["reads"] >= 16


def test_the_engines_private_fields_are_found_in_every_engine() -> None:
    """Memory is full of what engines before left behind; a wrong find would be a write into somebody's memory."""
    memory = HostMemory(1 << 22)
    for _ in range(100):
        engine = Engine(memory.address, memory.size)
        assert len(engine._windows) == 3 and engine.stops_at_blocks
        engine.close()
    memory.close()
