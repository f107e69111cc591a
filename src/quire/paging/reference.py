"""The walk in plain Python, written from the manual: the slow twin of the kernel, and the one that explains.

It takes the same context and memory as the kernel and yields the same result, plus the list of references with
what each entry said. One walk costs tens of microseconds; explaining one address needs no compiler.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from quire.arch import (
    EPT_MEMORY_TYPES,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PF_ERROR,
    Access,
    entry_layout,
    ept_layout,
    gva_index,
    is_canonical,
    level_shift,
)
from quire.paging.context import Context, Dimension, Rights, Status, Words

__all__ = ["Reference", "WalkRecord", "reference_walk"]

_WANTED = {Access.READ: Rights.READ, Access.WRITE: Rights.WRITE, Access.FETCH: Rights.EXECUTE}
_NONE = Rights(0)
_ALL = Rights.READ | Rights.WRITE | Rights.EXECUTE


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry that a walk read: whose table, which level, where (`hpa`; `gpa` if it is the guest's), what."""

    dimension: Dimension
    level: int
    index: int
    gpa: int | None
    hpa: int
    entry: int

    def flags(self) -> str:
        """Return the entry's set bits by name, as its layout names them."""
        leaf = self.level == 1 or (self.level < 4 and bool(self.entry & 1 << 7))
        layout = entry_layout if self.dimension is Dimension.GUEST else ept_layout
        return layout(self.level, leaf).flags(self.entry)


@dataclass(slots=True)
class WalkRecord:
    """The outcome of one walk; field for field what the kernel puts in a result array, and the references."""

    gva: int
    access: Access
    status: Status = Status.OK
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
    references: list[Reference] = field(default_factory=list)

    @property
    def guest_references(self) -> int:
        """How many references read guest tables."""
        return sum(ref.dimension is Dimension.GUEST for ref in self.references)

    @property
    def host_references(self) -> int:
        """How many references read EPT tables."""
        return sum(ref.dimension is Dimension.HOST for ref in self.references)


class _Fault(Exception):
    """Unwinds one walk; the record already says why. Never leaves this module."""


def reference_walk(memory: Words, context: Words, gva: int, access: Access) -> WalkRecord:
    """Translate `gva` for `access` through `memory` (8-byte words) under `context`; see Context for its fields.

    SDM 3A §4.5 to §4.8 and SDM 3C §28.3. Sets accessed and dirty flags in `memory` unless UPDATE is 0.
    """
    walker = _Walker(memory, context, WalkRecord(gva, access))
    try:
        walker.translate()
    except _Fault:
        pass
    return walker.record


class _Walker:
    """One walk in progress. `ept_rights` are those of the last EPT translation made."""

    def __init__(self, memory: Words, context: Words, record: WalkRecord) -> None:
        self.memory = memory
        self.state = {name: int(context[name]) for name in Context}
        self.record = record
        self.ept_rights = _ALL
        self.ept_dirty = True

    def fault(self, status: Status, level: int, dimension: Dimension, error: int = 0, gpa: int = 0) -> _Fault:
        record = self.record
        record.status, record.fault_level, record.fault_dimension = status, level, dimension
        record.error, record.fault_gpa = error, gpa
        return _Fault()

    def page_fault(self, level: int, *, present: bool, reserved: bool = False) -> _Fault:
        fetch = self.record.access is Access.FETCH
        error = PF_ERROR.encode(
            P=present,
            RSVD=reserved,
            W=self.record.access is Access.WRITE,
            U=bool(self.state[Context.USER]),
            ID=fetch and bool(self.state[Context.NXE] or self.state[Context.SMEP]),
        )
        return self.fault(Status.PAGE_FAULT, level, Dimension.GUEST, error)

    def load(self, hpa: int, gpa: int, level: int, dimension: Dimension) -> int:
        if hpa >= self.state[Context.MEMORY_BYTES]:
            where = hpa if dimension is Dimension.HOST else gpa
            raise self.fault(Status.BUS_ERROR, level, dimension, gpa=where)
        return int(self.memory[hpa >> 3])

    def translate(self) -> None:
        record, state = self.record, self.state
        if not is_canonical(record.gva):
            raise self.fault(Status.NON_CANONICAL, 0, Dimension.GUEST)
        table = entry_layout(4, False).get(state[Context.CR3], "addr")
        writable, user, no_execute = True, True, False
        for level in (4, 3, 2, 1):
            index = gva_index(record.gva, level)
            entry_gpa = table + 8 * index
            entry_hpa = self.table_access(entry_gpa)
            entry = self.load(entry_hpa, entry_gpa, level, Dimension.GUEST)
            self.refer(Dimension.GUEST, level, index, entry_gpa, entry_hpa, entry)
            if not entry & 1:
                raise self.page_fault(level, present=False)
            leaf = level == 1 or (level < 4 and bool(entry & 1 << 7))
            layout = entry_layout(level, leaf)
            forbidden = layout.reserved_mask | state[Context.RESERVED]
            if not state[Context.NXE]:
                forbidden |= layout.mask("XD")
            if level == 3 and leaf and not state[Context.PAGE_1G]:
                forbidden |= layout.mask("PS")
            if entry & forbidden:
                raise self.page_fault(level, present=True, reserved=True)
            bits = layout.decode(entry)
            writable = writable and bool(bits["RW"])
            user = user and bool(bits["US"])
            no_execute = no_execute or bool(bits["XD"])
            if leaf:
                break
            self.update(entry_gpa, entry_hpa, entry, level, layout.mask("A"))
            table = bits["addr"]
        allowed = self.guest_rights(user, writable, no_execute)
        wanted = _WANTED[record.access]
        if wanted & ~allowed:
            raise self.page_fault(level, present=True)
        flags = layout.mask("A", "D") if record.access is Access.WRITE else layout.mask("A")
        entry = self.update(entry_gpa, entry_hpa, entry, level, flags)
        self.finish(entry, level, wanted, allowed, (user, writable, no_execute))

    def finish(
        self, entry: int, level: int, wanted: Rights, allowed: Rights, linear: tuple[bool, ...]
    ) -> None:
        record, state = self.record, self.state
        layout = entry_layout(level, True)
        shift = level_shift(level)
        gpa = layout.get(entry, "addr") | record.gva & ((1 << shift) - 1)
        record.gpa, record.guest_shift, record.host_shift = gpa, shift, shift
        record.global_page = bool(layout.get(entry, "G"))
        dirty = bool(layout.get(entry, "D"))
        hpa = gpa
        if state[Context.EPTP]:
            user, writable, no_execute = linear
            known = EPT_VIOLATION_QUALIFICATION.mask("gla_valid", "final")
            if state[Context.ADVANCED]:
                known |= EPT_VIOLATION_QUALIFICATION.encode(user=user, writable=writable, xd=no_execute)
            hpa = self.ept(gpa, wanted, known)
            allowed &= self.ept_rights
            dirty = dirty and self.ept_dirty
        if hpa >= state[Context.MEMORY_BYTES]:
            raise self.fault(Status.BUS_ERROR, level, Dimension.GUEST, gpa=gpa)
        record.hpa, record.rights, record.dirty = hpa, allowed, dirty

    def guest_rights(self, user: bool, writable: bool, no_execute: bool) -> Rights:
        """SDM 3A §4.6.1: what paging allows at this privilege, as one set."""
        state = self.state
        if state[Context.USER]:
            data, write, fetch = user, user and writable, user and not no_execute
        else:
            data = not (user and state[Context.SMAP])
            write = data and (writable or not state[Context.WP])
            fetch = not no_execute and not (user and state[Context.SMEP])
        return (
            (Rights.READ if data else Rights(0))
            | (Rights.WRITE if write else Rights(0))
            | (Rights.EXECUTE if fetch else Rights(0))
        )

    def refer(
        self, dimension: Dimension, level: int, index: int, gpa: int | None, hpa: int, entry: int
    ) -> None:
        self.record.references.append(Reference(dimension, level, index, gpa, hpa, entry))

    def table_access(self, gpa: int) -> int:
        """SDM 3C §28.3.3.2: a guest-table access is a read, a write too when EPT keeps accessed and dirty flags."""
        eptp = self.state[Context.EPTP]
        if not eptp:
            return gpa
        wanted = Rights.READ | (Rights.WRITE if EPTP.get(eptp, "AD") else Rights(0))
        return self.ept(gpa, wanted, EPT_VIOLATION_QUALIFICATION.mask("gla_valid"))

    def update(self, gpa: int, hpa: int, entry: int, level: int, flags: int) -> int:
        """SDM 3A §4.8: set accessed and dirty flags; under EPT that write needs the right to write the table."""
        if not flags & ~entry or not self.state[Context.UPDATE]:
            return entry
        if self.state[Context.EPTP] and not self.ept_rights & Rights.WRITE:
            said = int(Rights.READ | Rights.WRITE) | int(self.ept_rights) << 3
            said |= EPT_VIOLATION_QUALIFICATION.mask("gla_valid")
            raise self.fault(Status.EPT_VIOLATION, level, Dimension.HOST, said, gpa)
        self.memory[hpa >> 3] = entry | flags
        return entry | flags

    def ept(self, gpa: int, wanted: Rights, known: int) -> int:
        """SDM 3C §28.3.2 and §28.3.3: one guest-physical address through EPT."""
        eptp = self.state[Context.EPTP]

        def violation(level: int, rights: Rights) -> _Fault:
            said = int(wanted) | int(rights) << EPT_VIOLATION_QUALIFICATION.shift("ept_r") | known
            return self.fault(Status.EPT_VIOLATION, level, Dimension.HOST, said, gpa)

        if gpa >> 48:
            raise violation(4, Rights(0))
        rights, used = _ALL, []
        table = EPTP.get(eptp, "addr")
        for level in (4, 3, 2, 1):
            index = gva_index(gpa, level)
            hpa = table + 8 * index
            entry = self.load(hpa, gpa, level, Dimension.HOST)
            self.refer(Dimension.HOST, level, index, gpa, hpa, entry)
            here = Rights(entry & 7)
            if not here:
                raise violation(level, Rights(0))
            leaf = level == 1 or (level < 4 and bool(entry & 1 << 7))
            if self.misconfigured(entry, level, leaf):
                raise self.fault(Status.EPT_MISCONFIGURATION, level, Dimension.HOST, gpa=gpa)
            rights &= here
            used.append(hpa)
            if leaf:
                break
            table = ept_layout(level, False).get(entry, "addr")
        if wanted & ~rights:
            raise violation(level, rights)
        layout = ept_layout(level, True)
        self.ept_rights = rights
        self.ept_dirty = self.ept_flags(used, wanted, layout.mask)
        self.record.host_shift = level_shift(level)
        return layout.get(entry, "addr") | gpa & ((1 << level_shift(level)) - 1)

    def misconfigured(self, entry: int, level: int, leaf: bool) -> bool:
        """SDM 3C §28.3.3.1: a present entry that says what no entry may say."""
        state = self.state
        layout = ept_layout(level, leaf)
        rights = Rights(entry & 7)
        if Rights.WRITE in rights and Rights.READ not in rights:
            return True
        if rights == Rights.EXECUTE and not state[Context.EPT_EXECUTE_ONLY]:
            return True
        if (leaf and level == 3 and not state[Context.EPT_1G]) or (
            leaf and level == 2 and not state[Context.EPT_2M]
        ):
            return True
        if entry & (layout.reserved_mask | state[Context.RESERVED]):
            return True
        return leaf and layout.get(entry, "MT") not in set(EPT_MEMORY_TYPES)

    def ept_flags(self, used: list[int], wanted: Rights, mask: Callable[..., int]) -> bool:
        """SDM 3C §28.3.5: accessed in each entry used, dirty in the leaf of a write; returns "leaf is dirty"."""
        if not EPTP.get(self.state[Context.EPTP], "AD"):
            return True
        if self.state[Context.UPDATE]:
            for hpa in used:
                self.memory[hpa >> 3] |= mask("A")
            if wanted & Rights.WRITE:
                self.memory[used[-1] >> 3] |= mask("D")
        return bool(int(self.memory[used[-1] >> 3]) & mask("D"))
