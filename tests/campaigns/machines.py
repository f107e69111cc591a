"""Hostile guests of `quire boot`: whatever they do to devices, processors and their tables, they end or go on.

``python tests/campaigns/machines.py COUNT SEED`` runs COUNT images, each a function of its seed: random bytes, wild
accesses to every device, messages between processors, timers of every period, stacks, strings, tables and code in
device memory. A failure names the seed.
"""

import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from quire.cpu import Detail
from quire.guest.boot.boot_session import BootSession
from quire.guest.boot.boot_spec import BootSpec, boot_config

sys.path.append(str(Path(__file__).parents[1]))
from small_bzimage import small_bzimage

__all__ = ["campaign", "outcome"]

_MEMORY = 32 << 20
_NANOSECONDS = 300_000  # of the guest's clock, after which a guest that goes on has done so
_SECONDS = 0.2  # of the host's, after which it is interrupted: that is an outcome as well
_CODE = 0x1000200
_TABLES = range(0x1000, 0x8000, 8)
_PORTS = (0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x70, 0x71, 0x64, 0xCF9, 0x600, 0x601, 0xF4, 0x80)
_PAGES = (0xFEE00000, 0xFEC00000, 0xD0000000, 0xD0001000, 0xD0002000, 0xD0003000, 0xFED00000, 0xC0000000)
_MSRS = (0x10, 0x1B, 0x6E0, 0x8B, 0x277, 0xC0000080, 0xC0000082, 0xC0000101, *range(0x800, 0x840))
_VALUES = (0, 1, 2, 0xF, 0x20, 0x7F, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1)
#: INIT, start-up, NMI, fixed: to itself, all, the others, number 1.
_COMMANDS = tuple(how | to for how in (0x4500, 0x4601, 0x4400, 0x40FF, 0x4021) for to in (0x40000, 0x80000, 0xC0000, 0))
_FAULTING = tuple(
    bytes.fromhex(code)
    for code in (
        "f4", "fb", "fa", "fbf4", "f36c", "f36e", "f3a4", "f348a5", "f3aa", "f348ab", "f3a6", "ac", "aa", "a4", "0f0b",
        "cc", "f1", "0f05", "480f07", "48cf", "9c", "9d", "0f22d8", "0f22e0", "0f22c0", "440f22c0", "0f30", "0f32",
        "0fa2", "0f31", "0f0118", "0f0110", "0f0138", "0f00d8", "0f01f8", "0f09", "cb", "48cb", "ffe7", "ffd7",
        "ff27", "ff17", "0fae07", "0fae0f", "0fc70f", "480fc70f", "f00fb10f", "48870f", "660fe707", "0f2907", "0f2807",
        "dd07", "df3f", "8f07", "ff37", "0f013f",
    )
)  # fmt: skip


def _value(seeded: random.Random) -> int:
    how = seeded.randrange(4)
    if how == 0:
        return seeded.choice(_VALUES)
    if how == 1:
        return seeded.choice(_COMMANDS) | seeded.choice((0, 1 << 32, 0xFF << 56, 1 << 56))
    return seeded.getrandbits(seeded.choice((8, 16, 32, 64))) if how == 2 else _address(seeded)


def _address(seeded: random.Random) -> int:
    """Return an address in a device, at an edge, in memory, at the code or the tables, or anywhere."""
    how = seeded.randrange(8)
    if how < 4:
        page = seeded.choice(_PAGES)
        return page + seeded.choice((seeded.randrange(0, 0x400, 16), seeded.randrange(0x1000), 0x300, 0x380))
    if how == 4:
        edge = seeded.choice((_MEMORY, *_PAGES, 1 << 32, 0x1001000))
        return edge - seeded.randrange(1, 17)
    if how == 5:
        return seeded.choice(_TABLES)
    return seeded.choice((_CODE, seeded.randrange(_MEMORY))) if how == 6 else seeded.getrandbits(64)


def _load(register: int, value: int) -> bytes:
    return bytes((0x48, 0xB8 + register)) + value.to_bytes(8, "little")


def _store(seeded: random.Random) -> bytes:
    """A load or store of 1 to 8 bytes at [RDI], of RAX."""
    code = seeded.choice(("8807", "668907", "8907", "488907", "8a07", "668b07", "8b07", "488b07"))
    return _load(7, _address(seeded)) + _load(0, _value(seeded)) + bytes.fromhex(code)


def _out(seeded: random.Random) -> bytes:
    port, code = seeded.choice(_PORTS), seeded.choice(("ee", "66ef", "ef", "ec", "66ed", "ed"))
    return _load(2, port) + _load(0, _value(seeded)) + bytes.fromhex(code)


def _msr(seeded: random.Random) -> bytes:
    """RDMSR or WRMSR, of what it read or of a wild value."""
    value, number = _value(seeded), _load(1, seeded.choice(_MSRS))
    code = seeded.choice(("0f30", "0f30", "0f32", "0f320f30"))
    return _load(0, value & 0xFFFFFFFF) + _load(2, value >> 32) + number + bytes.fromhex(code)


def _string(seeded: random.Random) -> bytes:
    """Registers of strings, stacks and jumps, then what uses them."""
    made = _load(1, seeded.choice((0, 1, 9, 0x100, seeded.getrandbits(64)))) + _load(2, seeded.choice(_PORTS))
    made += _load(6, _address(seeded)) + _load(7, _address(seeded))
    if seeded.random() < 0.2:
        pushes = seeded.choice(("50", "58", "9c", "cd20", "e800000000", "c3"))
        made += _load(4, _address(seeded)) + bytes.fromhex(pushes)
    return made + seeded.choice(_FAULTING)


def _timer(seeded: random.Random) -> bytes:
    """The local APIC by its page, on, with a timer; then perhaps HLT."""
    made = b""
    mode = seeded.randrange(4) << 17 | seeded.choice((0, 1 << 16)) | seeded.choice((0x20, 0xFF, 3))
    for offset, value in ((0xF0, 0x1FF), (0x3E0, seeded.randrange(16)), (0x320, mode), (0x380, _value(seeded))):
        made += _load(7, 0xFEE00000 + offset) + _load(0, value) + b"\x89\x07"
    return made + seeded.choice((b"", b"\xfb\xf4", b"\xfa\xf4", b"\xfb"))


def _table(seeded: random.Random) -> bytes:
    """An entry of the page tables, or the whole of them, in device memory; IDT and GDT as well."""
    entry = _address(seeded) & ~0xFFF | seeded.choice((3, 7, 0x83, 0x87, seeded.getrandbits(12)))
    if seeded.random() < 0.5:
        return _load(7, seeded.choice(_TABLES)) + _load(0, entry) + bytes.fromhex("488907 0f20d8 0f22d8")
    return _load(0, entry) + bytes.fromhex("0f22d8") if seeded.random() < 0.5 else _descriptors(seeded)


def _descriptors(seeded: random.Random) -> bytes:
    made = _load(7, 0x9000) + _load(0, _address(seeded)) + bytes.fromhex("66c707ffff 48894702")
    return made + bytes.fromhex(seeded.choice(("0f011f cd20", "0f0117 8ed8", "0f011f fb", "0f011f 0f0b")))


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    _store, _store, _out, _msr, _msr, _string, _timer, _table, lambda seeded: seeded.choice(_FAULTING),
)  # fmt: skip


def _image(seeded: random.Random) -> bytes:
    if seeded.random() < 0.2:
        return seeded.randbytes(600)
    # An IDT whose gates all lead on at what the flow of code is: most faults do not end the guest.
    made = b""
    while len(made) < 800:
        made += seeded.choice(_KINDS)(seeded)
    return _handlers(seeded) + made + seeded.choice((b"\xeb\xfe", b"\xfb\xf4\xeb\xfc", b"\xfa\xf4"))


def _handlers(seeded: random.Random) -> bytes:
    """Perhaps an IDT of 256 gates to one handler, which ends the interrupt and jumps into the midst of the code."""
    if seeded.random() < 0.3:
        return b""
    # 0x100000: the table; its gates lead to 0x101000, where the handler is: mov rsp, 0x80000; sti; jmp code + n.
    target = _CODE + seeded.randrange(0x60, 0x300)
    handler = bytes.fromhex("48c7c400000800") + _load(7, 0xFEE000B0) + b"\xc7\x07" + bytes(4) + b"\xfb"
    handler += _load(0, target) + b"\xff\xe0"
    gate = (0x101000 & 0xFFFF | 0x10 << 16 | 0x8E00 << 32 | (0x101000 >> 16) << 48).to_bytes(8, "little")
    code = _load(7, 0x100000) + _load(0, int.from_bytes(gate, "little")) + _load(1, 256)
    code += bytes.fromhex("31d2 488907 48895708 4883c710 ffc9 75f1")  # mov [rdi], rax; mov [rdi+8], rdx; …
    code += _load(7, 0x101000)
    for at in range(0, len(handler), 8):
        code += _load(0, int.from_bytes(handler[at : at + 8], "little")) + bytes.fromhex("488907 4883c708")
    return code + _load(7, 0x9000) + bytes.fromhex("66c707ff0f 48c7470200001000 0f011f")


class _Nobody:
    """Nothing is typed."""

    is_open = False

    def look(self) -> None:
        pass

    def take(self, most: int) -> bytes:
        return b"x" * (most & 1)

    def wait(self, seconds: float) -> None:
        pass


def outcome(seed: int, folder: Path) -> str:
    """Run the guest of `seed`; return how it ended, or that it goes on."""
    seeded = random.Random(seed)
    mmu = ("native", "ept", "shadow")[seed % 3]
    vcpus = 1 if mmu == "shadow" else seeded.choice((1, 2, 3))
    image = folder / "kernel"
    image.write_bytes(small_bzimage(_image(seeded)))
    config = boot_config(memory=_MEMORY, mmu=mmu, vcpus=vcpus)
    spec = BootSpec(str(image), (), "", config, seeded.choice((Detail.EXITS, Detail.EXITS, Detail.FULL)))
    try:
        session = BootSession(spec, lambda data: None, _Nobody())
        watch = threading.Timer(_SECONDS, session.end)
        try:
            session.pc.stop_at = _NANOSECONDS
            watch.start()
            session.run()
            session.make_record()
            late = "" if session.pc.clock.now() >= _NANOSECONDS or session.pc.ended or session.reason else ", early"
            reason = "" if session.reason is None else ": " + session.reason.split(" at ")[0][:40]
            return session.make_record()["outcome"]["how"] + late + reason
        finally:
            watch.cancel()
            session.close()
    except Exception as error:
        raise AssertionError(f"The guest of seed {seed} under {mmu} made Quire raise {error!r}") from error


def campaign(count: int, seed: int) -> Counter[str]:
    """Run `count` guests from `seed` on, under each Mmu in turn; return how often each outcome was."""
    with tempfile.TemporaryDirectory() as name:
        return Counter(outcome(seed + number, Path(name)) for number in range(count))


if __name__ == "__main__":
    for what, times in sorted(campaign(int(sys.argv[1]), int(sys.argv[2])).items()):
        print(f"{times:6} {what}")
