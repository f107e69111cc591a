"""One guest-physical region: where it is, what it is, what may be done there. Checked when it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quire.arch import EPT_MEMORY_TYPES, PAGE_SIZE, MemoryType
from quire.errors import MisuseError
from quire.paging import Rights
from quire.vcpu import Exit

__all__ = ["OnAccess", "Region", "RegionKind", "check_rights"]

#: Deals with an access that a region does not allow, as a handler of the exits room does: it gets the context and the
#: exit, an EPT violation under every Mmu, and returns what happens next.
OnAccess = Callable[[Any, Exit], Any]

_TOP = 1 << 52  # no physical address has more bits (SDM 3A §4.1.4)
_ALL = Rights.READ | Rights.WRITE | Rights.EXECUTE


class RegionKind(StrEnum):
    """What is at an address."""

    RAM = "RAM"  #: memory, backed when it is touched
    READ_ONLY = "READ_ONLY"  #: memory that the guest cannot write, a ROM
    MMIO = "MMIO"  #: nothing: every access is an exit
    ALIAS = "ALIAS"  #: the memory of another region, at this address too


_RIGHTS = {
    RegionKind.RAM: _ALL,
    RegionKind.READ_ONLY: Rights.READ | Rights.EXECUTE,
    RegionKind.MMIO: Rights(0),
    RegionKind.ALIAS: _ALL,
}


@dataclass(frozen=True, slots=True)
class Region:
    """`size` bytes from guest-physical `start`, both multiples of 4 KiB.

    `rights` are by default all that the kind may have. `memory_type` is that of EPT's leaves (SDM 3C §28.3.7.2).
    `target` is where an alias's memory is otherwise. `contents` are the first bytes of memory, the rest reads as zero.
    With `wxorx` a page is never writable and executable. `on_access` deals with an instruction's access that `rights`
    do not allow, and returns what happens next as an exit handler does; without it the guest is stopped. Raises
    MisuseError for what cannot be.
    """

    start: int
    size: int
    kind: RegionKind = RegionKind.RAM
    rights: Rights | None = None
    memory_type: MemoryType = MemoryType.WB
    target: int | None = None
    contents: bytes = b""
    wxorx: bool = False
    on_access: OnAccess | None = None

    def __post_init__(self) -> None:
        if self.kind not in list(RegionKind):
            raise MisuseError(f"No region is of kind {self.kind!r}: give {' or '.join(RegionKind)}")
        object.__setattr__(self, "kind", RegionKind(self.kind))
        if self.rights is None:
            rights = _RIGHTS[self.kind]
            writable = rights & Rights.WRITE
            object.__setattr__(
                self, "rights", rights & ~Rights.EXECUTE if self.wxorx and writable else rights
            )
        self._check_place()
        self._check_kind()
        if self.kind is not RegionKind.MMIO:
            check_rights(self, self.allowed)

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size

    @property
    def allowed(self) -> Rights:
        """:attr:`rights`, which are never None once it is made."""
        assert self.rights is not None
        return self.rights

    @property
    def owns(self) -> bool:
        """Whether it has memory of its own."""
        return self.kind in (RegionKind.RAM, RegionKind.READ_ONLY)

    @property
    def origin(self) -> int:
        """Where its memory begins: in another region's addresses for an alias, else in its own."""
        return self.start if self.target is None else self.target

    def __str__(self) -> str:
        return f"{self.kind} {self.start:#x} to {self.end:#x}"

    def _check_place(self) -> None:
        if self.size <= 0:
            raise MisuseError(
                f"A region of {self.size:#x} bytes at {self.start:#x} is empty: give at least 0x1000"
            )
        if (self.start | self.size) % PAGE_SIZE:
            raise MisuseError(f"{self} is not made of pages: start and size must be multiples of 0x1000")
        if not 0 <= self.start < self.end <= _TOP:
            raise MisuseError(f"{self} leaves the physical addresses, which end at {_TOP:#x}: stay below")

    def _check_kind(self) -> None:
        if self.memory_type not in EPT_MEMORY_TYPES:
            names = " or ".join(one.name for one in sorted(EPT_MEMORY_TYPES))
            raise MisuseError(
                f"{self} cannot have memory type {_name(self.memory_type)}, which EPT has not: give {names}"
            )
        if (self.target is None) == (self.kind is RegionKind.ALIAS):
            raise MisuseError(
                f"{self} names no target: give the address whose memory it shows"
                if self.kind is RegionKind.ALIAS
                else f"{self} cannot have target {self.target:#x}: only an ALIAS shows another region's memory"
            )
        if self.contents and not self.owns:
            raise MisuseError(f"{self} has no memory of its own for contents: give them to RAM or READ_ONLY")
        if len(self.contents) > self.size:
            raise MisuseError(
                f"{len(self.contents):#x} bytes of contents do not fit into {self}: give at most {self.size:#x}"
            )
        if self.kind is RegionKind.MMIO and self.rights:
            raise MisuseError(f"{self} has no memory to have {_text(self.allowed)} rights to: give none")


def check_rights(region: Region, rights: Rights) -> None:
    """Raise MisuseError unless pages of `region` may have `rights`."""
    if region.kind is RegionKind.MMIO:
        raise MisuseError(f"{region} has no memory to protect: protect RAM, READ_ONLY or ALIAS")
    if not rights & _ALL or rights & ~_ALL:
        raise MisuseError(
            f"{region} cannot have rights {rights!r}: give some of READ, WRITE and EXECUTE, or make it MMIO"
        )
    if rights & Rights.WRITE and not rights & Rights.READ:
        raise MisuseError(
            f"{region} cannot have {_text(rights)} rights: a leaf of EPT that can be written and not read is a "
            "misconfiguration (SDM 3C §28.3.3.1); give READ too"
        )
    if rights & Rights.WRITE and region.kind is RegionKind.READ_ONLY:
        raise MisuseError(f"{region} cannot have {_text(rights)} rights: make it RAM to have it written")
    if region.wxorx and rights & Rights.WRITE and rights & Rights.EXECUTE:
        raise MisuseError(
            f"{region} cannot have {_text(rights)} rights: W^X allows WRITE or EXECUTE, never both"
        )


def _text(rights: Rights) -> str:
    return "+".join(one.name or "" for one in rights)


def _name(memory_type: MemoryType) -> str:
    return memory_type.name if isinstance(memory_type, MemoryType) else f"{memory_type!r}"
