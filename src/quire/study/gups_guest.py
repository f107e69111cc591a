"""A bare guest that updates memory at random, as HPC Challenge's RandomAccess (GUPS) does, through 4 KiB pages.

It maps its pages at 1 GiB by tables of its own, touches each once, and then XORs a word at `updates` places that a
linear congruential generator chooses. Its data lies on the node of its vCPU; where its tables and EPT lie is asked for.
"""

import struct
from dataclasses import dataclass

from quire.arch import PAGE_SIZE
from quire.cpu import Detail
from quire.errors import InternalError, MisuseError
from quire.guest.boot.bare import FIRST_FREE, BareGuest, bare_config
from quire.machine.migration import migrate
from quire.memory.numa import Policy, PolicyKind, Topology
from quire.mmu import NumaConfig
from quire.tlb.nodes import NodeCount, NodeReferences

__all__ = ["Placed", "count_placed", "image"]

_DIRECTORY = FIRST_FREE + PAGE_SIZE  # the page directory of the second GiB, then its page tables
_TABLES = _DIRECTORY + PAGE_SIZE
_PER_TABLE, _MOST = 512, 65536
_DATA = 2 << 20
_BASE = 1 << 30
_PDPT_ENTRY = 0x3008  # of the boot protocol's tables: maps the second GiB
_P_RW = 3
_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407  # Knuth, MMIX
_NODE = 512 << 20
_MARK = 0xE8  # a port: what is counted from a write to it on, counts
_TIMEOUT = 600.0
_KINDS = (NodeCount.GUEST_TABLE, NodeCount.HOST_TABLE)


@dataclass(frozen=True, slots=True)
class Placed:
    """References to tables of one run that no cache served, updates alone: by kind, local and remote."""

    updates: int
    local: dict[str, int]
    remote: dict[str, int]


def image(pages: int, updates: int) -> bytes:
    """Return the guest's image for FIRST_FREE: code, then its page directory and page tables."""
    tables = range(pages // _PER_TABLE)
    directory = [_TABLES + PAGE_SIZE * n | _P_RW for n in tables]
    entries = [_DATA + PAGE_SIZE * n | _P_RW for n in range(pages)]
    words = struct.pack(f"<{_PER_TABLE}Q", *directory, *(0 for _ in range(_PER_TABLE - len(directory))))
    return _code(pages, updates).ljust(PAGE_SIZE, b"\0") + words + struct.pack(f"<{pages}Q", *entries)


def _code(pages: int, updates: int) -> bytes:
    shift = 64 - (pages * PAGE_SIZE).bit_length() + 1
    # fmt: off
    return b"".join(
        (
            b"\x48\xc7\x04\x25", _u32(_PDPT_ENTRY), _u32(_DIRECTORY | _P_RW),  # mov qword [PDPT_ENTRY], directory
            b"\x41\xb9", _u32(_BASE),             # mov r9d, BASE
            b"\x49\xb8", _u64(_MULTIPLIER),       # mov r8, MULTIPLIER
            b"\x49\xbb", _u64(_INCREMENT),        # mov r11, INCREMENT
            b"\x4c\x89\xca",                      # mov rdx, r9
            b"\xb9", _u32(pages),                 # mov ecx, pages
            b"\x48\x89\x12",                      # warm: mov [rdx], rdx
            b"\x48\x81\xc2", _u32(PAGE_SIZE),    # add rdx, PAGE_SIZE
            b"\xff\xc9",                          # dec ecx
            b"\x75\xf2",                          # jnz warm
            b"\xe6", bytes([_MARK]),             # out MARK, al: the warm-up is over
            b"\x31\xc0",                          # xor eax, eax
            b"\xb9", _u32(updates),               # mov ecx, updates
            b"\xe3\x1a",                          # jrcxz done
            b"\x49\x0f\xaf\xc0",                  # update: imul rax, r8
            b"\x4c\x01\xd8",                      # add rax, r11
            b"\x48\x89\xc2",                      # mov rdx, rax
            b"\x48\xc1\xea", bytes([shift]),  # shr rdx, to an offset in the data
            b"\x48\x83\xe2\xf8",                  # and rdx, -8
            b"\x49\x31\x04\x11",                  # xor [r9 + rdx], rax
            b"\xff\xc9",                          # dec ecx
            b"\x75\xe6",                          # jnz update
            b"\x31\xc0",                          # done: xor eax, eax
            b"\xe6\xf4",                          # out EXIT_PORT, al
            b"\xf4",                              # hlt
        )
    )
    # fmt: on


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value)


class _Mark:
    """The device that the guest tells that its warm-up is over."""

    def __init__(self, references: NodeReferences) -> None:
        self._references = references
        self.before = self.counts()

    def read(self, size: int) -> int:
        """Return 0."""
        del size
        return 0

    def write(self, value: int, size: int) -> None:
        """Note what was counted by now."""
        del value, size
        self.before = self.counts()

    def counts(self) -> list[tuple[int, int]]:
        """Return local and remote references to each kind of tables that reached memory."""
        found = self._references
        return [(found.local(kind, memory=True), found.remote(kind, memory=True)) for kind in _KINDS]


def count_placed(pages: int, updates: int, *, guest_tables: int, host_tables: int, last_cache: int) -> Placed:
    """Run the guest on node 0 of two with its tables and EPT on the given nodes; return what its updates referenced.

    `pages` of 4 KiB are a power of two, 512 to 65536: MisuseError. Deterministic. Raises InternalError if the guest
    does not end well.
    """
    if not _PER_TABLE <= pages <= _MOST or pages & pages - 1:
        raise MisuseError(f"{pages} pages cannot be updated: give a power of two, {_PER_TABLE} to {_MOST}")
    numa = NumaConfig(
        Topology.declared([_NODE, _NODE]),
        host_tables=Policy(PolicyKind.BIND, (host_tables,)),
        last_cache=last_cache,
    )
    guest = BareGuest(
        image(pages, updates), bare_config(memory=_DATA + pages * PAGE_SIZE, numa=numa), detail=Detail.FULL
    )
    try:
        for page in range(1 + pages // _PER_TABLE):
            migrate(guest.machine, _DIRECTORY + page * PAGE_SIZE, guest_tables)
        references = guest.vcpu.node_references
        assert references is not None
        mark = _Mark(references)
        guest.machine.ports.attach(_MARK, mark)
        outcome = guest.run(_TIMEOUT)
    finally:
        guest.close()
    if outcome.status != 0:
        raise InternalError(f"The guest that updates memory ended as {outcome.reason}: {outcome.text}.")
    made = [
        (kind.name.lower(), after[0] - before[0], after[1] - before[1])
        for kind, before, after in zip(_KINDS, mark.before, mark.counts(), strict=True)
    ]
    return Placed(updates, {name: at for name, at, _ in made}, {name: far for name, _, far in made})
