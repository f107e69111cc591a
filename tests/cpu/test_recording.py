"""All accesses of a guest, recorded by operations in the engine's code: those that hooks of the engine see."""

import ctypes
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from soft_guest import CODE, DATA, DATA_HPA, Guest
from unicorn import unicorn_const as uc

from quire.cpu import Detail
from quire.cpu.recording import EntryKind, record
from quire.errors import MisuseError
from quire.vcpu import Interrupted, Syscall

#: Loads and stores of each size, both, at page ends, atomics, strings, calls, x87, vectors, FXSAVE, CMPXCHG16B, ENTER.
EVERYTHING = (
    "488b07 8b4708 668b4710 8a4718 48894720 894728 66894730 884738 48014740 f0480fc14f48 480fb14f50"
    "488b87fc0f0000 894fff 4887e3 4887e3 50 58 e800000000 58 9c 9d c8100001 c9 dd4760 dd5f68 0f104770 0f114778"
    "0fae8700020000 4c8dbf00040000 490fc70f 48c7c103000000 4989fa 4989f3 f348a5 4c89d7 4c89de b104 f3aa 4c89d7"
    "48c7c102000000 a6 4c89d7 4c89de"
)
#: mov rcx, passes; what is tried; dec r14; jnz
LOOP = "49c7c6{0} " + EVERYTHING + "49ffce 0f85{1} 0f05"


def looped(passes: int) -> str:
    body = len(bytes.fromhex(EVERYTHING)) + 3 + 6
    return LOOP.format(passes.to_bytes(4, "little").hex(), (-body & 0xFFFFFFFF).to_bytes(4, "little").hex())


def prepare(guest: Guest) -> None:
    guest.cpu.registers.write_many(
        {"rdi": DATA + 4096 * 4, "rsi": DATA + 4096 * 9, "rax": 0, "rbx": DATA + 0x9000}
    )


def recorded(detail: Detail, code: str, **options: object) -> tuple[npt.NDArray[np.void], Guest]:
    parts: list[npt.NDArray[np.void]] = []
    guest = Guest(detail, code)
    record(guest.cpu, parts.append)
    prepare(guest)
    assert guest.cpu.run() == Syscall()
    return np.concatenate(parts), guest


def by_hooks(code: str) -> list[tuple[bool, int, int, int]]:
    """Return each access as hooks see it: write, host-physical address, size, address of the instruction."""
    seen: list[tuple[bool, int, int, int]] = []
    guest = Guest(Detail.EXITS, code, by_hooks=True)
    engine, place = guest.cpu._engine, [0]

    def on_code(_handle: int, gva: int, _size: int, _user: int) -> None:
        place[0] = gva

    def on_memory(_handle: int, kind: int, hpa: int, size: int, _value: int, _user: int) -> None:
        seen.append((kind == uc.UC_MEM_WRITE, hpa, size, place[0]))

    hooks: list[Callable[..., None]] = [
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)(on_code),
        ctypes.CFUNCTYPE(
            None,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_uint64,
            ctypes.c_int,
            ctypes.c_int64,
            ctypes.c_void_p,
        )(on_memory),
    ]
    for kind, hook in zip((uc.UC_HOOK_CODE, uc.UC_HOOK_MEM_READ | uc.UC_HOOK_MEM_WRITE), hooks, strict=True):
        engine.hook(kind, ctypes.cast(hook, ctypes.c_void_p).value, 0)  # type: ignore[arg-type]
    prepare(guest)
    assert guest.cpu.run() == Syscall()
    return seen


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_what_is_recorded_is_what_hooks_see(detail: Detail) -> None:
    code = looped(3)
    entries, _ = recorded(detail, code)
    accesses = entries[entries["kind"] != EntryKind.BLOCK]
    found = [
        (
            bool(one["kind"] == EntryKind.WRITE),
            int(one["linear"]) - DATA + DATA_HPA,
            int(one["size"]),
            int(one["place"]),
        )
        for one in accesses
    ]
    wanted = by_hooks(code)
    assert [one[:3] for one in found] == [one[:3] for one in wanted]
    assert [one[3] for one in found] == [one[3] for one in wanted]


def test_blocks_add_up_to_what_was_executed() -> None:
    entries, guest = recorded(Detail.FULL, looped(5))
    blocks = entries[entries["kind"] == EntryKind.BLOCK]
    events = guest.cpu.events()
    assert len(blocks) == events["blocks"]
    assert int(blocks["instructions"].sum()) == events["instructions"]
    assert (blocks["place"] == blocks["linear"]).all()
    assert int(blocks["place"].min()) == CODE
    for name, kind in (("reads", EntryKind.READ), ("writes", EntryKind.WRITE)):
        assert int((entries["kind"] == kind).sum()) == events[name]


def test_counts_are_those_without_a_recorder() -> None:
    _, watched = recorded(Detail.FULL, looped(50))
    alone = Guest(Detail.FULL, looped(50))
    prepare(alone)
    assert alone.cpu.run() == Syscall()
    assert watched.cpu.events() == alone.cpu.events()


def test_a_buffer_that_is_full_is_emptied_in_the_midst_of_a_run() -> None:
    """mov rax, [rdi]; mov [rdi+8], rax; dec ecx; jnz; syscall: 100,000 times."""
    parts: list[int] = []
    guest = Guest(Detail.EXITS, "488b07 48894708 ffc9 75f5 0f05")
    record(guest.cpu, lambda entries: parts.append(len(entries)))
    guest.cpu.registers.write("rcx", 100_000)
    assert guest.cpu.run() == Syscall()
    assert sum(parts) == 3 * 100_000 + 1
    assert len(parts) > 3


def test_an_access_that_faults_is_none() -> None:
    parts: list[npt.NDArray[np.void]] = []
    guest = Guest(Detail.FULL, "488b07 488b06 0f05")
    record(guest.cpu, parts.append)
    guest.cpu.registers.write("rsi", 0x666000)
    guest.cpu.run()
    assert [int(one) for one in np.concatenate(parts)["kind"]] == [EntryKind.BLOCK, EntryKind.READ]


def test_addresses_above_the_hole_keep_their_sign() -> None:
    parts: list[npt.NDArray[np.void]] = []
    guest = Guest(Detail.EXITS, "488b06 0f05")
    high = (1 << 64) - 0x2000
    guest.tables.map(high, DATA_HPA, 4096, guest.tables.lookup(DATA).rights)  # type: ignore[union-attr]
    record(guest.cpu, parts.append)
    guest.cpu.registers.write("rsi", high + 8)
    assert guest.cpu.run() == Syscall()
    assert int(parts[0]["linear"][1]) == high + 8


def test_other_places_to_stop_do_not_lose_anything() -> None:
    """An interruption, and instructions that run alone, in between."""
    parts: list[npt.NDArray[np.void]] = []
    guest = Guest(Detail.FULL, "488b07 48894708 ffc9 75f5 0f05")
    record(guest.cpu, parts.append)
    guest.cpu.registers.write("rcx", 40)
    choose, stop = random.Random(3), None
    while stop != Syscall():
        if choose.random() < 0.7:
            guest.cpu.step(guest.cpu.interrupt)
        stop = guest.cpu.run()
        assert stop in (Syscall(), Interrupted())
    kinds = np.concatenate(parts)["kind"]
    assert [int((kinds == kind).sum()) for kind in (EntryKind.READ, EntryKind.WRITE)] == [40, 40]


def test_an_engine_that_counts_by_hooks_records_nothing() -> None:
    guest = Guest(Detail.FULL, "0f05", by_hooks=True)
    with pytest.raises(MisuseError, match="cannot record accesses here: 'quire doctor' says"):
        record(guest.cpu, lambda entries: None)
