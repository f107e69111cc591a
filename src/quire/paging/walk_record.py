"""The record of an explained walk: its references, each with what it said, and how it ended by which rule."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from quire.arch import EPT_PTE, Access, Layout, MemoryType, PagingMode
from quire.arch.decode_entries import is_present
from quire.paging.context import Context, Dimension, Result, Rights, Status, Words
from quire.paging.rules import RULES, Rule

__all__ = ["Reference", "Stopped", "Walk", "WalkRecord", "WordMemory"]

_NONE = Rights(0)


class WordMemory(Protocol):
    """Physical memory as 8-byte words by number: an array, or anything that is indexed like one.

    Where a memory with holes has no word it raises IndexError: the walk then ends as outside memory.
    """

    def __getitem__(self, index: int, /) -> Any: ...

    def __setitem__(self, index: int, value: Any, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry that a walk read: whose table, which level, where (`hpa`; `gpa` if it is the guest's), what.

    `layout` is the entry's form; `rights` are what the entries of this dimension allow so far, this one included.
    """

    dimension: Dimension
    level: int
    index: int
    gpa: int | None
    hpa: int
    entry: int
    layout: Layout
    rights: Rights
    hlat: bool = False  #: the entry was read in HLAT paging

    def flags(self, *, user_execute: bool = False) -> str:
        """Return the set bits by name; nothing of an entry that is not present. With `user_execute` XU makes one so."""
        present = is_present(self.layout, self.entry) or (
            user_execute and self.entry & EPT_PTE.mask("XU") != 0
        )
        return self.layout.flags(self.entry) if present else ""


@dataclass(slots=True)
class WalkRecord:
    """The outcome of one walk; field for field what the kernel puts in a result array, and the references."""

    gva: int
    access: Access
    mode: PagingMode = PagingMode.LEVEL_4
    status: Status = Status.OK
    rule: Rule = RULES["allowed"]
    hpa: int = 0
    gpa: int = 0
    guest_shift: int = 0
    host_shift: int = 0
    rights: Rights = _NONE
    dirty: bool = False
    global_page: bool = False
    error: int = 0
    fault_gpa: int = 0
    fault_level: int = 0
    fault_dimension: Dimension = Dimension.GUEST
    vector: int = 0
    guest_entry: int = 0
    host_entry: int = 0
    memory_type: MemoryType | None = None  #: of the access, when it is allowed
    references: list[Reference] = field(default_factory=list)

    @property
    def guest_references(self) -> int:
        """How many references read guest tables."""
        return sum(ref.dimension is Dimension.GUEST for ref in self.references)

    @property
    def host_references(self) -> int:
        """How many references read EPT tables."""
        return sum(ref.dimension is Dimension.HOST for ref in self.references)

    def put(self, result: Words) -> None:
        """Write the outcome into a result array as the compiled walk does, but for the addresses of references."""
        for word, value in (
            (Result.STATUS, self.status),
            (Result.HPA, self.hpa),
            (Result.GPA, self.gpa),
            (Result.GUEST_SHIFT, self.guest_shift),
            (Result.HOST_SHIFT, self.host_shift),
            (Result.RIGHTS, self.rights),
            (Result.DIRTY, self.dirty),
            (Result.GLOBAL, self.global_page),
            (Result.ERROR, self.error),
            (Result.FAULT_GPA, self.fault_gpa),
            (Result.FAULT_LEVEL, self.fault_level),
            (Result.FAULT_DIMENSION, self.fault_dimension),
            (Result.GUEST_REFERENCES, self.guest_references),
            (Result.HOST_REFERENCES, self.host_references),
            (Result.VECTOR, self.vector),
            (Result.GVA, self.gva),
            (Result.GUEST_ENTRY, self.guest_entry),
            (Result.HOST_ENTRY, self.host_entry),
        ):
            result[word] = value


class Stopped(Exception):
    """Unwinds one walk; the record already says why. Never leaves the walkers."""


class Walk:
    """What both dimensions of a walk share: memory, the context as plain integers, and the record that they fill."""

    def __init__(self, memory: WordMemory, context: Words, record: WalkRecord) -> None:
        self.memory = memory
        self.context = context
        self.state: list[int] = context.tolist()
        self.record = record

    def stop(
        self,
        status: Status,
        rule: str,
        level: int,
        dimension: Dimension,
        *,
        error: int = 0,
        gpa: int = 0,
        vector: int = 0,
    ) -> Stopped:
        """Record how the walk ends; the caller raises what this returns."""
        record = self.record
        record.status, record.rule, record.vector = status, RULES[rule], vector
        record.fault_level, record.fault_dimension = level, dimension
        record.error, record.fault_gpa, record.rights = error, gpa, _NONE
        return Stopped()

    def load(self, hpa: int, named: int, level: int, dimension: Dimension) -> int:
        """Return the 8 bytes at `hpa`; outside memory the walk ends, and `named` is the address reported."""
        if hpa < self.state[Context.MEMORY_BYTES]:
            try:
                return int(self.memory[hpa >> 3])
            except IndexError:
                pass  # a hole
        raise self.stop(Status.BUS_ERROR, "outside memory", level, dimension, gpa=named)
