"""A bare guest's run by one engine: every count, and what is left of TLBs and memory."""

import hashlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SIZE, PDE, PTE
from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest
from quire.machine import GuestConfig
from quire.testing.counts.random_code import DATA
from quire.tlb import Shape, Shapes, Tlb

__all__ = ["run_bare"]

#: A page table for the first 2 MiB of the data, and where the directory has it: tables of the boot protocol.
_TABLE, _DIRECTORY = 0x8000, 0x4000
#: What an engine counts of itself.
_OWN = ("fills", "aliases")
_ENTRIES = PAGE_SIZE // 8


def run_bare(engine: str, config: GuestConfig, image: bytes) -> dict[str, Any]:
    """Run `image` in full detail and return what may be compared, by name."""
    guest = BareGuest(image, config, engine=engine, detail=Detail.FULL)
    try:
        pages = (PTE.encode(P=1, RW=1, addr=DATA + PAGE_SIZE * n) for n in range(_ENTRIES))
        guest.write(_TABLE, struct.pack(f"<{_ENTRIES}Q", *pages))
        entry = PDE.encode(P=1, RW=1, addr=_TABLE).to_bytes(8, "little")
        guest.write(_DIRECTORY + 8 * (DATA >> 21), entry)
        outcome = guest.run()
        found: dict[str, Any] = {"end": f"{outcome.reason} {outcome.text}"}
        found |= {name: count for name, count in outcome.events.items() if name not in _OWN}
        found |= {f"exits {name}": count for name, count in outcome.exits.items()}
        for one in guest.vcpus:
            found |= {f"{name} of vCPU {one.number}": held for name, held in _held(one.tlb).items()}
        found["memory"] = _digest(guest.vcpu.host.memory.words)
        return found
    finally:
        guest.close()


def _held(tlb: Tlb) -> dict[str, str]:
    """Return, by structure, what is in which way, and in which order each set was used."""
    entries, capacity = tlb.entries, tlb.capacity
    list(tlb.valid())  # which brings stamps up to date
    found = {}
    for number, one in enumerate(tlb.structures):
        row = Shapes.ROWS + number * len(Shape)
        tags = entries[one.start : one.end]
        stamps = entries[capacity + one.start : capacity + one.end].reshape(-1, one.ways)
        parts = [
            tags,
            entries[2 * capacity :][one.start : one.end],
            np.argsort(stamps, axis=1, kind="stable"),
        ]
        if one.bounded:
            first = 3 * capacity + int(tlb.shapes[row + Shape.SET_WORDS])
            parts.append(entries[first : first + one.sets])
        found[one.name] = "".join(_digest(part) for part in parts)
    return found


def _digest(words: npt.NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(words).tobytes(), digest_size=6).hexdigest()
