"""Dirty logs of real guests: several vCPUs in ring 0 and real programs, against what memory shows byte by byte."""

import os
import shutil
from itertools import pairwise

import pytest
from dirty_guests import changed, snapshot
from ring0_guest import TABLES, assemble

from quire.arch import HWCAP, ExitReason
from quire.cpu import Detail, make_cpu
from quire.guest.boot.bare import BareGuest, bare_config
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.process import ProcessGuest
from quire.guest.kernel.processors import Processors
from quire.guest.kernel.virtual_machine import VirtualMachine
from quire.guest.load.launch import prepare
from quire.machine import CachingMode, GuestConfig, Machine
from quire.mmu import ShadowOptions
from quire.observe import DirtyLog, DirtyRing, DirtyRingFull, DirtyWay

EVERY = [("ept", way) for way in DirtyWay] + [("shadow", DirtyWay.WRITE_PROTECT)]
AREA, SPACE, PAGES = 0x400000, 8 << 20, 1024
PORT = 0x80
#: Adds to counters in pages that a generator of numbers picks, and asks for a harvest now and then.
SOURCE = f"""
    mov rbx, rsi
    imul rbx, rbx, {SPACE}
    add rbx, {AREA}
    mov r12, rsi
    mov r13, 1000
again:
    imul r12, r12, 1103515245
    add r12, 12345
    mov rax, r12
    shr rax, 16
    and rax, {PAGES - 1}
    shl rax, 12
    add qword ptr [rbx + rax], 1
    dec r13
    mov rax, r13
    and rax, 255
    jnz again
    out {PORT:#x}, al
    test r13, r13
    jnz again
    hlt
"""


def picked(number: int, rounds: int) -> list[int]:
    """Return the frames that vCPU `number` writes, one a round."""
    state, found = number, []
    for _ in range(rounds):
        state = (state * 1103515245 + 12345) & (1 << 64) - 1
        found.append((AREA + number * SPACE >> 12) + (state >> 16 & PAGES - 1))
    return found


class Observer:
    """Harvests when it is told to, and holds each harvest against what changed in memory."""

    def __init__(self, machine: Machine, log: DirtyLog) -> None:
        self.machine, self.log = machine, log
        self.harvests: list[set[int]] = []
        self.before = snapshot(machine)

    def read(self, size: int) -> int:
        return 0

    def write(self, value: int, size: int) -> None:
        self.harvest()

    def harvest(self) -> None:
        found = set(self.log.harvest().frames().tolist())
        now = snapshot(self.machine)
        assert changed(self.before, now) <= found, "each page that differs is in the log"
        self.before = now
        self.harvests.append(found)


def run_bare(
    mmu: str, way: DirtyWay, vcpus: int, source: str = SOURCE, **options
) -> tuple[list[set[int]], dict]:
    guest = BareGuest(assemble(source), bare_config(mmu=mmu, memory=32 << 20, vcpus=vcpus, **options))
    try:
        with DirtyLog(guest.machine, way) as log:
            observer = Observer(guest.machine, log)
            guest.machine.ports.attach(PORT, observer)
            outcome = guest.run(60.0)
            assert outcome.reason == "halted", outcome
            observer.harvest()
        if guest.vcpu.flush_check is not None:
            assert all(not one.flush_check.findings for one in guest.vcpus)  # type: ignore[union-attr]
        return observer.harvests, outcome.exits
    finally:
        guest.close()


@pytest.mark.parametrize("vcpus", [1, 2])
def test_every_way_finds_the_same_in_a_machine(vcpus: int) -> None:
    runs = {way: run_bare("ept", way, vcpus) for way in DirtyWay}
    harvests = [found for found, _ in runs.values()]
    together = [set().union(*found) for found in harvests]
    assert together[0] == together[1] == together[2]
    data = [{frame for frame in found if frame >= AREA >> 12} for found in harvests[0]]
    for number in range(vcpus):
        frames = picked(number, 1000)
        mine = set(range(AREA + number * SPACE >> 12, AREA + (number + 1) * SPACE >> 12))
        assert set().union(*data) & mine == set(frames)
    if vcpus == 1:  # with several, exits change whose turn it is at a harvest
        assert harvests[0] == harvests[1] == harvests[2]
        edges = [0, *range(1000 % 256, 1001, 256)]
        expected = [set(picked(0, 1000)[a:b]) for a, b in pairwise(edges)]
        assert data == [*expected, set()]
    assert runs[DirtyWay.WRITE_PROTECT][1]["EPT_VIOLATION"] > runs[DirtyWay.PML][1]["EPT_VIOLATION"]


def test_a_machine_under_shadow_finds_the_same_data() -> None:
    under_ept, _ = run_bare("ept", DirtyWay.PML, 1)
    under_shadow, _ = run_bare("shadow", DirtyWay.WRITE_PROTECT, 1)
    first = AREA >> 12
    assert [{n for n in found if n >= first} for found in under_shadow] == [
        {n for n in found if n >= first} for found in under_ept
    ]


@pytest.mark.parametrize("way", list(DirtyWay))
def test_a_checked_machine_misses_no_flush(way: DirtyWay) -> None:
    run_bare("ept", way, 2, FEW, check_flushes=True)


FILL = f"""
    mov rbx, {AREA}
    mov rcx, 1100
1:  mov [rbx], rcx
    add rbx, 0x1000
    loop 1b
    hlt
"""


def test_a_log_that_is_full_exits_and_goes_on() -> None:
    guest = BareGuest(assemble(FILL), bare_config(memory=32 << 20))
    try:
        with DirtyLog(guest.machine, DirtyWay.PML) as log:
            ring = log.ring(1 << 20)
            outcome = guest.run()
            assert outcome.reason == "halted"
            assert outcome.exits[ExitReason.PAGE_MODIFICATION_LOG_FULL.name] == 2
            order = [frame for frame in ring.take() if frame >= AREA >> 12]
        assert order == [*range(AREA >> 12, (AREA >> 12) + 1100)]
    finally:
        guest.close()


@pytest.mark.parametrize("way", [DirtyWay.PML, DirtyWay.WRITE_PROTECT])
def test_a_full_ring_stops_the_machine_which_goes_on(way: DirtyWay) -> None:
    guest = BareGuest(assemble(FILL), bare_config(memory=32 << 20))
    try:
        with DirtyLog(guest.machine, way) as log:
            ring = log.ring(100)
            order: list[int] = []
            stops = 0
            while (outcome := guest.run()).reason == "stopped":
                assert outcome.text == (
                    "The dirty ring holds 100 frames and is full: take and reset them, then go on"
                )
                order += ring.take()
                ring.reset()
                stops += 1
            assert outcome.reason == "halted" and stops >= 2
            order += ring.take()
        assert [frame for frame in order if frame >= AREA >> 12] == [*range(AREA >> 12, (AREA >> 12) + 1100)]
        assert issubclass(DirtyRingFull, Exception)
    finally:
        guest.close()


@pytest.mark.parametrize(("mmu", "way"), [one for one in EVERY if one[1].ordered])
def test_a_ring_is_drained_in_time(mmu: str, way: DirtyWay) -> None:
    order: list[int] = []

    def drain(ring: DirtyRing) -> None:
        assert len(ring) >= 100
        order.extend(ring.take())
        ring.reset()

    guest = BareGuest(assemble(FILL), bare_config(mmu=mmu, memory=32 << 20))
    try:
        with DirtyLog(guest.machine, way) as log:
            ring = log.ring(100, drain)
            assert guest.run().reason == "halted"
            assert order
            order += ring.take()
        assert [frame for frame in order if frame >= AREA >> 12] == [*range(AREA >> 12, (AREA >> 12) + 1100)]
    finally:
        guest.close()


class Kernel:
    """A process's kernel that has a harvest made every few system calls."""

    def __init__(self, guest: ProcessGuest, observer: Observer) -> None:
        self._guest, self._observer, self._calls = guest, observer, 0
        self.page_fault, self.exception = guest.page_fault, guest.exception

    @property
    def finished(self) -> bool:
        return self._guest.exit_status is not None or self._guest.death is not None

    def syscall(self) -> None:
        self._guest.syscall()
        self._calls += 1
        if self._calls % 8 == 0:
            self._observer.harvest()

    def interrupted(self) -> None: ...


def run_program(argv: list[str], mmu: str, way: DirtyWay, **options) -> list[set[int]]:

    machine = Machine(GuestConfig(mmu=mmu, memory=64 << 20, **options), make_cpu("soft", Detail.EXITS))
    kept = [os.dup(fd) for fd in range(3)]  # a program that closes its output closes ours
    try:
        with DirtyLog(machine, way) as log:
            observer = Observer(machine, log)
            program = prepare(argv, os.environ.get("PATH"), os.getcwd())
            guest = ProcessGuest(
                VirtualMachine(Processors(machine.vcpus)),
                program,
                {b"LC_ALL": b"C"},
                GuestOptions(0, False, os.getcwd(), HWCAP),
            )
            guest.start()
            observer.harvest()
            machine.vcpu.run(Kernel(guest, observer))
            observer.harvest()
            assert guest.exit_status == 0
            guest.abandon()
        return observer.harvests
    finally:
        for fd, one in enumerate(kept):
            os.dup2(one, fd)
            os.close(one)
        machine.discard()


@pytest.mark.parametrize("argv", [["true"], ["sort", "/etc/passwd", "-o", "/dev/null"]], ids=lambda a: a[0])
def test_every_way_finds_the_same_in_a_program(argv: list[str]) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"this machine has no {argv[0]}")
    runs = [run_program(argv, "ept", way) for way in DirtyWay]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) > 2
    large = run_program(argv, "ept", DirtyWay.PML, host_page=2 << 20)
    assert large == runs[0]
    shadow = run_program(argv, "shadow", DirtyWay.WRITE_PROTECT)
    assert len(shadow) == len(runs[0])


#: A fault's frame goes to a stack of its own, then INS fills a page, then the processor sets A and D in a table.
EVENTS = (
    "gate 6, on_ud\n"
    + TABLES
    + f"""
    store 0x203008, 0x301003
    mov rsp, 0x500ff0
    out {PORT:#x}, al
    ud2
on_ud:
    out {PORT:#x}, al
    mov rdi, 0x600000
    mov rcx, 16
    mov dx, {PORT:#x}
    rep insb
    out {PORT:#x}, al
    mov rax, 0x200000
    mov cr3, rax
    mov qword ptr [0x401000], 1
    out {PORT:#x}, al
    hlt
"""
)


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_what_python_and_walks_write_for_the_guest_is_logged(mmu: str, way: DirtyWay) -> None:
    guest = BareGuest(assemble(EVENTS), bare_config(mmu=mmu, memory=32 << 20))
    try:
        with DirtyLog(guest.machine, way) as log:
            observer = Observer(guest.machine, log)
            guest.machine.ports.attach(PORT, observer)
            outcome = guest.run()
            assert outcome.reason == "halted", outcome
        assert outcome.delivered == {6: 1}
    finally:
        guest.close()
    _, delivered, filled, walked = observer.harvests
    assert 0x500 in delivered and 0x600 not in delivered
    assert 0x600 in filled and 0x500 not in filled
    assert {0x203, 0x301} <= walked and 0x302 not in walked


FEW = SOURCE.replace("1000", "100").replace("255", "31")


@pytest.mark.parametrize("caching", [CachingMode.RETAIN, CachingMode.EVICT])
def test_what_a_processor_keeps_or_drops_changes_nothing(caching: CachingMode) -> None:
    found = [run_bare("ept", way, 1, FEW, caching=caching)[0] for way in DirtyWay]
    assert found[0] == found[1] == found[2] == run_bare("ept", DirtyWay.PML, 1, FEW)[0]


@pytest.mark.parametrize("host_page", [4 << 10, 2 << 20])
def test_a_shadow_is_justified_while_it_is_logged(host_page: int) -> None:
    shadow = ShadowOptions(audit=True, prefetch=8)
    run_bare("shadow", DirtyWay.WRITE_PROTECT, 1, FEW, shadow=shadow, host_page=host_page)
