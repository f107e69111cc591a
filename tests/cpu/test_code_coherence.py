"""Compiled code follows the bytes that it was compiled from, whoever changes them; nothing else is dropped for it."""

import random

import pytest
from sampling import some
from soft_guest import CODE, CODE_HPA, DATA, DATA_HPA, Guest

from quire.arch import SKYLAKE_X
from quire.cpu import Detail
from quire.cpu.soft import SoftCpu, engine
from quire.cpu.soft.frame_cells import INBOX_FRAMES
from quire.cpu.soft.shared_frames import SharedFrames
from quire.paging import Rights
from quire.tlb import AddressSpace, Tlb
from quire.vcpu import Syscall

FRAME = DATA_HPA + 0x200000
WRITTEN, RUN, SECOND, THIRD = 0x600000, 0x700000, 0x710000, 0x720000
DATA_RIGHTS, CODE_RIGHTS = Rights.READ | Rights.WRITE, Rights.READ | Rights.EXECUTE
#: mov eax, 0; ret: the immediate is what tests change.
ANSWER = bytes.fromhex("b800000000 c3")
#: mov [rsi+1], cl; call rdi; add rbx, rax; loop; syscall.
CHANGE_AND_CALL = "884e01 ffd7 4801c3 e2f6 0f05"
#: call rdi; call rbp; loop; syscall.
CALL_BOTH = "ffd7 ffd5 e2fa 0f05"


def sum_to(count: int) -> int:
    return count * (count + 1) // 2


class Watched:
    """A guest, and how often everything that its engine keeps was dropped: compiled code, translations."""

    def __init__(self, how: str, code: str, **options: object) -> None:
        self.guest = Guest(
            Detail.EXITS if how == "exits" else Detail.FULL, code, by_hooks=how == "hooks", **options
        )
        self.whole_code = self.whole_tlb = 0
        made = self.guest.cpu._engine
        drop_code, drop_tlb = made.drop_code, made.flush_tlb

        def count_code() -> None:
            self.whole_code += 1
            drop_code()

        def count_tlb() -> None:
            self.whole_tlb += 1
            drop_tlb()

        made.drop_code, made.flush_tlb = count_code, count_tlb  # type: ignore[method-assign]

    def start(self, **values: int) -> None:
        self.guest.cpu.registers.write_many({"rip": CODE, "rbx": 0, "rsp": DATA + 0x8000} | values)
        assert self.guest.cpu.run() == Syscall()

    def read(self, name: str) -> int:
        return self.guest.cpu.registers.read(name)


@pytest.fixture(params=["exits", "hooks", "emitted", "unknown"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What counts, and whether the engine's library is one that can drop a page or the code of a frame."""
    found: str = request.param
    if found == "unknown":
        monkeypatch.setattr(engine, "knows_library", lambda: False)
        return "hooks"
    return found


@pytest.fixture(params=["exits", "hooks", "emitted"])
def known(request: pytest.FixtureRequest) -> str:
    """What counts, with a library that can."""
    found: str = request.param
    return found


def with_answer(how: str, code: str) -> Watched:
    """A guest with ANSWER in FRAME, which is written to at WRITTEN and executed at RUN."""
    watched = Watched(how, code)
    watched.guest.tables.map(WRITTEN, FRAME, 4096, DATA_RIGHTS)
    watched.guest.tables.map(RUN, FRAME, 4096, CODE_RIGHTS)
    watched.guest.memory.write(FRAME, ANSWER)
    return watched


def test_code_written_through_an_alias_in_a_loop(known: str) -> None:
    watched = with_answer(known, CHANGE_AND_CALL)
    watched.start(rcx=100, rsi=WRITTEN, rdi=RUN)
    assert watched.read("rbx") == sum_to(100)
    assert watched.whole_code == 0
    if known != "hooks":  # which know a frame by one page
        assert watched.whole_tlb == 0


def test_a_page_that_was_stored_to_before_it_is_executed_elsewhere(how: str) -> None:
    """The engine looks for code at the first store alone: that was before there was any."""
    watched = with_answer(how, "884e01 884e01 ffd7 4889c2 41884e01 884601 ffd7 4801d0 0f05")
    watched.start(rcx=5, rax=7, rsi=WRITTEN, rdi=RUN, r14=WRITTEN)
    assert watched.read("rax") == 5 + 5
    watched.start(rcx=9, rax=7, rsi=WRITTEN, rdi=RUN, r14=WRITTEN)
    assert watched.read("rax") == 9 + 9


def test_two_pages_write_what_a_third_executes(how: str) -> None:
    watched = with_answer(how, "884e01 884601 ffd7 4801c3 e2f4 0f05")
    watched.guest.tables.map(SECOND, FRAME, 4096, DATA_RIGHTS)
    watched.guest.memory.write(CODE_HPA, bytes.fromhex("41884801 884e01 ffd7 4801c3 e2f2 0f05"))
    watched.start(rcx=50, rsi=WRITTEN, rdi=RUN, r8=SECOND)
    assert watched.read("rbx") == sum_to(50)


def test_a_frame_that_is_executed_at_two_pages_keeps_its_code(known: str) -> None:
    watched = with_answer(known, CALL_BOTH)
    watched.guest.tables.map(SECOND, FRAME, 4096, CODE_RIGHTS)
    watched.start(rcx=100, rdi=RUN, rbp=SECOND)
    assert watched.whole_code == 0
    if known != "hooks":
        assert watched.whole_tlb == 0


def test_a_frame_that_is_executed_at_two_pages_and_written_at_a_third(how: str) -> None:
    watched = with_answer(how, "884e01 ffd7 4801c3 ffd5 4801c3 e2f1 0f05")
    watched.guest.tables.map(SECOND, FRAME, 4096, CODE_RIGHTS)
    watched.start(rcx=30, rsi=WRITTEN, rdi=RUN, rbp=SECOND)
    assert watched.read("rbx") == 2 * sum_to(30)


def test_pages_that_are_written_and_executed_both(how: str) -> None:
    """A store to one changes what the other executes."""
    watched = Watched(how, "884e01 ffd7 4801c3 41884801 ffd5 4801c3 e2ed 0f05")
    for page in (RUN, SECOND):
        watched.guest.tables.map(page, FRAME, 4096, DATA_RIGHTS | CODE_RIGHTS)
    watched.guest.memory.write(FRAME, ANSWER)
    watched.start(rcx=30, rsi=RUN, r8=SECOND, rdi=SECOND, rbp=RUN)
    assert watched.read("rbx") == 2 * sum_to(30)


def test_code_that_rewrites_what_follows_it_through_an_alias(how: str) -> None:
    """SDM 3A 11.6: through another linear address this needs a serializing instruction in between; here, CPUID."""
    watched = Watched(how, "0f05")
    code = bytes.fromhex("884e0b 89c8 0fa2 4831c0 b000 4801c3 4c89c1 0f05")
    assert code[10] == 0xB0
    watched.guest.tables.map(WRITTEN, FRAME, 4096, DATA_RIGHTS)
    watched.guest.tables.map(RUN, FRAME, 4096, CODE_RIGHTS)
    watched.guest.memory.write(FRAME, code)
    for value in (3, 4, 5):
        watched.start(rip=RUN, rcx=value, rsi=WRITTEN)
        assert watched.read("rax") == value


def test_what_the_hypervisor_writes_drops_the_code_of_its_frames_alone(known: str) -> None:
    watched = with_answer(known, "ffd7 4801c3 0f05")
    guest = watched.guest
    for value in range(1, 20):
        guest.memory.write(FRAME + 1, bytes([value]))
        guest.cpu.forget_code(FRAME + 1, 1)
        watched.start(rdi=RUN)
        assert watched.read("rax") == value
    assert (watched.whole_code, watched.whole_tlb) == (0, 0)


def test_many_frames_that_change_at_once(how: str) -> None:
    watched = with_answer(how, "ffd7 0f05")
    guest = watched.guest
    for n in range(100):
        guest.tables.map(0x800000 + 4096 * n, FRAME + 4096 * (1 + n), 4096, CODE_RIGHTS)
    for value in (1, 2):
        for n in range(100):
            guest.memory.write(FRAME + 4096 * (1 + n), ANSWER[:1] + bytes([value]) + ANSWER[2:])
        guest.cpu.forget_code(FRAME, 101 * 4096)
        for n in range(100):
            watched.start(rdi=0x800000 + 4096 * n)
            assert watched.read("rax") == value


def test_a_page_that_is_forgotten_is_translated_again_and_others_are_not(known: str) -> None:
    watched = Watched(known, "488b07 488b1e 0f05")
    guest = watched.guest
    for n in (0, 1):
        guest.memory.store(DATA_HPA + 4096 * n, 11)
        guest.memory.store(FRAME + 4096 * n, 22)
    watched.start(rsi=DATA + 4096)
    for n in (0, 1):
        guest.tables.unmap(DATA + 4096 * n)
        guest.tables.map(DATA + 4096 * n, FRAME + 4096 * n, 4096, DATA_RIGHTS)
    fills = guest.cpu.events()["fills"]
    guest.cpu.forget(DATA)
    watched.start(rsi=DATA + 4096)
    assert watched.read("rax") == 22
    assert watched.read("rbx") == 11
    assert guest.cpu.events()["fills"] == fills + 1
    assert watched.whole_tlb == 0


def test_a_large_page_is_forgotten_whole() -> None:
    guest = Guest(Detail.EXITS, "488b07 488b1e 0f05")
    large, other = 0x40000000, 0x200000
    guest.tables.map(large, 0x1000000, 2 << 20, DATA_RIGHTS)
    guest.memory.store(0x1000000, 1)
    guest.memory.store(0x1001000, 2)
    guest.memory.store(other, 3)
    guest.memory.store(other + 0x1000, 4)
    for expected in ((1, 2), (3, 4)):
        guest.cpu.registers.write_many({"rip": CODE, "rdi": large, "rsi": large + 4096})
        assert guest.cpu.run() == Syscall()
        assert (guest.cpu.registers.read("rax"), guest.cpu.registers.read("rbx")) == expected
        guest.tables.unmap(large)
        guest.tables.map(large, other, 2 << 20, DATA_RIGHTS)
        guest.cpu.forget(large + 8192)


def test_an_instruction_that_runs_alone_drops_its_own_code_and_translations(known: str) -> None:
    watched = Watched(known, "90 48ff07 90 90 48ff0e 0f05")
    passed = []
    watched.start(rsi=DATA + 4096)
    for n in range(3):
        watched.guest.cpu.registers.write_many({"rip": CODE + 1})
        watched.guest.cpu.step(lambda: passed.append(1))
        assert watched.guest.cpu.run() == Syscall()
        assert watched.guest.memory.load(DATA_HPA) == 2 + n
    assert len(passed) == 3
    assert (watched.whole_code, watched.whole_tlb) == (0, 0)


class Several:
    """Engines over one memory, as those of a machine, each with page tables and registers of its own."""

    def __init__(self, known: str, code: str, count: int) -> None:
        self.first = with_answer(known, code)
        guest, shared = self.first.guest, SharedFrames(self.first.guest.memory.frame_count)
        self.cpus = [guest.cpu]
        for _ in range(1, count):
            tlb = Tlb(SKYLAKE_X)
            tlb.enter(AddressSpace(1, 0, None))
            detail = Detail.EXITS if known == "exits" else Detail.FULL
            self.cpus.append(
                SoftCpu(
                    guest.memory, guest.context, tlb, detail, guest.exits.append, by_hooks=known == "hooks"
                )
            )
        for cpu in self.cpus:
            shared.join(cpu.caches)

    def run(self, number: int, **values: int) -> int:
        """Run code on an engine and return its RAX."""
        registers = self.cpus[number].registers
        registers.write_many({"rip": CODE, "rbx": 0, "rsp": DATA + 0x8000 + 256 * number} | values)
        assert self.cpus[number].run() == Syscall()
        return registers.read("rax")


#: mov [rsi+1], cl; syscall; and at CALL: call rdi; syscall.
STORE_OR_CALL, CALL = "884e01 0f05 ffd7 0f05", CODE + 5


def test_code_that_another_vcpu_changes(how: str) -> None:
    several = Several(how, STORE_OR_CALL, 2)
    for value in range(1, 20):
        several.run(0, rsi=WRITTEN, rcx=value)
        assert several.run(1, rip=CALL, rdi=RUN) == value
        several.run(1, rsi=WRITTEN, rcx=value + 100)
        assert several.run(0, rip=CALL, rdi=RUN) == value + 100
        assert several.run(1, rip=CALL, rdi=RUN) == value + 100


def test_code_in_a_page_that_another_vcpu_may_write_and_execute(how: str) -> None:
    several = Several(how, STORE_OR_CALL, 3)
    several.first.guest.tables.map(SECOND, FRAME, 4096, DATA_RIGHTS | CODE_RIGHTS)
    for value in range(1, 10):
        for number in range(3):
            several.run(number, rsi=SECOND, rcx=3 * value + number)
            for other in range(3):
                assert several.run(other, rip=CALL, rdi=SECOND) == 3 * value + number


def test_more_frames_than_an_inbox_has_room_for(how: str) -> None:
    several = Several(how, STORE_OR_CALL, 2)
    guest, pages = several.first.guest, range(INBOX_FRAMES + 10)
    for n in pages:
        guest.tables.map(0x800000 + 4096 * n, FRAME + 4096 * n, 4096, DATA_RIGHTS)
        guest.tables.map(0xA00000 + 4096 * n, FRAME + 4096 * n, 4096, CODE_RIGHTS)
        guest.memory.write(FRAME + 4096 * n, ANSWER)
    for value in (5, 6):
        for n in pages:
            several.run(0, rsi=0x800000 + 4096 * n, rcx=value)
        for n in pages:
            assert several.run(1, rip=CALL, rdi=0xA00000 + 4096 * n) == value


def test_what_the_hypervisor_writes_is_seen_by_each_vcpu(how: str) -> None:
    several = Several(how, STORE_OR_CALL, 2)
    for value in (1, 2, 3):
        several.first.guest.memory.write(FRAME + 1, bytes([value]))
        for cpu in several.cpus:
            cpu.forget_code(FRAME + 1, 1)
        assert [several.run(number, rip=CALL, rdi=RUN) for number in (0, 1)] == [value, value]


@pytest.mark.parametrize("seed", range(some(40, 2)))
def test_any_order_of_stores_and_calls(how: str, seed: int) -> None:
    """Two vCPUs, three frames at three pages each, of any rights; what a call returns is what was stored last."""
    choose = random.Random(seed)
    several = Several(how, STORE_OR_CALL, 2)
    guest = several.first.guest
    pages = []
    for frame in range(3):
        guest.memory.write(FRAME + 4096 * frame, ANSWER)
        for n, rights in enumerate((DATA_RIGHTS, CODE_RIGHTS, DATA_RIGHTS | CODE_RIGHTS)):
            page = 0x800000 + 4096 * (3 * frame + n)
            guest.tables.map(page, FRAME + 4096 * frame, 4096, rights)
            pages.append((page, frame, rights))
    held = [0] * 3
    for _ in range(300):
        page, frame, rights = choose.choice(pages)
        number = choose.randrange(2)
        if choose.random() < 0.05:
            several.cpus[number].forget(choose.choice((None, page)))
        if choose.random() < 0.1:
            held[frame] = choose.randrange(100)
            guest.memory.write(FRAME + 4096 * frame + 1, bytes([held[frame]]))
            for cpu in several.cpus:
                cpu.forget_code(FRAME + 4096 * frame + 1, 1)
        if rights & Rights.WRITE and choose.random() < 0.5:
            held[frame] = choose.randrange(100)
            several.run(number, rsi=page, rcx=held[frame])
        elif rights & Rights.EXECUTE:
            if choose.random() < 0.2:
                several.cpus[number].registers.write("rip", CALL)
                several.cpus[number].step(lambda: None)
            assert several.run(number, rip=CALL, rdi=page) == held[frame]
