"""Guest-physical regions of guests in ring 0: ROM, alias, devices, W^X, under each Mmu that has them."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from ring0_guest import assemble, make, reported

from quire.arch import EPT_VIOLATION_QUALIFICATION, ExitReason
from quire.cpu.soft.decode import decode
from quire.errors import MisuseError
from quire.exits import ExitContext, Next, Skip
from quire.guest.boot.bare import BareGuest, BareOutcome, bare_config
from quire.machine import CachingMode, protect_memory
from quire.mmu import Region, RegionKind, ShadowOptions
from quire.observe import DirtyLog, DirtyWay
from quire.paging import Rights
from quire.vcpu import Exit

R, W, X = Rights.READ, Rights.WRITE, Rights.EXECUTE
PORT = 0x80
LOW = Region(0, 0x200000)
BOTH = pytest.mark.parametrize("mmu", ["ept", "shadow"])


def go(source: str, mmu: str, *regions: Region, **options: Any) -> tuple[BareOutcome, list[int]]:
    guest = make(source, mmu, regions=(LOW, *regions), **options)
    try:
        outcome = guest.run()
    finally:
        guest.close()
    return outcome, reported(outcome)


@dataclass
class Device:
    """Carries out MOV between a register and its one word, and notes each access."""

    word: int = 0x1234
    seen: list[tuple[int, str, int | None]] = field(default_factory=list)

    def __call__(self, vcpu: ExitContext, stop: Exit) -> Next:
        assert stop.reason is ExitReason.EPT_VIOLATION
        said = EPT_VIOLATION_QUALIFICATION.decode(stop.qualification)
        assert said["gla_valid"] and said["final"]
        self.seen.append((stop.gpa, "".join(name for name in "RWX" if said[name]), stop.gla))
        registers = vcpu.cpu.registers
        rip = registers.read("rip")
        code = vcpu.linear_memory.read(rip, 15, supervisor=True)
        assert isinstance(code, bytes)
        found = decode(code)
        assert found is not None and found.name == "mov"
        if said["W"]:
            self.word = registers.read(found.register(1))
        else:
            registers.write(found.register(0), self.word)
        return Skip(found.length)


ROM_READER = """
    mov rbx, [0x200000]
    report rbx
    mov rbx, [0x201000]
    report rbx
    mov [0x200008], rbx
    report 1
    finish
"""
ROM = Region(0x200000, 0x2000, RegionKind.READ_ONLY, contents=(77).to_bytes(8, "little"))


@BOTH
def test_a_rom_is_read_and_a_write_stops_the_guest(mmu: str) -> None:
    outcome, values = go(ROM_READER, mmu, ROM)
    assert (outcome.reason, values) == ("stopped", [77, 0])
    assert outcome.text.endswith("GPA 0x200008")


@BOTH
def test_a_write_to_a_rom_may_be_dealt_with(mmu: str) -> None:
    device = Device()
    rom = Region(ROM.start, ROM.size, ROM.kind, contents=ROM.contents, on_access=device)
    outcome, values = go(ROM_READER, mmu, rom)
    assert (outcome.reason, values) == ("exited", [77, 0, 1])
    assert device.seen == [(0x200008, "W", 0x200008)]


@BOTH
def test_a_python_write_puts_a_program_into_a_rom(mmu: str) -> None:
    guest = make("mov eax, 0x200000\n call rax\n report rax\n finish", mmu, regions=(LOW, ROM))
    guest.write(0x200000, b"\xb8\x2a\x00\x00\x00\xc3")  # mov eax, 42; ret
    outcome = guest.run()
    guest.close()
    assert (outcome.reason, reported(outcome)) == ("exited", [42])


MMIO = """
    mov rbx, [0x300010]
    report rbx
    mov rcx, 99
    mov [0x300018], rcx
    mov rbx, [0x300010]
    report rbx
    finish
"""


@BOTH
def test_a_device_answers_and_without_one_the_guest_is_stopped(mmu: str) -> None:
    device = Device()
    outcome, values = go(MMIO, mmu, Region(0x300000, 0x1000, RegionKind.MMIO, on_access=device))
    assert (outcome.reason, values) == ("exited", [0x1234, 99])
    assert device.seen == [(0x300010, "R", 0x300010), (0x300018, "W", 0x300018), (0x300010, "R", 0x300010)]
    texts = set()
    for regions in ((Region(0x300000, 0x1000, RegionKind.MMIO),), ()):
        outcome, values = go(MMIO, mmu, *regions)
        assert (outcome.reason, values) == ("stopped", [])
        texts.add(outcome.text)
    assert len(texts) == 1, "a hole is a hole"


@pytest.mark.parametrize("caching", list(CachingMode))
def test_an_alias_sees_what_the_other_address_writes(caching: CachingMode) -> None:
    source = """
        store 0x500010, 11
        mov rbx, [0x100010]
        report rbx
        store 0x100018, 12
        mov rbx, [0x500018]
        report rbx
        mov rbx, [0x600018]
        report rbx
        mov [0x600018], rbx
        finish
    """
    alias = Region(0x500000, 0x1000, RegionKind.ALIAS, target=0x100000)
    shown = Region(0x600000, 0x1000, RegionKind.ALIAS, rights=R, target=0x100000)
    outcome, values = go(source, "ept", alias, shown, caching=caching, check_flushes=True)
    assert values == [11, 12, 12]
    assert outcome.reason == "stopped" and outcome.text.endswith("GPA 0x600018")


@pytest.mark.parametrize("way", list(DirtyWay))
def test_a_log_has_both_addresses_of_what_a_guest_writes(way: DirtyWay) -> None:
    source = "store 0x500010, 11\n finish"
    alias = Region(0x500000, 0x1000, RegionKind.ALIAS, target=0x100000)
    guest = make(source, "ept", regions=(LOW, alias))
    with DirtyLog(guest.machine, way) as log:
        guest.run()
        frames = log.harvest().frames().tolist()
    guest.close()
    assert {0x100, 0x500} <= set(frames)


class Flipper:
    """A port: the guest writes the rights that it wants for its code, Rights bits 2:0; `careless` forgets to flush."""

    def __init__(self, guest: BareGuest, careless: bool = False) -> None:
        self.guest, self.careless = guest, careless
        self.refused: list[str] = []

    def read(self, size: int) -> int:
        return 0

    def write(self, value: int, size: int) -> None:
        if self.careless:
            self.guest.vcpu.mmu.memory_map.protect_range(0x400000, 0x1000, Rights(value))
            self.guest.vcpu.cpu.forget(None)  # the engine's own cache, that the next access is a fill
            return
        try:
            protect_memory(self.guest.machine, 0x400000, 0x1000, Rights(value))
        except MisuseError as error:
            self.refused.append(str(error))


FLIP = f"""
    .macro flip rights
        mov al, \\rights
        out {PORT:#x}, al
    .endm
"""
JIT = (
    FLIP
    + """
    .macro translate number
        mov rax, 0xc300000000b8 | (\\number << 8)  # mov eax, number; ret
        mov [0x400000], rax
    .endm
    mov r12, 0x400000
    translate 42
    flip 7
    flip 5
    call r12
    report rax
    flip 3
    translate 43
    flip 5
    call r12
    report rax
    translate 44
    report rax
    finish
"""
)
CODE = Region(0x400000, 0x1000, rights=R | W, wxorx=True)


@BOTH
@pytest.mark.parametrize("caching", list(CachingMode))
def test_code_is_written_then_executed_never_both(mmu: str, caching: CachingMode) -> None:
    guest = make(
        JIT,
        mmu,
        regions=(LOW, CODE),
        caching=caching,
        check_flushes=True,
        shadow=ShadowOptions(audit=True),
    )
    flipper = Flipper(guest)
    guest.machine.ports.attach(PORT, flipper)
    outcome = guest.run()
    check = guest.vcpu.flush_check
    assert (outcome.reason, reported(outcome)) == ("stopped", [42, 43])
    assert outcome.text.endswith("GPA 0x400000")
    assert flipper.refused == [
        "RAM 0x400000 to 0x401000 cannot have READ+WRITE+EXECUTE rights: W^X allows WRITE or EXECUTE, never both"
    ]
    assert check is not None and check.findings == []
    guest.close()


@BOTH
def test_what_is_not_executable_yet_is_an_exit(mmu: str) -> None:
    outcome, values = go("mov r12, 0x400000\n mov word ptr [r12], 0xc3c3\n call r12\n finish", mmu, CODE)
    assert (outcome.reason, values) == ("stopped", [])
    assert outcome.text.endswith("GPA 0x400000")


def test_a_flip_without_a_flush_is_a_finding() -> None:
    source = FLIP + "mov qword ptr [0x400000], 1\n flip 5\n mov qword ptr [0x400000], 2\n finish"
    guest = make(source, "ept", regions=(LOW, CODE), caching=CachingMode.RETAIN, check_flushes=True)
    guest.machine.ports.attach(PORT, Flipper(guest, careless=True))
    assert guest.run().reason == "exited", "the stale translation still let it write"
    check = guest.vcpu.flush_check
    assert check is not None and len(check.findings) == 1
    guest.close()


def test_several_vcpus_see_a_protect_at_once() -> None:
    source = f"""
        test rsi, rsi
        jnz other
    1:  cmp qword ptr [0x100000], 3
        jb 1b
        mov al, 1
        out {PORT:#x}, al
        mov qword ptr [0x100008], 1
    2:  jmp 2b
    other:
        inc qword ptr [0x400000]
        inc qword ptr [0x100000]
        cmp qword ptr [0x100008], 1
        jne other
        mov qword ptr [0x400000], 7
        finish
    """
    guest = make(source, "ept", regions=(LOW, CODE), vcpus=2, caching=CachingMode.RETAIN, check_flushes=True)
    guest.machine.ports.attach(PORT, Flipper(guest))
    outcome = guest.run()
    assert outcome.reason == "stopped" and outcome.text.endswith("GPA 0x400000")
    assert all(one.flush_check is not None and not one.flush_check.findings for one in guest.vcpus)
    guest.close()


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (
            (Region(0x10000, 0x10000),),
            "The boot protocol's tables at GPA 0x1000 to 0x10000 would lie in no region with memory: give RAM there",
        ),
        (
            (Region(0, 0x10000), Region(0x10000, 0x10000, RegionKind.MMIO)),
            "The image at GPA 0x10000 to {end:#x} would lie in no region with memory: give RAM there",
        ),
    ],
)
def test_a_guest_needs_memory_to_start(regions: tuple[Region, ...], message: str) -> None:
    image = assemble("hlt")
    end = 0x10000 + -(-len(image) // 4096) * 4096
    with pytest.raises(MisuseError) as refused:
        BareGuest(image, bare_config(regions=regions))
    assert str(refused.value) == message.format(end=end)
