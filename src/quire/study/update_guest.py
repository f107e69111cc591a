"""A bare guest that reads pages in a scattered order and, every 1000 reads, unmaps some of them and maps them again.

It maps PAGES pages of 4 KiB at 1 GiB by tables of its own and touches each once; that is the warm-up. Then it makes
`rounds` rounds: READS reads, and `updates` times an entry is cleared, its page invalidated, the entry put back. Pages
come in the order of a linear congruential generator of full period, so that with more pages than the TLB has entries
each read misses.
"""

import struct
from collections import Counter
from dataclasses import dataclass

from quire.arch import PAGE_SIZE
from quire.cpu import Detail
from quire.errors import InternalError
from quire.guest.boot.bare import FIRST_FREE, BareGuest, BareOutcome, bare_config
from quire.study.counts import Counts, TableSize
from quire.study.spared import Spared

__all__ = ["PAGES", "READS", "UpdateGuest", "image"]

#: Pages that are read, a power of two: more than the 1536 entries of the second-level TLB of Skylake-X.
PAGES = 2048
#: Reads of a round.
READS = 1000

_MEMORY = 16 << 20
_DIRECTORY = FIRST_FREE + PAGE_SIZE  # the page directory of the second GiB, then its page tables
_TABLES = _DIRECTORY + PAGE_SIZE
_DATA = 2 << 20  # the first of the frames that are read
_BASE = 1 << 30
_PDPT_ENTRY = 0x3008  # of the boot protocol's tables: maps the second GiB
_P_RW = 3
_PER_TABLE = 512
_BOOT_TABLES = 3  # PML4, page-directory-pointer table, one directory
_TIMEOUT = 300.0


def image(rounds: int, updates: int) -> bytes:
    """Return the guest's image for FIRST_FREE: code, then its page directory and page tables."""
    code = _code(rounds, updates)
    tables = range(PAGES // _PER_TABLE)
    directory = [_TABLES + PAGE_SIZE * n | _P_RW for n in tables]
    entries = [_DATA + PAGE_SIZE * n | _P_RW for n in range(PAGES)]
    words = struct.pack(f"<{_PER_TABLE}Q", *directory, *(0 for _ in range(_PER_TABLE - len(directory))))
    return code.ljust(PAGE_SIZE, b"\0") + words + struct.pack(f"<{PAGES}Q", *entries)


def _code(rounds: int, updates: int) -> bytes:
    """Return the machine code: eax and ebx go through the pages, r9 is where they are mapped, r10 their entries."""
    # fmt: off
    return b"".join(
        (
            b"\x48\xc7\x04\x25", _u32(_PDPT_ENTRY), _u32(_DIRECTORY | _P_RW),  # mov qword [PDPT_ENTRY], directory
            b"\x41\xb9", _u32(_BASE),             # mov r9d, BASE
            b"\x41\xba", _u32(_TABLES),           # mov r10d, TABLES
            b"\x31\xc0",                          # xor eax, eax
            b"\x31\xdb",                          # xor ebx, ebx
            b"\xb9", _u32(PAGES),                 # mov ecx, PAGES
            _READ,                                # warm: read a page; loop to warm
            b"\xbe", _u32(rounds),                # mov esi, rounds
            b"\x85\xf6",                          # test esi, esi
            b"\x74\x5d",                          # jz done
            b"\xb9", _u32(READS),                 # round: mov ecx, READS
            _READ,                                # read: read a page; loop to read
            b"\xb9", _u32(updates),               # mov ecx, updates
            b"\xe3\x2f",                          # jrcxz next
            b"\x69\xdb\xcd\x04\x00\x00",          # update: imul ebx, ebx, 1229
            b"\x81\xc3\x67\x01\x00\x00",          # add ebx, 359
            b"\x81\xe3", _u32(PAGES - 1),         # and ebx, PAGES - 1
            b"\x89\xda",                          # mov edx, ebx
            b"\x4d\x8d\x04\xd2",                  # lea r8, [r10 + 8 * rdx]
            b"\x49\x8b\x38",                      # mov rdi, [r8]
            b"\x49\x83\x20\x00",                  # and qword [r8], 0: unmapped
            b"\x48\xc1\xe2\x0c",                  # shl rdx, 12
            b"\x41\x0f\x01\x3c\x11",              # invlpg [r9 + rdx]
            b"\x49\x89\x38",                      # mov [r8], rdi: mapped again, which needs no invalidation
            b"\xff\xc9",                          # dec ecx
            b"\x75\xd1",                          # jnz update
            b"\xff\xce",                          # next: dec esi
            b"\x75\xa3",                          # jnz round
            b"\x31\xc0",                          # done: xor eax, eax
            b"\xe6\xf4",                          # out EXIT_PORT, al
            b"\xf4",                              # hlt
        )
    )
    # fmt: on


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


# fmt: off
_READ = b"".join(
    (
        b"\x69\xc0\xcd\x04\x00\x00",              # imul eax, eax, 1229
        b"\x05\x67\x01\x00\x00",                  # add eax, 359
        b"\x25", _u32(PAGES - 1),                 # and eax, PAGES - 1
        b"\x89\xc2",                              # mov edx, eax
        b"\x48\xc1\xe2\x0c",                      # shl rdx, 12
        b"\x49\x8b\x14\x11",                      # mov rdx, [r9 + rdx]
        b"\xff\xc9",                              # dec ecx
        b"\x75\xe2",                              # jnz to the first of these
    )
)
# fmt: on


@dataclass(frozen=True, slots=True)
class _Ran:
    """How one guest ended, how often each walk cache answered, and its tables."""

    outcome: BareOutcome
    walk_hits: dict[str, int]
    second: TableSize | None


class UpdateGuest:
    """The guest under one Mmu: counts of any number of updates, the warm-up taken off. Deterministic."""

    def __init__(self, mmu: str, rounds: int) -> None:
        self.mmu = mmu
        self.rounds = rounds
        self._warm_up = self._run(0, 0)

    def count(self, updates: int) -> Counts:
        """Return the events of all rounds with `updates` updates each."""
        ran = self._run(self.rounds, updates)
        before, after = self._warm_up.outcome, ran.outcome
        events = Counter(after.events)
        events.subtract(before.events)
        exits = Counter(after.exits)
        exits.subtract(before.exits)
        hits = Counter(ran.walk_hits)
        hits.subtract(self._warm_up.walk_hits)
        misses = events["l2d_misses"] + events["l2i_misses"]
        return Counts(
            mmu=self.mmu,
            instructions=events["instructions"],
            tlb_l2_hits=events["l1d_misses"] + events["l1i_misses"] - misses,
            tlb_misses=misses,
            walks=events["walks"],
            faulted=events["faulted_walks"],
            guest_references=events["guest_references"],
            host_references=events["host_references"],
            page_faults=0,
            exits={reason: count for reason, count in sorted(exits.items()) if count},
            cleared=0,
            first=TableSize(_BOOT_TABLES + 1 + PAGES // _PER_TABLE, PAGES * PAGE_SIZE, PAGE_SIZE),
            second=ran.second,
            spared=Spared.of(hits),
        )

    def _run(self, rounds: int, updates: int) -> _Ran:
        guest = BareGuest(
            image(rounds, updates), bare_config(memory=_MEMORY, mmu=self.mmu), detail=Detail.FULL
        )
        try:
            outcome = guest.run(_TIMEOUT)
            hits = guest.tlb.walk_hits()
            mapped = guest.machine.mmu.mapped
            second = None
            if mapped is not None and mapped.hardware_walks_map:
                ept = mapped.memory_map
                second = TableSize(ept.table_count, ept.mapped_bytes, PAGE_SIZE)
        finally:
            guest.close()
        if outcome.status != 0:
            raise InternalError(
                f"The guest that updates page tables ended as {outcome.reason} under {self.mmu}: {outcome.text}."
            )
        return _Ran(outcome, hits, second)
