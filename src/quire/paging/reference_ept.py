"""The second dimension of the explained walk, written from the manual: one guest-physical address through EPT.

SDM 3C §28.3: misconfigurations and violations in their order, accessed and dirty flags, the page-modification log,
sub-page permissions, paging-write, guest-paging verification, supervisor shadow stacks, violations that become #VE.
"""

from enum import Enum, auto

from quire.arch import (
    EPT_PTE,
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    LOW32,
    PDE,
    SPPT_ENTRY,
    Access,
    ExitReason,
    Layout,
    PagingMode,
    Vector,
    ept_layout,
    ept_misconfiguration,
    gva_index,
    level_shift,
)
from quire.paging.context import Context, Dimension, Rights, Status, Words
from quire.paging.walk_caches import NO_CACHES, HostPage, HostTable, WalkCaches
from quire.paging.walk_record import Reference, Stopped, Walk, WalkRecord, WordMemory

__all__ = ["EptWalk", "Purpose"]

_QUALIFICATION = EPT_VIOLATION_QUALIFICATION
_BASIC = Rights.READ | Rights.WRITE | Rights.EXECUTE
_BY_NUMBER = tuple(Rights(n) for n in range(8))
_XU = EPT_PTE.mask("XU")
_HOST = Dimension.HOST
_LOG_ENTRIES = 512
_SPP_MISS = 1 << 11  # of the exit qualification for SPP-related events, SDM 3C §27.2.1
_ODD_BITS = sum(1 << n for n in range(1, 64, 2))


class Purpose(Enum):
    """What a guest-physical access is for; it decides what counts as a write and what an exit reports."""

    FINAL = auto()  #: the page that the linear address translates to
    TABLE = auto()  #: a guest paging-structure entry
    PDPTE = auto()  #: one of the four entries that MOV to CR3 loads, or an address alone: no linear address


class EptWalk(Walk):
    """EPT for one linear address: after :meth:`translate`, `rights`, `leaf` and `dirty` are those of the last page."""

    rights = _BASIC
    leaf = 0
    level = 0
    dirty = True
    gpa: int
    layout: Layout

    def __init__(
        self, memory: WordMemory, context: Words, record: WalkRecord, caches: WalkCaches = NO_CACHES
    ) -> None:
        super().__init__(memory, context, record)
        self.caches = caches

    @property
    def flags_enabled(self) -> bool:
        """Whether EPT keeps accessed and dirty flags."""
        return bool(EPTP.get(self.state[Context.EPTP], "AD"))

    def translate(self, gpa: int, wanted: Rights, purpose: Purpose, linear: int = 0) -> int:
        """Return the HPA of `gpa`; `linear` holds what the exit qualification says of the linear address."""
        self.gpa, self.wanted, self.purpose = gpa, wanted, purpose
        self.linear = linear
        if purpose is not Purpose.PDPTE:
            self.linear |= _QUALIFICATION.mask("gla_valid")
        if purpose is Purpose.FINAL:
            self.linear |= _QUALIFICATION.mask("final")
        kept = self.caches.host_page(gpa)
        if kept is None or not self._use(kept):
            self._descend()
            self._check_rights()
            self._set_flags()
            for covered, table in self.tables:
                self.caches.keep_host_table(gpa, covered, table)
        shift = level_shift(self.level)
        self.record.host_shift = shift
        self.record.host_entry = self.leaf
        self.caches.keep_host_page(gpa, self.page)
        return self.layout.get(self.leaf, "addr") | gpa & ((1 << shift) - 1)

    @property
    def page(self) -> HostPage:
        """How EPT maps the page last translated."""
        return HostPage(self.level, level_shift(self.level), self.rights, self.above, self.leaf)

    def resume(self, kept: HostPage) -> None:
        """Stand where the translation of a page that `kept` says ended."""
        self.level, self.rights, self.above, self.leaf = kept.level, kept.rights, kept.above, kept.leaf
        self.layout = ept_layout(kept.level, True)
        self.dirty = not self.flags_enabled or bool(EPT_PTE.get(kept.leaf, "D"))

    def _use(self, kept: HostPage) -> bool:
        """Translate by a kept guest-physical translation, unless rights are missing or a dirty flag is to be set."""
        self.resume(kept)
        shadow = self.record.access in (Access.SHADOW_READ, Access.SHADOW_WRITE)
        if self.wanted & ~self.rights or (shadow and self.purpose is Purpose.FINAL):
            return False
        return self.dirty or not self.wanted & Rights.WRITE

    def _descend(self) -> None:
        state = self.state
        mode = PagingMode.LEVEL_5 if EPTP.get(state[Context.EPTP], "walk_length") == 4 else PagingMode.LEVEL_4
        top = int(mode)
        self.rights = self.above = _BASIC | (Rights.USER_EXECUTE if state[Context.MBEC] else Rights(0))
        self.used: list[int] = []
        self.tables: list[tuple[int, HostTable]] = []  # by the shift of what the entry maps
        self.leaf, self.level = 0, top
        if self.gpa >> level_shift(top, mode) + 9:
            self.rights = Rights(0)
            raise self.violation("GPA width")
        table = EPTP.get(state[Context.EPTP], "addr")
        kept = self.caches.host_table(self.gpa)
        if kept is not None:
            table, top, self.rights = kept.table, kept.level, kept.rights
        for self.level in range(top, 0, -1):
            index = gva_index(self.gpa, self.level, mode)
            hpa = table + 8 * index
            entry = self.load(hpa, hpa, self.level, _HOST)
            here = self._entry_rights(entry)
            is_leaf = self.level == 1 or (self.level <= 3 and bool(PDE.get(entry, "PS")))
            self.layout = ept_layout(self.level, is_leaf)
            self.above, self.rights = self.rights, self.rights & here
            self.record.references.append(
                Reference(_HOST, self.level, index, self.gpa, hpa, entry, self.layout, self.rights)
            )
            if not here:
                self.leaf = entry
                raise self.violation("EPT not present", reached=False)
            rule = self._misconfiguration(entry, is_leaf)
            if rule:
                raise self.stop(Status.EPT_MISCONFIGURATION, rule, self.level, _HOST, gpa=self.gpa)
            self.used.append(hpa)
            if is_leaf:
                self.leaf = entry
                return
            table = self.layout.get(entry, "addr")
            self.tables.append((level_shift(self.level, mode), HostTable(self.level - 1, table, self.rights)))

    def _entry_rights(self, entry: int) -> Rights:
        rights = _BY_NUMBER[entry & _BASIC.value]
        return rights | Rights.USER_EXECUTE if entry & _XU and self.state[Context.MBEC] else rights

    def _misconfiguration(self, entry: int, is_leaf: bool) -> str:
        """SDM 3C §28.3.3.1: the rule that a present entry breaks, or nothing."""
        state, layout = self.state, self.layout
        forbidden = state[Context.RESERVED]
        if is_leaf and not {1: 1, 2: state[Context.EPT_2M], 3: state[Context.EPT_1G]}[self.level]:
            forbidden |= layout.mask("PS")
        execute_only = bool(state[Context.EPT_EXECUTE_ONLY])
        return ept_misconfiguration(entry, layout, forbidden=forbidden, execute_only=execute_only)

    def _check_rights(self) -> None:
        """SDM 3C §28.3.3.2: the AND of the entries must allow the access, with the exceptions that controls make."""
        state = self.state
        shadow = self.record.access in (Access.SHADOW_READ, Access.SHADOW_WRITE)
        supervisor = not state[Context.USER] or state[Context.IMPLICIT]
        final = self.purpose is Purpose.FINAL
        if final and shadow and supervisor and EPTP.get(state[Context.EPTP], "SSS"):
            wanted_above, wanted_leaf = Rights.READ | Rights.WRITE, EPT_PTE.mask("R", "SSS")
            if wanted_above & ~self.above or wanted_leaf & ~self.leaf:
                raise self.violation("supervisor shadow stack")
        elif self.wanted & ~self.rights and not self._excepted():
            raise self.violation("EPT rights")

    def _excepted(self) -> bool:
        """Return whether paging-write or a sub-page permission allows what the rights alone do not."""
        if self.wanted & ~self.rights != Rights.WRITE:
            return False
        if self.purpose is Purpose.TABLE:
            return self.may_update_table()
        marked = self.level == 1 and EPT_PTE.get(self.leaf, "SPP")
        spp = marked and self.purpose is Purpose.FINAL and self.state[Context.SPP]
        return bool(spp and self.rights & Rights.READ) and self._sub_page_writable()

    def may_update_table(self) -> bool:
        """Return whether the processor may write the guest table page last translated."""
        if self.rights & Rights.WRITE:
            return True
        return bool(self.state[Context.PAGING_WRITE] and EPT_PTE.get(self.leaf, "paging_write"))

    def _sub_page_writable(self) -> bool:
        """SDM 3C §28.3.4: the write right of the 128 bytes at the address, from the sub-page-permission table."""
        table = self.state[Context.SPPTP]
        for level in (4, 3, 2):
            where = table + 8 * gva_index(self.gpa, level)
            entry = self.load(where, where, level, _HOST)
            if not SPPT_ENTRY.get(entry, "V"):
                raise self.stop(Status.SPP_EVENT, "SPPT miss", level, _HOST, error=_SPP_MISS, gpa=self.gpa)
            if entry & (SPPT_ENTRY.reserved_mask | self.state[Context.RESERVED]):
                raise self.stop(Status.SPP_EVENT, "SPPT misconfiguration", level, _HOST, gpa=self.gpa)
            table = SPPT_ENTRY.get(entry, "addr")
        where = table + 8 * gva_index(self.gpa, 1)
        vector = self.load(where, where, 1, _HOST)
        if vector & _ODD_BITS:
            raise self.stop(Status.SPP_EVENT, "SPPT misconfiguration", 1, _HOST, gpa=self.gpa)
        return bool(vector >> 2 * (self.gpa >> 7 & 31) & 1)

    def verify_paging(self, tables_marked: bool) -> None:
        """A page marked for verification, reached through a table that is not marked, is a violation."""
        marked = EPT_PTE.get(self.leaf, "verify_guest_paging")
        if self.state[Context.VERIFY_PAGING] and marked and not tables_marked:
            self.linear |= _QUALIFICATION.mask("verify_paging")
            raise self.violation("guest-paging verification")

    def violation(self, rule: str, *, reached: bool = True, said: Rights | None = None) -> Stopped:
        """Record an EPT violation with its whole qualification, or the #VE that it becomes (SDM 3C §25.5.7)."""
        state = self.state
        wanted = self.wanted if said is None else said
        fetch = wanted & (Rights.EXECUTE | Rights.USER_EXECUTE)
        error = int(wanted & ~Rights.USER_EXECUTE) | (int(Rights.EXECUTE) if fetch else 0) | self.linear
        error |= int(self.rights) << _QUALIFICATION.shift("ept_r")
        leaf_reached = reached and rule != "GPA width"
        if leaf_reached and EPTP.get(state[Context.EPTP], "SSS") and EPT_PTE.get(self.leaf, "SSS"):
            error |= _QUALIFICATION.mask("sss_leaf")
        convertible = rule != "GPA width" and not EPT_PTE.get(self.leaf, "suppress_VE")
        if state[Context.VE] and convertible and self._take_ve(error):
            status, vector = Status.VIRTUALIZATION_EXCEPTION, int(Vector.VE)
        else:
            status, vector = Status.EPT_VIOLATION, 0
        return self.stop(status, rule, self.level, _HOST, error=error, gpa=self.gpa, vector=vector)

    def _take_ve(self, qualification: int) -> bool:
        """Fill the information area unless it is in use: its second dword is then not 0."""
        area = self.state[Context.VE_INFO]
        if area + 40 > self.state[Context.MEMORY_BYTES] or int(self.memory[area >> 3]) >> 32:
            return False
        if self.state[Context.UPDATE]:
            self.memory[area >> 3] = ExitReason.EPT_VIOLATION | LOW32 << 32
            values = (qualification, self.record.gva, self.gpa)
            for n, value in enumerate(values, 1):
                self.memory[(area >> 3) + n] = value
            kept = int(self.memory[(area >> 3) + 4]) & ~0xFFFF
            self.memory[(area >> 3) + 4] = kept | self.state[Context.EPTP_INDEX]
        return True

    def _set_flags(self) -> None:
        """SDM 3C §28.3.5 and §28.3.6: accessed in each entry used, dirty in the leaf of a write, and the log."""
        self.dirty = not self.flags_enabled or bool(EPT_PTE.get(self.leaf, "D"))
        if not self.flags_enabled or not self.state[Context.UPDATE]:
            return
        accessed, dirty = EPT_PTE.mask("A"), EPT_PTE.mask("D")
        soiled = bool(self.wanted & Rights.WRITE) and not self.dirty
        if not soiled and all(int(self.memory[hpa >> 3]) & accessed for hpa in self.used):
            return
        if self.state[Context.PML]:
            self._log(soiled)
        for hpa in self.used:
            self.memory[hpa >> 3] |= accessed
        if soiled:
            self.memory[self.used[-1] >> 3] |= dirty
            self.dirty = True
        self.leaf = int(self.memory[self.used[-1] >> 3])

    def _log(self, soiled: bool) -> None:
        index = int(self.context[Context.PML_INDEX])
        if index >= _LOG_ENTRIES:
            raise self.stop(Status.LOG_FULL, "log full", self.level, _HOST, gpa=self.gpa)
        if soiled:
            where = self.state[Context.PML_ADDRESS] + 8 * index
            self.load(where, where, self.level, _HOST)
            self.memory[where >> 3] = self.gpa & ~0xFFF
            self.context[Context.PML_INDEX] = (index - 1) & 0xFFFF
