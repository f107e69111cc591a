"""An interruption that is asked for once ends a run, wherever the guest is, and loses and repeats nothing."""

import random
import threading
from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import pytest
from soft_guest import CODE, DATA_HPA, Guest

from quire.arch import Access
from quire.cpu import Detail
from quire.cpu.soft import engine
from quire.guest.boot.bare import BareGuest, bare_config
from quire.paging import reference_walk
from quire.vcpu import Interrupted, Syscall, Trap, TrapKind

#: add qword [rdi], 1; inc rax; dec rcx; jnz to the first; syscall. A stop within the first would repeat it.
COUNTING = "48830701 48ffc0 48ffc9 75f4 0f05"
REQUESTS = 12


class Walked:
    """Fills answered by Python, each as memory has it; `asks` is called at each for an access of `asks_at`."""

    guest: Guest
    asks_at: Collection[Access] = tuple(Access)

    def __init__(self, asks: Callable[[], None] = lambda: None) -> None:
        self.asks = asks

    def answer(self, gva: int, access: Access, result: npt.NDArray[np.uint64]) -> bool:
        if access in self.asks_at:
            self.asks()
        reference_walk(self.guest.memory.words, self.guest.context, gva, access).put(result)
        return True

    def held(self, gva: int, rip: int) -> bool:
        raise AssertionError("nothing is held back")

    def passed(self) -> None: ...


def answered(detail: Detail) -> Guest:
    fills = Walked()
    fills.guest = Guest(detail, COUNTING, fills=fills)
    return fills.guest


def evicted(detail: Detail) -> Guest:
    return Guest(detail, COUNTING, evictions=random.Random(0))


def with_stop(detail: Detail) -> Guest:
    guest = Guest(detail, COUNTING)
    guest.cpu.places.at(CODE + 0x100)
    return guest


@pytest.fixture(params=["flag", "no-flag", "no-cells"])
def flag(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the engine's own flag and cells for requests, and where one of them was not found."""
    if request.param == "no-flag":
        monkeypatch.setattr(engine, "find_exit_flag", lambda: 0)
    elif request.param == "no-cells":
        monkeypatch.setattr(engine, "find_stop_cells", lambda: None)


@pytest.mark.usefixtures("flag")
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize(
    "make",
    [lambda detail: Guest(detail, COUNTING), answered, evicted, with_stop],
    ids=lambda make: make.__name__,
)
def test_each_request_ends_one_run_between_two_blocks(
    make: Callable[[Detail], Guest], detail: Detail
) -> None:
    guest = make(detail)
    guest.cpu.registers.write_many({"rcx": 1 << 40, "rax": 0})
    ended = threading.Semaphore(0)

    def ask() -> None:
        for _ in range(REQUESTS):
            guest.cpu.interrupt()
            ended.acquire()

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(REQUESTS):
        assert guest.cpu.run() == Interrupted()
        assert guest.cpu.registers.read("rip") == CODE
        assert guest.cpu.registers.read("rax") == guest.memory.load(DATA_HPA)
        ended.release()
    thread.join()
    left = 1000
    guest.cpu.registers.write("rcx", left)
    before = guest.cpu.registers.read("rax")
    assert guest.cpu.run() == Syscall()
    assert guest.cpu.registers.read("rax") == before + left == guest.memory.load(DATA_HPA)
    if detail is Detail.FULL:
        assert guest.cpu.events()["instructions"] == 4 * (before + left) + 1


@pytest.mark.usefixtures("flag")
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_a_request_before_the_run_is_kept(detail: Detail) -> None:
    guest = Guest(detail, COUNTING)
    guest.cpu.registers.write_many({"rcx": 5, "rax": 0})
    guest.cpu.interrupt()
    assert guest.cpu.run() == Interrupted()
    assert guest.cpu.registers.read("rip") == CODE and guest.memory.load(DATA_HPA) == 0
    assert guest.cpu.run() == Syscall()
    assert guest.memory.load(DATA_HPA) == 5


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_a_request_of_the_thread_that_is_about_to_run_is_kept(
    detail: Detail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a signal handler, between the last look for a request and the start of the engine."""
    guest = Guest(detail, COUNTING)
    guest.cpu.registers.write_many({"rcx": 5, "rax": 0})
    start = guest.cpu._start

    def interrupted_start(user: object) -> int:
        guest.cpu.interrupt()
        return start(user)

    monkeypatch.setattr(guest.cpu, "_start", interrupted_start)
    assert guest.cpu.run() == Interrupted()
    assert guest.cpu.registers.read("rip") == CODE and guest.memory.load(DATA_HPA) == 0
    monkeypatch.setattr(guest.cpu, "_start", start)
    assert guest.cpu.run() == Syscall()
    assert guest.memory.load(DATA_HPA) == 5


@pytest.mark.usefixtures("flag")
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_a_request_from_an_exit_is_met_before_the_second_block(detail: Detail) -> None:
    # cpuid; jmp to the next instruction; inc rbx; jmp to the next; inc rdx; syscall
    guest = Guest(detail, "0fa2 eb00 48ffc3 eb00 48ffc2 0f05")
    guest.cpu.registers.write_many({"rbx": 0, "rdx": 0})
    guest.exits = Asking(guest)
    guest.cpu._on_exit = guest.exits.append
    assert guest.cpu.run() == Interrupted()
    assert guest.cpu.registers.read("rdx") == 0
    assert guest.cpu.run() == Syscall()
    assert guest.cpu.registers.read_many(("rbx", "rdx")) == [1, 1]


@pytest.mark.usefixtures("flag")
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize(
    ("code", "rip", "stop"),
    [
        ("0fa2 0f05", CODE + 4, Syscall()),  # cpuid; syscall
        ("0fa2 0fa2 0f05", CODE + 6, Syscall()),  # cpuid; cpuid; syscall
        ("0fa2 488b07 0f05", CODE + 7, Syscall()),  # cpuid; mov rax, [rdi], whose page is filled; syscall
        ("0fa2 cd80", CODE + 4, Trap(TrapKind.EXCEPTION, 0x80)),  # cpuid; int 0x80
    ],
    ids=["system call", "exit", "fill", "exception"],
)
def test_what_comes_behind_a_request_in_its_block_is_not_passed_over(
    detail: Detail, code: str, rip: int, stop: object
) -> None:
    """Where the library is asked to stop it calls no hook until the block ends, and so loses a system call."""
    guest = Guest(detail, code)
    asking = Asking(guest)
    guest.cpu._on_exit = asking.append
    guest.memory.store(DATA_HPA, 0x1122_3344_5566_7788)
    guest.cpu.registers.write_many({"rax": 0})
    stops = [guest.cpu.run()]
    while stops[-1] == Interrupted() and len(stops) < 4:
        stops.append(guest.cpu.run())
    assert stops[-1] == stop
    assert guest.cpu.registers.read("rip") == rip
    assert asking.asked == code.count("0fa2")
    if "488b07" in code:
        assert guest.cpu.registers.read("rax") == 0x1122_3344_5566_7788


class Asking(list):  # type: ignore[type-arg]
    """Exits of a guest, each of which asks for an interruption."""

    def __init__(self, guest: Guest) -> None:
        self.guest, self.asked = guest, 0

    def append(self, stop: object) -> None:
        self.asked += 1
        self.guest.cpu.interrupt()


@pytest.mark.usefixtures("flag")
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize("when", ["before", "while", "load", "store"])
def test_an_instruction_that_runs_alone_runs_once(detail: Detail, when: str) -> None:
    fills = Walked()
    fills.asks_at = {"load": (Access.READ,), "store": (Access.WRITE,)}.get(when, tuple(Access))
    guest = fills.guest = Guest(detail, COUNTING, fills=fills)
    guest.cpu.registers.write_many({"rcx": 1, "rax": 0})
    passed: list[int] = []
    guest.cpu.step(lambda: passed.append(guest.memory.load(DATA_HPA)))
    if when == "before":
        guest.cpu.interrupt()
    else:
        fills.asks = guest.cpu.interrupt
    stops = [guest.cpu.run()]
    fills.asks = lambda: None
    while stops[-1] == Interrupted():
        stops.append(guest.cpu.run())
    assert stops == [Interrupted(), Syscall()]
    assert passed == [1] and guest.memory.load(DATA_HPA) == 1


LOOPS = {
    "nothing": "ebfe",
    "read and write": "48ff07 ebfb",
    # mov [rdi], rdi; rdi = (rdi + 4096) within 8 to 16 MiB
    "fills": "48893f 4881c700100000 4881e7ffff7f00 4881cf00008000 ebe6",
}


@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
@pytest.mark.parametrize("loop", ["nothing", "read and write", "fills"])
@pytest.mark.parametrize("more", [{}, {"vcpus": 2}, {"caching": "evict"}, {"check_flushes": True}], ids=str)
def test_a_bare_guest_that_never_ends_is_ended(
    mmu: str, detail: Detail, loop: str, more: dict[str, object]
) -> None:
    if mmu == "shadow" and "vcpus" in more:
        pytest.skip("a guest under shadow has one vCPU")
    guest = BareGuest(
        bytes.fromhex(LOOPS[loop]), bare_config(memory=32 << 20, mmu=mmu, **more), detail=detail
    )  # type: ignore[arg-type]
    for one in guest.vcpus:
        one.cpu.registers.write("rdi", 0x800000)
    for _ in range(2):
        assert guest.run(0.001).reason == "interrupted"
    guest.close()
