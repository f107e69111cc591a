"""What the guest's own tables allow, in the explained walk: the rules of SDM 3A §4.6, from combined flags.

The flags are those of all entries that a walk used, or of a translation that a processor kept: the rules are one.
"""

from quire.arch import Access, PagingMode, entry_layout
from quire.paging.context import Context, Rights, Words
from quire.paging.walk_caches import GuestFlags
from quire.paging.walk_record import Walk, WalkRecord, WordMemory

__all__ = ["SHADOW", "WANTED", "WRITES", "GuestRights"]

_ORDINARY = {Rights.READ: Access.READ, Rights.WRITE: Access.WRITE, Rights.EXECUTE: Access.FETCH}
WANTED = {
    Access.READ: Rights.READ,
    Access.WRITE: Rights.WRITE,
    Access.FETCH: Rights.EXECUTE,
    Access.SHADOW_READ: Rights.READ,
    Access.SHADOW_WRITE: Rights.WRITE,
}
WRITES = (Access.WRITE, Access.SHADOW_WRITE)
SHADOW = (Access.SHADOW_READ, Access.SHADOW_WRITE)


class GuestRights(Walk):
    """The combined flags of a walk in progress, the entry read last, and which accesses they allow."""

    def __init__(self, memory: WordMemory, context: Words, record: WalkRecord) -> None:
        super().__init__(memory, context, record)
        self.mode = record.mode
        self.supervisor = not self.state[Context.USER] or bool(self.state[Context.IMPLICIT])
        self.writable = self.user = self.above_writable = True
        self.no_execute = False
        # The entry read last; a leaf once the walk is through.
        self.leaf, self.at_leaf = 0, False

    @property
    def flags(self) -> GuestFlags:
        """R/W, U/S and XD of the entries so far."""
        return GuestFlags(self.writable, self.user, self.no_execute)

    @flags.setter
    def flags(self, flags: GuestFlags) -> None:
        self.writable, self.user, self.no_execute = flags.writable, flags.user, flags.no_execute

    def allowed(self) -> Rights:
        """Return the ordinary accesses that no rule forbids; of a shadow-stack access, that access alone."""
        if self.record.access in SHADOW:
            return Rights(0) if self.forbids(self.record.access) else WANTED[self.record.access]
        rights = Rights(0)
        for right, access in _ORDINARY.items():
            if not self.forbids(access):
                rights |= right
        return rights

    def possible(self) -> Rights:
        """Return the ordinary accesses that entries still to come may leave allowed.

        Above a leaf U/S = 1 binds no supervisor yet: the page is a user page only if every entry says so.
        """
        user = self.user
        self.user = user and (self.at_leaf or not self.supervisor)
        rights = self.allowed()
        self.user = user
        return rights

    def forbids(self, access: Access) -> str:
        """SDM 3A §4.6.1: return the rule that forbids `access` by the entries used so far, or nothing."""
        state = self.state
        if access in SHADOW:
            return self._forbids_shadow(access)
        if not self.supervisor:
            if not self.user:
                return "user page"
            if access is Access.FETCH:
                return "execute disable" if self.no_execute else ""
            if access is Access.WRITE and not self.writable:
                return "read-only page"
            return "protection key" if self.key_forbids(access) else ""
        if access is Access.FETCH:
            if self.no_execute:
                return "execute disable"
            return "SMEP" if self.user and state[Context.SMEP] else ""
        if self.user and state[Context.SMAP] and (state[Context.IMPLICIT] or not state[Context.AC]):
            return "SMAP"
        if access is Access.WRITE and state[Context.WP] and not self.writable:
            return "write protect"
        return "protection key" if self.key_forbids(access) else ""

    def _forbids_shadow(self, access: Access) -> str:
        if not self.at_leaf:
            return ""
        is_stack = self.above_writable and not self.writable and bool(self.leaf & 1 << 6)
        if not is_stack or self.user == self.supervisor:
            return "shadow stack"
        return "protection key" if self.key_forbids(access) else ""

    def key_forbids(self, access: Access) -> bool:
        """SDM 3A §4.6.2: AD forbids data accesses, WD writes; user keys by PKRU, supervisor keys by IA32_PKRS."""
        state = self.state
        enabled, rights = (Context.PKE, Context.PKRU) if self.user else (Context.PKS, Context.PKRS)
        if access is Access.FETCH or self.mode < PagingMode.LEVEL_4 or not (state[enabled] and self.at_leaf):
            return False
        key = entry_layout(1, True).get(self.leaf, "pkey")
        access_disabled, write_disabled = (state[rights] >> 2 * key & bit for bit in (1, 2))
        binds = bool(state[Context.WP]) or not self.supervisor
        return bool(access_disabled or (write_disabled and access in WRITES and binds))
