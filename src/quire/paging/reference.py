"""The walk in plain Python, written from the manual: the slow twin of the kernel, and the one that explains.

It takes the same context and memory as the kernel and yields the same result, plus the list of references with
what each entry said and the rule that decided. One walk costs tens of microseconds; explaining one address needs
no compiler. The second dimension is ``reference_ept.py``.
"""

from quire.arch import (
    CR3,
    EPT_VIOLATION_QUALIFICATION,
    LOW32,
    PAE_PDPTE,
    PF_ERROR,
    Access,
    Layout,
    PagingMode,
    Vector,
    entry_layout,
    gva_index,
    is_canonical,
    level_shift,
    linear_width,
)
from quire.paging.context import Context, Dimension, Rights, Status, Words
from quire.paging.memory_type import final_memory_type
from quire.paging.reference_ept import EptWalk, Purpose
from quire.paging.reference_rights import SHADOW, WANTED, WRITES, GuestRights
from quire.paging.walk_caches import NO_CACHES, GuestFlags, GuestPage, GuestTable, WalkCaches
from quire.paging.walk_record import Reference, Stopped, WalkRecord, WordMemory

__all__ = ["load_pdptes", "reference_walk", "walk_gpa"]

_GUEST = Dimension.GUEST
_RESTART = 1 << 11  # of an entry that is used in HLAT paging: the walk starts anew from CR3
_PDPTE_TABLE = 32  # bytes: four entries, so CR3 holds bits 31:5


def reference_walk(
    memory: WordMemory, context: Words, gva: int, access: Access, caches: WalkCaches = NO_CACHES
) -> WalkRecord:
    """Translate `gva` for `access` through `memory` (8-byte words) under `context`; see Context for its fields.

    SDM 3A §4.3 to §4.9 and SDM 3C §28.3. With HLAT the walk begins at the HLAT pointer for addresses of its prefix,
    and an entry whose bit 11 is 1 restarts it from CR3 (ISE §HLAT). Sets accessed and dirty flags in `memory`, and
    takes the index of the page-modification log down in `context`, unless UPDATE is 0. What `caches` keeps is used
    instead of entries: a translation if it allows the access and its dirty flag is set for a write, the tables that
    it says, EPT's pages.
    """
    mode = PagingMode(int(context[Context.MODE]))
    walker = _GuestWalk(memory, context, WalkRecord(gva, access, mode), caches)
    try:
        walker.translate()
    except Stopped:
        pass
    return walker.record


def load_pdptes(memory: WordMemory, context: Words) -> WalkRecord:
    """Load the PDPTE registers as MOV to CR3 does in PAE paging: all four, or none if one is illegal.

    SDM 3A §4.4.1. The status is PDPTE_FAULT (#GP(0)) for a reserved bit, or that of the EPT walk that failed; on OK
    the four fields of `context` are set. An EPT violation here has no linear address.
    """
    walker = _GuestWalk(memory, context, WalkRecord(0, Access.READ, PagingMode.PAE))
    try:
        values = [walker.pdpte(n) for n in range(4)]
    except Stopped:
        return walker.record
    for field, value in zip(
        (Context.PDPTE0, Context.PDPTE1, Context.PDPTE2, Context.PDPTE3), values, strict=True
    ):
        context[field] = value
    return walker.record


def walk_gpa(memory: WordMemory, context: Words, gpa: int, access: Access) -> WalkRecord:
    """Translate guest-physical `gpa` by EPT alone, as an access that has no linear address. SDM 3C §28.3.

    The memory type is that of EPT, as if the guest had no paging. The context has an EPT pointer.
    """
    record = WalkRecord(gpa, access, PagingMode.NONE)
    ept = EptWalk(memory, context, record)
    try:
        record.hpa = ept.translate(gpa, WANTED[access], Purpose.PDPTE)
    except Stopped:
        return record
    record.gpa, record.dirty = gpa, ept.dirty
    record.rights = ept.rights & (Rights.READ | Rights.WRITE | Rights.EXECUTE)
    record.memory_type = final_memory_type(context, 0, record.host_shift, record.host_entry)
    return record


class _GuestWalk(GuestRights):
    """One walk of the guest's tables in progress: what the entries so far allow, and where the walk stands."""

    def __init__(
        self, memory: WordMemory, context: Words, record: WalkRecord, caches: WalkCaches = NO_CACHES
    ) -> None:
        super().__init__(memory, context, record)
        self.caches = caches
        caches.begin(record)
        self.ept = EptWalk(memory, context, record, caches) if self.state[Context.EPTP] else None
        self.tables_marked = True
        self.leaf_layout = entry_layout(1, True)
        self.level = 0
        self.at_table = False  # whether the entry before led to the table that is read now
        self.hlat = self.mode >= PagingMode.LEVEL_4 and bool(self.state[Context.HLAT])

    def translate(self) -> None:
        record = self.record
        gva = record.gva
        if self.mode >= PagingMode.LEVEL_4:
            if not is_canonical(gva, linear_width(self.mode)):
                vector = Vector.SS if self.state[Context.STACK] else Vector.GP
                raise self.stop(Status.NON_CANONICAL, "non-canonical", 0, _GUEST, vector=vector)
        else:
            gva &= LOW32
        if self.mode is PagingMode.NONE:
            record.rights = Rights.READ | Rights.WRITE | Rights.EXECUTE
            self._finish(gva, dirty=True)
            return
        prefix = self.state[Context.HLAT_PREFIX]
        self.hlat = self.hlat and gva >> (64 - prefix) == (1 << prefix) - 1
        for kept in self.caches.pages(gva):
            if self._use(kept, gva):
                return
        entry_gpa, entry_hpa = self._descend(gva)
        if self.forbids(record.access):
            raise self.page_fault(self.forbids(record.access))
        record.rights = self.allowed()
        writes = record.access in WRITES
        self._set_flags(entry_gpa, entry_hpa, ("A", "D") if writes else ("A",))
        shift = level_shift(self.level, self.mode)
        frame = self.leaf_layout.get(self.leaf, "addr")
        if self.mode is PagingMode.BITS_32 and self.level == 2:
            frame |= self.leaf_layout.get(self.leaf, "addr_high") << 32
        self._finish_leaf(shift, frame | gva & ((1 << shift) - 1))
        self._keep(gva)

    def _finish_leaf(self, shift: int, gpa: int) -> None:
        """Record what the guest's leaf says, and translate the page at `gpa` that it maps."""
        record, layout = self.record, self.leaf_layout
        record.guest_shift, record.guest_entry = shift, self.leaf
        record.global_page = bool(layout.get(self.leaf, "G") and self.state[Context.PGE])
        self._finish(gpa, dirty=bool(layout.get(self.leaf, "D")))

    def _keep(self, gva: int) -> None:
        """Offer the translation that the walk has made (SDM 3A §4.10.2.2)."""
        record = self.record
        host = None if self.ept is None else self.ept.page
        base = -1 << min(record.guest_shift, record.host_shift)
        page = GuestPage(
            self.level,
            record.guest_shift,
            self.leaf,
            self.flags,
            host,
            record.gpa & base,
            record.hpa & base,
            record.dirty,
        )
        self.caches.keep_page(gva, page, is_global=record.global_page)

    def _use(self, kept: GuestPage, gva: int) -> bool:
        """Answer the access by a kept translation, unless rights are missing or a dirty flag is to be set.

        A shadow-stack access depends on more than a translation keeps: it is always walked for.
        """
        record, before = self.record, self.flags
        self.flags, self.leaf, self.at_leaf = kept.flags, kept.leaf, True
        refused = record.access in SHADOW or self.forbids(record.access)
        rights = self.allowed()
        if kept.host is not None:
            rights &= self._executable(kept.host.rights)
        if refused or WANTED[record.access] & ~rights or (record.access in WRITES and not kept.dirty):
            self.flags, self.at_leaf = before, False
            return False
        offset = gva & ((1 << kept.size_shift) - 1)
        record.rights, record.dirty = rights, kept.dirty
        record.gpa, record.hpa = kept.gpa | offset, kept.hpa | offset
        if record.hpa >= self.state[Context.MEMORY_BYTES]:
            raise self.stop(Status.BUS_ERROR, "outside memory", kept.level, _GUEST, gpa=record.gpa)
        record.guest_shift, record.guest_entry = kept.shift, kept.leaf
        record.host_shift = kept.shift if kept.host is None else kept.host.shift
        record.host_entry = 0 if kept.host is None else kept.host.leaf
        layout = entry_layout(kept.level, True, self.mode)
        record.global_page = bool(layout.get(kept.leaf, "G") and self.state[Context.PGE])
        record.memory_type = final_memory_type(self.context, kept.leaf, kept.shift, record.host_entry)
        return True

    def _reach_entry(self, gpa: int, gva: int, kept: GuestTable | None) -> int:
        """Return the HPA of an entry, through the table that was kept if it is there."""
        if kept is not None and kept.level == self.level:
            if self.ept is not None and kept.host is not None:
                self.ept.resume(kept.host)
            return kept.hpa | gpa & 0xFFF
        hpa = self._reach(gpa, Purpose.TABLE)
        if self.at_table:
            shift = level_shift(self.level + 1, self.mode)
            host = None if self.ept is None else self.ept.page
            table = GuestTable(self.level, gpa & ~0xFFF, hpa & ~0xFFF, self.flags, self.tables_marked, host)
            self.caches.keep_table(gva, shift, table)
        return hpa

    def _descend(self, gva: int) -> tuple[int, int]:
        """Read entries down to the leaf; return where it lies. SDM 3A §4.3 to §4.5."""
        table, top = self._root(gva)
        kept = self.caches.table(gva)
        if kept is not None:
            table, top = kept.table, kept.level
            self.flags = kept.flags
            self.tables_marked = kept.marked
        for self.level in range(top, 0, -1):
            index = gva_index(gva, self.level, self.mode)
            size = 4 if self.mode is PagingMode.BITS_32 else 8
            gpa = table + size * index
            hpa = self._reach_entry(gpa, gva, kept)
            entry = self.load(hpa, gpa, self.level, _GUEST)
            if size == 4:
                entry = entry >> 8 * (hpa & 4) & LOW32
            layout = self._layout(entry)
            is_leaf = layout.name in _LEAVES
            self.leaf, self.leaf_layout, self.at_leaf = entry, layout, is_leaf
            self._refer(index, gpa, hpa)
            if not layout.get(entry, "P"):
                raise self.page_fault("not present", present=False)
            if entry & self._forbidden(layout):
                raise self.page_fault("reserved bit", reserved=True)
            if self.hlat and entry & _RESTART:
                self.hlat, self.at_table = False, False
                self.flags = GuestFlags(writable=True, user=True, no_execute=False)
                return self._descend(gva)
            if is_leaf:
                return gpa, hpa
            self._set_flags(gpa, hpa, ("A",))
            self.at_table = bool(layout.get(self.leaf, "A"))
            table = layout.get(entry, "addr")
        raise AssertionError("level 1 entries are leaves")

    def _root(self, gva: int) -> tuple[int, int]:
        cr3 = self.state[Context.HLATP if self.hlat else Context.CR3]
        if self.mode is PagingMode.BITS_32:
            return entry_layout(2, False, self.mode).get(cr3, "addr"), 2
        if self.mode is PagingMode.PAE:
            pdpte = self.state[Context(Context.PDPTE0 + gva_index(gva, 3, self.mode))]
            if not PAE_PDPTE.get(pdpte, "P"):
                self.level = 3
                raise self.page_fault("not present", present=False)
            return PAE_PDPTE.get(pdpte, "addr"), 2
        return CR3.get(cr3, "addr"), int(self.mode)

    def _layout(self, entry: int) -> Layout:
        """Return the form of an entry read at this level: PS makes a leaf where the mode maps pages."""
        if self.level == 1:
            return entry_layout(1, True, self.mode)
        if self.mode is PagingMode.BITS_32:
            return entry_layout(2, bool(entry & 1 << 7 and self.state[Context.PSE]), self.mode)
        # PAE's level 3 is in registers, and is not read here.
        return entry_layout(self.level, self.level <= 3 and bool(entry & 1 << 7), self.mode)

    def _forbidden(self, layout: Layout) -> int:
        """Return the bits that must be 0: the layout's, and those that the processor and EFER.NXE add."""
        state, mask = self.state, layout.reserved_mask
        if self.mode is PagingMode.BITS_32:
            return mask | state[Context.PSE_RESERVED] if layout.name == "PDE_4M" else mask
        mask |= state[Context.RESERVED]
        if not state[Context.NXE]:
            mask |= layout.mask("XD")
        if layout.name == "PDPTE_1G" and not state[Context.PAGE_1G]:
            mask |= layout.mask("PS")
        return mask

    def _refer(self, index: int, gpa: int, hpa: int) -> None:
        """Note the reference, and add what the entry says to what the walk knows of the linear address."""
        entry, layout = self.leaf, self.leaf_layout
        self.above_writable = self.writable
        present = bool(layout.get(entry, "P"))
        if present:
            self.writable = self.writable and bool(layout.get(entry, "RW"))
            self.user = self.user and bool(layout.get(entry, "US"))
            if self.mode is not PagingMode.BITS_32:
                self.no_execute = self.no_execute or bool(layout.get(entry, "XD"))
        rights = self.possible() if present else Rights(0)
        self.record.references.append(
            Reference(_GUEST, self.level, index, gpa, hpa, entry, layout, rights, self.hlat)
        )

    def page_fault(self, rule: str, *, present: bool = True, reserved: bool = False) -> Stopped:
        """Record a #PF at this level; SDM 3A §4.7 says when each bit of the error code is set."""
        access, state = self.record.access, self.state
        execute_matters = state[Context.NXE] and self.mode is not PagingMode.BITS_32
        error = PF_ERROR.encode(
            P=present,
            RSVD=reserved,
            W=access in WRITES,
            U=not self.supervisor,
            ID=access is Access.FETCH and bool(execute_matters or state[Context.SMEP]),
            PK=present and not reserved and self.key_forbids(access),
            SS=access in SHADOW,
            HLAT=self.hlat,
        )
        return self.stop(Status.PAGE_FAULT, rule, self.level, _GUEST, error=error, vector=Vector.PF)

    def _reach(self, gpa: int, purpose: Purpose) -> int:
        """SDM 3C §28.3.3.2: a guest-table access is a read, a write too when EPT keeps accessed and dirty flags."""
        if self.ept is None:
            return gpa
        as_write = purpose is Purpose.TABLE and self.ept.flags_enabled
        hpa = self.ept.translate(gpa, Rights.READ | (Rights.WRITE if as_write else Rights(0)), purpose)
        if purpose is Purpose.TABLE:
            self.tables_marked = self.tables_marked and bool(self.ept.leaf & 1 << 58)
        return hpa

    def _set_flags(self, gpa: int, hpa: int, names: tuple[str, ...]) -> None:
        """SDM 3A §4.8: set accessed and dirty flags; under EPT that write needs the right to write the table."""
        flags = self.leaf_layout.mask(*names)
        if not flags & ~self.leaf or not self.state[Context.UPDATE]:
            return
        if self.ept is not None and not self.ept.may_update_table():
            raise self.ept.violation("EPT table write", said=Rights.READ | Rights.WRITE)
        self.leaf |= flags
        place = 8 * (hpa & 4) if self.mode is PagingMode.BITS_32 else 0
        self.memory[hpa >> 3] |= flags << place

    def _finish(self, gpa: int, *, dirty: bool) -> None:
        """Translate the final page in the second dimension, and record what the whole walk found."""
        record, state = self.record, self.state
        record.gpa, record.host_shift, hpa = gpa, record.guest_shift, gpa
        if self.ept is not None:
            hpa = self.ept.translate(gpa, self._wanted(), Purpose.FINAL, self._linear())
            if self.mode:
                self.ept.verify_paging(self.tables_marked)
            if record.access not in SHADOW:
                record.rights &= self._executable(self.ept.rights)
            dirty = dirty and self.ept.dirty
        if hpa >= state[Context.MEMORY_BYTES]:
            raise self.stop(Status.BUS_ERROR, "outside memory", self.level, _GUEST, gpa=gpa)
        record.hpa, record.dirty = hpa, dirty
        record.memory_type = final_memory_type(
            self.context, record.guest_entry, record.guest_shift, record.host_entry
        )

    def _wanted(self) -> Rights:
        wanted = WANTED[self.record.access]
        by_user_bit = self.state[Context.MBEC] and self.user
        return Rights.USER_EXECUTE if wanted is Rights.EXECUTE and by_user_bit else wanted

    def _executable(self, rights: Rights) -> Rights:
        """Return EPT's rights with EXECUTE meaning a fetch from this linear address."""
        if not (self.state[Context.MBEC] and self.user):
            return rights & ~Rights.USER_EXECUTE
        execute = Rights.EXECUTE if rights & Rights.USER_EXECUTE else Rights(0)
        return rights & (Rights.READ | Rights.WRITE) | execute

    def _linear(self) -> int:
        """Return what the exit qualification says of the linear address (SDM 3C §27.2.1, table 27-7)."""
        said = EPT_VIOLATION_QUALIFICATION.encode(shadow_stack=self.record.access in SHADOW)
        if self.state[Context.ADVANCED]:
            said |= EPT_VIOLATION_QUALIFICATION.encode(
                user=self.user, writable=self.writable, xd=self.no_execute
            )
        return said

    def pdpte(self, n: int) -> int:
        """Return the entry that MOV to CR3 loads into PDPTE register `n`. SDM 3A §4.4.1."""
        self.level = 3
        gpa = (self.state[Context.CR3] & LOW32 & ~(_PDPTE_TABLE - 1)) + 8 * n
        hpa = self._reach(gpa, Purpose.PDPTE)
        entry = self.load(hpa, gpa, 3, _GUEST)
        present = bool(PAE_PDPTE.get(entry, "P"))
        rights = Rights.READ | Rights.WRITE | Rights.EXECUTE if present else Rights(0)
        self.record.references.append(Reference(_GUEST, 3, n, gpa, hpa, entry, PAE_PDPTE, rights))
        if present and entry & (PAE_PDPTE.reserved_mask | self.state[Context.RESERVED]):
            raise self.stop(Status.PDPTE_FAULT, "PDPTE reserved bit", 3, _GUEST, vector=Vector.GP)
        return entry


_LEAVES = {
    entry_layout(level, True, mode).name
    for mode, levels in (
        (PagingMode.BITS_32, (1, 2)),
        (PagingMode.PAE, (1, 2)),
        (PagingMode.LEVEL_4, (1, 2, 3)),
    )
    for level in levels
}
