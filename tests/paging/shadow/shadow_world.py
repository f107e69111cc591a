"""A guest for shadow paging: tables wired by hand, a memory map, hardware that walks the shadow, and a TLB's memory.

Guest frames 0 to 15 are mapped by 4 KiB pages of the memory map, the 2 MiB from guest frame 512 by one large page.
:meth:`ShadowWorld.access` does what a processor does: it walks the shadow, gives each #PF to `resolve` and tries again.
What a TLB could hold (SDM 3A §4.10.2) is kept for each PCID in `held`: every translation of the guest's that existed
since the last invalidation that covered it. An access must end as the present tables say, or as one of those.
"""

from collections.abc import Callable

import numpy as np
from shadow_parts import (
    ALL,
    FRAMES,
    INDICES,
    LARGE,
    PS,
    RW,
    SMALL_FRAMES,
    US,
    XD,
    A,
    Cached,
    D,
    Frames,
    G,
    P,
    addresses,
)

from quire.arch import ARCHITECTURE, EPTP, PTE, Access, MemoryType, PagingMode, entry_layout
from quire.memory import Fill, HostMemory, Owner, OwnerKind, Pool
from quire.paging import EPT_FORMAT, RESULT_WORDS, Context, Result, Rights, Status, Tables, new_context
from quire.paging._kernels import walk
from quire.paging.shadow import Shadow, Verdict, audit

_GUEST = Owner(OwnerKind.GUEST_PAGE, "guest memory")
_TRIES = 4  # #PF exits that one access may take


class ShadowWorld:
    """One guest, its memory map, its shadow, and hardware."""

    def __init__(
        self,
        mode: PagingMode = PagingMode.LEVEL_4,
        *,
        limit: int = 64,
        prefetch: int = 1,
        wire: bool = True,
        memory_bytes: int = 16 << 20,
    ) -> None:
        self.mode = mode
        self.memory = HostMemory(memory_bytes)
        self.pool = Pool(0, self.memory.frame_count, self.memory)
        self.frames = Frames(self.memory, self.pool)
        self.map = Tables(self.frames, EPT_FORMAT)
        self.missing: dict[
            int, int
        ] = {}  # guest frames that the memory map does not have now, with their host frame
        for frame in range(SMALL_FRAMES):
            self.map.map(frame << 12, self.pool.allocate(0, _GUEST, Fill.ZERO) << 12, 0x1000, ALL)
        block = self.pool.allocate(9, _GUEST, Fill.ZERO)
        self.pool.divide(block, 9, _GUEST)  # its parts may be given back one by one
        self.map.map(LARGE << 12, block << 12, 0x200000, ALL)
        self.guest = new_context(ARCHITECTURE, self.memory.size)
        self.hardware = new_context(ARCHITECTURE, self.memory.size)
        self.guest[Context.EPTP] = EPTP.encode(MT=MemoryType.WB, walk_length=3, addr=self.map.root)
        self.guest[Context.MODE] = mode
        self.guest[Context.PSE] = mode is PagingMode.BITS_32
        self.pge, self.pcid = False, 0
        self.flushes = 0
        self.shadow = Shadow(
            self.memory,
            self.frames,
            self.map,
            self.guest,
            self.hardware,
            limit=limit,
            flush=self._flushed,
            prefetch=prefetch,
        )
        self.map.on_change = self.shadow.drop_range
        self.addresses = addresses(mode)
        self.held: dict[int, set[Cached]] = {}  # by PCID
        self.held_global: set[Cached] = set()
        self.result = np.zeros(RESULT_WORDS, np.uint64)
        if wire and mode is not PagingMode.NONE:
            self.wire()
        self.root(0)

    def _flushed(self) -> None:
        self.flushes += 1

    # Tables.

    def wire(self, put: Callable[[int, int, int], object] | None = None) -> None:
        """Let every address be translated: one table a level, frames 0 and up, and data frames behind the last."""
        put = put or self.put
        levels = INDICES[self.mode]
        first = 1 if self.mode is PagingMode.PAE else 0
        for depth, indices in enumerate(levels[first:]):
            for n, index in enumerate(indices):
                last = depth + first == len(levels) - 1
                frame = (8, LARGE, 9, LARGE + 3)[n] if last else depth + 1
                put(depth, index, frame << 12 | P | RW | US | A)
        if self.mode is PagingMode.PAE:
            for n in range(4):
                self.guest[Context.PDPTE0 + n] = P

    @property
    def width(self) -> int:
        """Bytes of a guest entry."""
        return 4 if self.mode is PagingMode.BITS_32 else 8

    def hpa(self, frame: int) -> int | None:
        """Return where guest `frame` is, or None."""
        return self.map.target(frame << 12)

    def entry(self, frame: int, index: int) -> int:
        """Return the entry at `index` of the guest table in `frame`."""
        hpa = self.hpa(frame)
        assert hpa is not None
        at = hpa + self.width * index
        word = self.memory.load(at & ~7)
        return word >> 8 * (at & 4) & 0xFFFF_FFFF if self.width == 4 else word

    def put(self, frame: int, index: int, entry: int) -> None:
        """Store an entry, followed by nobody."""
        hpa = self.hpa(frame)
        assert hpa is not None
        self.put_at(hpa + self.width * index, entry)

    def put_at(self, at: int, entry: int) -> None:
        """Store `entry` at HPA `at`. What it replaces may be in the TLB, and so may the new one."""
        if self.width == 4:
            up = 8 * (at & 4)
            word = self.memory.load(at & ~7) & ~(0xFFFF_FFFF << up)
            entry = word | (entry & 0xFFFF_FFFF) << up
        if hasattr(self, "held"):
            self.remember()
        self.memory.store(at & ~7, entry & (1 << 64) - 1)
        if hasattr(self, "held"):
            self.remember()

    def kernel_write(self, frame: int, index: int, entry: int) -> bool:
        """Write an entry as the guest's kernel does; return whether that was an exit that was followed."""
        gpa = frame << 12
        follow = self.shadow.write_exits(gpa) and self.shadow.release(gpa)
        self.put(frame, index, entry)
        if follow:
            self.shadow.written(gpa)
        return follow

    # What a TLB may hold.

    def path(self, gva: int) -> list[tuple[int, int, int, bool]]:
        """Return frame, index, entry and whether it is a leaf of each guest entry that translates `gva`.

        It ends where an entry is not present, or its table is not in the memory map.
        """
        state, mode = self.guest, self.mode
        old = mode < PagingMode.LEVEL_4
        step, level = 10 if mode is PagingMode.BITS_32 else 9, 2 if old else int(mode)
        table = int(state[Context.CR3]) >> 12
        found: list[tuple[int, int, int, bool]] = []
        if mode is PagingMode.PAE:
            register = int(state[Context.PDPTE0 + (gva >> 30 & 3)])
            if not register & P:
                return found
            table = register >> 12
        while self.hpa(table) is not None:
            index = gva >> 12 + step * (level - 1) & (1 << step) - 1
            entry = self.entry(table, index)
            large = bool(entry & PS) and 1 < level <= (2 if old else 3)
            leaf = level == 1 or (large and (mode is not PagingMode.BITS_32 or bool(state[Context.PSE])))
            found.append((table, index, entry, leaf))
            if leaf or not entry & P:
                break
            level -= 1
            table = (entry & PTE.mask("addr")) >> 12
        return found

    def translation(self, gva: int) -> Cached | None:
        """Return what a processor may cache for `gva` now: no entry lacks P or A, or has a reserved bit."""
        mode = self.mode
        if mode is PagingMode.NONE:
            return Cached(gva, gva & 0xFFFF_FFFF, 12, True, True, False, True, False)
        legacy = mode is PagingMode.BITS_32
        path = self.path(gva)
        if not path or not path[-1][3]:
            return None
        writable = user = True
        no_execute = False
        level = 2 if mode < PagingMode.LEVEL_4 else int(mode)
        for _, _, entry, leaf in path:
            layout = entry_layout(level, leaf, mode)
            reserved = layout.reserved_mask | (0 if self.guest[Context.NXE] or legacy else XD)
            if entry & (P | A) != P | A or entry & reserved:
                return None
            writable, user = writable and bool(entry & RW), user and bool(entry & US)
            no_execute = no_execute or (bool(entry & XD) and not legacy)
            level -= 1
        shift = 12 + (10 if legacy else 9) * level
        gpa = layout.get(entry, "addr") | gva & (1 << shift) - 1 & ~0xFFF
        is_global = bool(entry & G) and self.pge
        return Cached(gva, gpa, shift, writable, user, no_execute, bool(entry & D), is_global)

    def remember(self) -> None:
        """A processor may cache at any time what the tables say: do so for every address."""
        mine = self.held.setdefault(self.pcid, set())
        for gva in self.addresses:
            found = self.translation(gva)
            if found is not None:
                (self.held_global if found.is_global else mine).add(found)

    def allows(self, one: Cached, access: Access, *, user: bool, ac: bool) -> bool:
        """Whether translation `one` lets an access pass without another walk (SDM 3A §4.6.1 and §4.8)."""
        state = self.guest
        if one.no_execute and (access is Access.FETCH or not state[Context.NXE]):
            return False
        if access is Access.WRITE and not one.dirty:
            return False
        if user:
            return one.user and (access is not Access.WRITE or one.writable)
        if self.mode is PagingMode.NONE:
            return True
        if access is Access.FETCH:
            return not (one.user and state[Context.SMEP])
        if one.user and state[Context.SMAP] and not ac:
            return False
        return access is not Access.WRITE or one.writable or not state[Context.WP]

    def permitted(self, gva: int, access: Access, *, user: bool, ac: bool) -> set[tuple[str, int]]:
        """Return every outcome that a TLB could give without a walk of the tables as they are."""
        wanted = {Access.READ: Rights.READ, Access.WRITE: Rights.WRITE, Access.FETCH: Rights.EXECUTE}[access]
        found = set()
        for one in self.held.get(self.pcid, set()) | (self.held_global if self.pge else set()):
            if one.gva == gva & ~0xFFF and self.allows(one, access, user=user, ac=ac):
                place = self.map.lookup(one.gpa)
                if place is not None and place.rights & wanted:
                    found.add(("ok", place.target + one.gpa - place.start + gva % 0x1000))
        return found

    # What the guest does.

    def access(self, gva: int, access: Access, *, user: bool, ac: bool = False) -> tuple[str, int]:
        """Do an access as hardware does, the hypervisor behind it. While it `steps`, the caller settles."""
        self.hardware[Context.USER], self.hardware[Context.AC] = user, ac
        for _ in range(_TRIES):
            status = walk(self.memory.words, self.hardware, np.uint64(gva), np.uint64(access), self.result)
            if status == Status.OK:
                return "ok", int(self.result[Result.HPA])
            if status == Status.NON_CANONICAL:
                return "non-canonical", 0
            assert status == Status.PAGE_FAULT, "the shadow leads outside memory"
            found = self.shadow.resolve(gva, int(self.result[Result.ERROR]))
            if found.verdict is Verdict.GUEST_FAULT:
                return "fault", found.error
            if found.verdict is Verdict.NO_MEMORY:
                return "no memory", found.gpa
        raise AssertionError(f"{gva:#x} faults again and again: {found}")

    def native(self, gva: int, access: Access, *, user: bool, ac: bool = False) -> tuple[str, int]:
        """Do the access as a processor does that walks the guest's tables and then the memory map."""
        state = self.guest.copy()
        state[Context.USER], state[Context.AC], state[Context.IMPLICIT] = user, ac, 0
        status = walk(self.memory.words, state, np.uint64(gva), np.uint64(access), self.result)
        if status == Status.OK:
            return "ok", int(self.result[Result.HPA])
        if status == Status.PAGE_FAULT:
            return "fault", int(self.result[Result.ERROR])
        return ("non-canonical", 0) if status == Status.NON_CANONICAL else ("no memory", self.fault_gpa)

    @property
    def fault_gpa(self) -> int:
        return int(self.result[Result.FAULT_GPA])

    def contents(self) -> dict[int, bytes]:
        """Return what the guest's frames hold."""
        places = ((frame, self.hpa(frame)) for frame in FRAMES)
        return {hpa: self.memory.read(hpa, 0x1000) for _, hpa in places if hpa is not None}

    def restore(self, contents: dict[int, bytes]) -> None:
        """Undo what happened to the guest's frames since `contents`."""
        for hpa, octets in contents.items():
            self.memory.write(hpa, octets)

    def check_access(self, gva: int, access: Access, *, user: bool, ac: bool = False) -> tuple[str, int]:
        """Do an access both ways: the same outcome or one that a TLB may give, the same flags set in guest tables."""
        before = self.contents()
        want = self.native(gva, access, user=user, ac=ac)
        flags = self.contents()
        self.restore(before)
        permitted = self.permitted(gva, access, user=user, ac=ac)
        got = self.access(gva, access, user=user, ac=ac)
        after = self.contents()
        what = f"{access.name} of {gva:#x}, user {user}, AC {ac}: {got}, the guest's tables say {want}"
        assert got == want or got in permitted, what
        if after != flags:
            assert got in permitted and after == before, f"{what}; accessed or dirty flags differ"
        self.remember()
        return got

    def guest_write(self, gva: int, index: int, entry: int, *, user: bool, ac: bool) -> tuple[str, int]:
        """Write a word through the guest's own mapping, and settle if that was one instruction's passage."""
        got = self.check_access(gva + self.width * index, Access.WRITE, user=user, ac=ac)
        if got[0] == "ok":
            self.put_at(got[1], entry)
        self.settle()
        return got

    def settle(self) -> None:
        """Settle if one instruction was let pass."""
        if self.shadow.stepping:
            self.shadow.settle()
        self.remember()

    # Roots and invalidations.

    def root(self, frame: int, pcid: int = 0, *, flush: bool = True) -> None:
        """MOV to CR3, with bit 63 clear or, without `flush`, set."""
        self.guest[Context.CR3] = frame << 12
        self.pcid = pcid
        if flush:
            self.held.pop(pcid, None)
        self.shadow.load(pcid)
        if flush:
            self.shadow.sync(pcid)
        self.remember()

    def set_controls(self, **controls: int) -> None:
        """Change control bits by their names, as MOV to CR0, CR4 or WRMSR does."""
        for name, value in controls.items():
            self.guest[Context[name.upper()]] = value
        self.shadow.load(self.pcid)
        self.remember()

    def invlpg(self, gva: int) -> None:
        """Drop `gva` in the current PCID, and global translations of it."""
        self._forget(self.held.get(self.pcid, set()), gva)
        self._forget(self.held_global, gva)
        self.shadow.sync_address(gva, None)
        self.remember()

    def invpcid(self, kind: int, pcid: int, gva: int) -> None:
        """INVPCID: one address, one PCID, everything, everything but global translations."""
        if kind == 0:
            self._forget(self.held.get(pcid, set()), gva)
            self.shadow.sync_address(gva, pcid)
        elif kind == 1:
            self.held.pop(pcid, None)
            self.shadow.sync(pcid)
        else:
            self.held.clear()
            if kind == 2:
                self.held_global.clear()
            self.shadow.sync(None)
        self.remember()

    def toggle_pge(self) -> None:
        """Change CR4.PGE, which drops everything."""
        self.pge = not self.pge
        self.held.clear()
        self.held_global.clear()
        self.shadow.sync(None)
        self.remember()

    @staticmethod
    def _forget(held: set[Cached], gva: int) -> None:
        """Drop what translates the page of `gva`, however large it was."""
        held -= {one for one in held if one.gva >> one.shift == gva >> one.shift}

    # What the hypervisor does.

    def move(self, frame: int) -> None:
        """Give guest `frame`, of a 4 KiB page, another host frame with the same contents."""
        found = self.map.unmap(frame << 12)
        new = self.pool.allocate(0, _GUEST, Fill.ZERO)
        self.memory.write(new << 12, self.memory.read(found.target, 0x1000))
        self.map.map(frame << 12, new << 12, 0x1000, found.rights)
        self.pool.free(found.target >> 12, 0, _GUEST)
        self.remember()

    def unmap(self, frame: int) -> None:
        """Take guest `frame`, of a 4 KiB page, out of the memory map."""
        self.missing[frame] = self.map.unmap(frame << 12).target
        self.remember()

    def bring_back(self) -> None:
        """Map again what was taken out."""
        for frame, hpa in self.missing.items():
            self.map.map(frame << 12, hpa, 0x1000, ALL)
        self.missing.clear()
        self.remember()

    def audit(self) -> list[str]:
        """Return every breach as text."""
        return [str(breach) for breach in audit(self.shadow)]

    def close(self) -> None:
        """Free everything and prove that nothing is left."""
        self.shadow.close()
        assert len(self.shadow.tables.pages) == 0
        assert list(self.shadow.tables.reverse) == []
        assert self.pool.frames_of(OwnerKind.SHADOW_TABLE) == self.map.table_count
        self.pool.audit()
        self.map.close()
        assert self.pool.frames_of(OwnerKind.SHADOW_TABLE) == 0
        self.memory.close()
