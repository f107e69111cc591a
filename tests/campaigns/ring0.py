"""Hostile guests in ring 0: an outcome each time, never an exception.

``python tests/campaigns/ring0.py COUNT SEED`` runs COUNT guests, each a function of its seed: system instructions,
accesses and jumps in random order over tables whose entries are random as well, under each Mmu and caching, with and
without the check of flushes. A failure names the seed.
"""

import random
import sys
from collections import Counter

from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine import CachingMode

#: System instructions, far transfers, descriptor tables, string I/O, faults.
HOSTILE = tuple(
    bytes.fromhex(code)
    for code in [
        "0f22d8",
        "0f22e0",
        "0f22c0",
        "0f30",
        "0f32",
        "0f0138",
        "cd80",
        "ee",
        "6e",
        "f36c",
        "0f05",
        "480f07",
        "48cf",
        "8ed0",
        "8ed8",
        "0f00d8",
        "0f00d0",
        "0f0110",
        "0f0118",
        "0f23f8",
        "0f01f8",
        "660f388208",
        "cb",
        "9d",
        "f4",
        "0f01c1",
        "0f20c0",
        "0f01f0",
        "f1",
        "cc",
        "0f0b",
        "0fa2",
        "0f31",
        "f3aa",
        "f3a4",
        "fa",
        "fb",
        "0f08",
        "0f09",
        "9c",
        "cd03",
        "50",
        "58",
    ]
)
_TABLES = range(0x1000, 0x8000, 8)  # where the boot protocol has the guest's own
_MEMORY = 8 << 20
_SECONDS = 0.02  # until a guest that loops is interrupted: that is an outcome as well


def image(seeded: random.Random) -> bytes:
    """Return code: loads of random registers between hostile instructions, accesses and jumps."""
    made = b""
    while len(made) < 400:
        kind = seeded.randrange(6)
        if kind < 2:
            register = seeded.randrange(8)
            made += bytes((0x48, 0xB8 + register)) + _address(seeded).to_bytes(8, "little")
        elif kind == 2:
            made += bytes((0x48, seeded.choice((0x89, 0x8B)), seeded.randrange(0x40)))
        elif kind == 3:
            made += b"\x48\x8b\x04\x25" + seeded.getrandbits(32).to_bytes(4, "little")
        else:
            made += seeded.choice(HOSTILE)
    return made


def _address(seeded: random.Random) -> int:
    how = seeded.randrange(5)
    if how == 0:
        return seeded.getrandbits(64)
    if how == 1:
        return seeded.randrange(_MEMORY) & ~0xFFF
    if how == 2:
        return seeded.choice(_TABLES)
    return _entry(seeded) if how == 3 else seeded.randrange(0x10000, 0x10400)


def _entry(seeded: random.Random) -> int:
    """Return a page-table entry: flags of all kinds, an address within memory, beside it, or anywhere."""
    address = seeded.choice(
        (seeded.randrange(_MEMORY), seeded.getrandbits(31), seeded.getrandbits(52), 0x4000)
    )
    flags = seeded.choice((0x03, 0x07, 0x83, 0x87, 0x187, seeded.getrandbits(12)))
    return address & ~0xFFF | flags | seeded.choice((0, 0, 0, 1 << 63))


def outcome(seed: int, mmu: str) -> str:
    """Run the guest of `seed` under `mmu`; return why it stopped."""
    seeded = random.Random(seed)
    caching = seeded.choice((*CachingMode, CachingMode.MODELLED))
    config = bare_config(memory=_MEMORY, mmu=mmu, caching=caching, check_flushes=seeded.random() < 0.5)
    guest = BareGuest(image(seeded), config, detail=seeded.choice(tuple(Detail)))
    try:
        for _ in range(seeded.randrange(6)):
            place = seeded.choice(_TABLES)
            guest.write(place, _entry(seeded).to_bytes(8, "little"))
        reason = guest.run(_SECONDS).reason
        guest.machine.host.pool.audit()
        return reason
    except Exception as error:
        raise AssertionError(f"The guest of seed {seed} under {mmu} made Quire raise {error!r}") from error
    finally:
        guest.close()


def campaign(count: int, seed: int) -> Counter[str]:
    """Run `count` guests from `seed` on, under each Mmu in turn; return how often each reason was."""
    return Counter(outcome(seed + n, ("native", "ept", "shadow")[n % 3]) for n in range(count))


if __name__ == "__main__":
    print(campaign(int(sys.argv[1]), int(sys.argv[2])))
