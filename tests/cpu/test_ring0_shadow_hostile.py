"""Ring-0 guests made at random that edit their tables, under shadow with every entry justified after every exit.

A guest flushes after each edit, so that what it sees depends on nothing but its program: every Mmu gives the same
reports and the same memory. Others do not flush and execute garbage: of them, an outcome and sound accounts are asked.
"""

import random

import pytest
from agreement import MEMORY, RUNS, SMALL_PAGES, agree
from ring0_guest import assemble
from sampling import some

from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest, bare_config
from quire.mmu import ShadowOptions

#: Tables that a random guest edits, all reached from its root: they are used for each other, too.
TABLES = (0x203000, 0x206000, 0x207000, 0x208000)
#: What the entries name: the tables, and pages of data.
FRAMES = (*TABLES, 0x300000, 0x301000, 0x302000)
FLAGS = (0, 1, 3, 5, 7, 0x21, 0x63, 0x83, 0x103, 1 << 63 | 3, 1 << 63 | 7)
_EDITS = some(40, 20)


def _edits(seed: int, *, flush: bool) -> str:
    """Return `_EDITS` edits of random tables, each followed by accesses whose faults are reported."""
    seeded = random.Random(seed)
    # 0x400000 by one level, 0x40000000 by two, 0x8000000000 by three: each table is used at each level.
    lines = ["store 0x201008, 0x207003", "store 0x200008, 0x208003", "store 0x202018, 0x206003"]
    for _ in range(_EDITS):
        at = seeded.choice(TABLES) + 8 * seeded.randrange(3)
        entry = seeded.choice(FRAMES) | seeded.choice(FLAGS)
        edit = seeded.choice(
            ("mov [{at}], rax", "xchg [{at}], rax", "lock or [{at}], rax", "mov [{at}], eax")
        )
        lines += [f"mov rax, {entry:#x}", edit.format(at=f"{at:#x}")]
        bits = seeded.choice(("", "", "", "xor eax, 0x10000", "xor eax, 0x10000"))
        if bits:
            lines += ["mov rax, cr0", bits, "mov cr0, rax"]
        if flush:
            lines += ["mov rax, cr3", "mov cr3, rax"]
        for _ in range(3):
            base = seeded.choice((0x400000, 0x600000, 0x40000000, 0x40200000, 0x8000000000, 0x8000200000))
            gva = base + 0x1000 * seeded.randrange(3) + 8 * seeded.randrange(3)
            lines.append(f"mov rbx, {gva:#x}")
            lines.append(
                seeded.choice(("try mov rcx, [rbx]", "try mov rcx, [rbx]", "try lock inc qword ptr [rbx]"))
            )
            lines.append("report rcx")
    return "\n".join([SMALL_PAGES, *lines, "finish"])


@pytest.mark.parametrize("seed", range(some(3, 2)))
def test_random_edits_look_alike_under_every_mmu(seed: int) -> None:
    """Seed 0 under all, the others under native and, with audit, under shadow: they are slow for their reports."""
    seen = agree(_edits(seed, flush=True), None, runs=RUNS if not seed else (RUNS[0], RUNS[4]))
    assert seen.delivered[14] >= _EDITS // 4, "most of its accesses should not be possible"


@pytest.mark.parametrize(
    "options", [{}, {"prefetch": 8}, {"pages": 64}], ids=["default", "prefetch", "least"]
)
def test_random_edits_without_flushes_keep_the_accounts(options: dict[str, int]) -> None:
    """What a guest sees that does not flush is not laid down; that each entry was justified once is."""
    for seed in range(some(2, 1)):
        shadow = ShadowOptions(audit=True, **options)
        guest = BareGuest(
            assemble(_edits(seed, flush=False)), bare_config(memory=MEMORY, mmu="shadow", shadow=shadow)
        )
        assert guest.run().reason == "exited"
        guest.vcpu.mmu.check()
        guest.machine.host.pool.audit()
        guest.machine.close()


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_hostile_guests_keep_the_accounts(detail: Detail) -> None:
    """Garbage as code behind a working start, garbage as tables: an outcome each time, sound after every exit."""
    start = assemble(
        SMALL_PAGES + "gate 6, leave\ngate 13, leave\ngate 14, leave\nmov rbx, 0x200000\nleave:\n"
    )
    for seed in range(some(12, 6)):
        seeded = random.Random(seed)
        code = bytearray(start)
        for _ in range(60):
            code += seeded.choice(
                (
                    seeded.randbytes(3),
                    b"\x48\xb8" + (seeded.choice(FRAMES) | seeded.choice(FLAGS)).to_bytes(8, "little"),
                    b"\x48\x89\x83"
                    + (0x1000 * seeded.randrange(6) + 8 * seeded.randrange(8)).to_bytes(4, "little"),
                    b"\x0f\x20\xd8\x0f\x22\xd8",  # mov rax, cr3; mov cr3, rax
                    b"\x0f\x22\xd8",
                    b"\x48\xab\x48\xa5",  # stosq; movsq
                )
            )
        shadow = ShadowOptions(audit=True)
        guest = BareGuest(bytes(code), bare_config(memory=MEMORY, mmu="shadow", shadow=shadow), detail=detail)
        guest.write(0x300000, seeded.randbytes(0x2000))
        assert guest.run(0.3).reason in ("stopped", "halted", "exited", "interrupted")
        if not guest.vcpu.mmu.shadow.stepping:
            guest.vcpu.mmu.check()
        guest.machine.host.pool.audit()
        guest.machine.close()
