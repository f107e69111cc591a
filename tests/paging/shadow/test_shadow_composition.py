"""The law of composition: hardware's walk of the shadow equals the guest's walk and then the memory map, at any time.

Written from what a TLB may keep (SDM 3A §4.10), not from the code: see ``shadow_world.py``.
"""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sampling import some
from shadow_parts import ALL, DATA, INDICES, LARGE, PS, RW, TABLES, US, XD, A, D, G, P
from shadow_world import ShadowWorld

from quire.arch import Access, PagingMode
from quire.paging import Context, Rights

FLAGS = (P, RW, US, A, D, G, PS, XD, 1 << 9, 1 << 52, 1 << 3)
GOOD = P | RW | US | A
COMMON = (GOOD, GOOD | D, GOOD | D, P | US | A, P | RW | A | D, GOOD | D | G, P | RW | US, GOOD | D | XD)
CONTROLS = ("wp", "nxe", "smep", "smap")
REGISTERS = ((0, 0, 0, 0), (0, 1, 0, 0), (1, 0, 5, 0), (0, 0, 0, None))

accesses = st.sampled_from((Access.READ, Access.WRITE, Access.FETCH))
flags = st.sampled_from((*FLAGS, RW, US, D, P))
pcids = st.integers(0, 2)
picks = st.integers(0, 1023)


class Composition(RuleBasedStateMachine):
    """A guest in `mode` that does everything that a guest may do."""

    mode = PagingMode.LEVEL_4

    def __init__(self) -> None:
        super().__init__()
        self.world = ShadowWorld(self.mode)

    @initialize(prefetch=st.sampled_from((1, 8)), controls=st.integers(0, 15))
    def begin(self, prefetch: int, controls: int) -> None:
        self.world.close()
        self.world = ShadowWorld(self.mode, prefetch=prefetch)
        self.world.set_controls(**{name: controls >> n & 1 for n, name in enumerate(CONTROLS)})
        self.touch_all(Access.READ, user=True, ac=False)

    def gva(self, pick: int) -> int:
        return self.world.addresses[pick % len(self.world.addresses)]

    def place(self, pick: int) -> tuple[int, int]:
        """Return table and index of an entry: mostly one that translates an address, or any that is in use."""
        path = self.world.path(self.gva(pick // 4))
        if pick % 4 and path:
            frame, index, _, _ = path[-(pick % 4)] if pick % 4 <= len(path) else path[0]
            return frame, index
        indices = sorted({index for level in INDICES[self.mode] for index in level})
        tables = [frame for frame in TABLES if self.world.hpa(frame) is not None]
        return tables[pick // 4 % len(tables)], indices[pick // 32 % len(indices)]

    def paged(self) -> bool:
        return self.mode is not PagingMode.NONE

    # Accesses.

    @rule(pick=picks, access=accesses, user=st.booleans(), ac=st.booleans())
    def touch(self, pick: int, access: Access, user: bool, ac: bool) -> None:
        self.world.check_access(self.gva(pick), access, user=user, ac=ac)
        self.world.settle()

    @rule(access=accesses, user=st.booleans(), ac=st.booleans())
    def touch_all(self, access: Access, user: bool, ac: bool) -> None:
        for gva in self.world.addresses:
            self.world.check_access(gva, access, user=user, ac=ac)
            self.world.settle()

    # Writes to tables.

    @precondition(paged)
    @rule(access=accesses, user=st.booleans())
    def kernel_heals(self, access: Access, user: bool) -> None:
        """Wire every address anew: what came of other rules ends here, and staleness of leaves begins."""
        self.world.bring_back()
        self.world.wire(self.world.kernel_write)
        self.world.root(0, self.world.pcid, flush=False)
        self.touch_all(access, user=user, ac=True)

    @precondition(paged)
    @rule(pick=picks, up=st.integers(2, 4), flag=flags, how=st.sampled_from(("cr3", "pcid", "", "")))
    def kernel_unlinks_writes_and_links(self, pick: int, up: int, flag: int, how: str) -> None:
        """Change a leaf while an entry above it is not present, with or without a flush meanwhile."""
        world = self.world
        path = world.path(self.gva(pick))
        if len(path) < up:
            return
        above, leaf = path[-up][:3], path[-1][:3]
        world.kernel_write(leaf[0], leaf[1], leaf[2] ^ flag)
        world.kernel_write(above[0], above[1], 0)
        if world.path(self.gva(pick)) == []:  # the tables change themselves
            return
        if how == "cr3":
            world.root(int(world.guest[Context.CR3]) >> 12, world.pcid)
        elif how == "pcid":
            world.root(int(world.guest[Context.CR3]) >> 12, world.pcid ^ 1, flush=False)
        world.kernel_write(*above)
        self.touch_all(Access.READ, user=bool(pick & 1), ac=True)

    @precondition(paged)
    @rule(pick=picks, flag=flags)
    def kernel_flips(self, pick: int, flag: int) -> None:
        frame, index = self.place(pick)
        self.world.kernel_write(frame, index, self.world.entry(frame, index) ^ flag)

    @precondition(paged)
    @rule(pick=picks, to=st.sampled_from(TABLES + DATA), bits=st.sampled_from(COMMON))
    def kernel_sets(self, pick: int, to: int, bits: int) -> None:
        frame, index = self.place(pick)
        self.world.kernel_write(frame, index, to << 12 | bits)

    @precondition(paged)
    @rule(pick=picks, flag=flags)
    def kernel_flips_and_flips_back(self, pick: int, flag: int) -> None:
        frame, index = self.place(pick)
        for _ in range(2):
            self.world.kernel_write(frame, index, self.world.entry(frame, index) ^ flag)

    @precondition(paged)
    @rule(pick=picks, large=st.sampled_from((0, LARGE)), bits=st.sampled_from(COMMON))
    def kernel_sets_large(self, pick: int, large: int, bits: int) -> None:
        frame, index = self.place(pick)
        self.world.kernel_write(frame, index, large << 12 | bits | PS)

    @precondition(paged)
    @rule(pick=picks, spot=picks, to=st.sampled_from(TABLES + DATA), bits=st.sampled_from(COMMON))
    def guest_sets(self, pick: int, spot: int, to: int, bits: int) -> None:
        _, index = self.place(spot)
        self.world.guest_write(self.gva(pick), index, to << 12 | bits, user=False, ac=True)

    @precondition(paged)
    @rule(pick=picks, spot=picks, flag=flags, user=st.booleans(), ac=st.booleans())
    def guest_flips(self, pick: int, spot: int, flag: int, user: bool, ac: bool) -> None:
        _, index = self.place(spot)
        found = self.world.translation(self.gva(pick))
        old = 0
        if found is not None and self.world.hpa(found.gpa >> 12) is not None:
            old = self.world.entry(found.gpa >> 12, index)
        self.world.guest_write(self.gva(pick), index, old ^ flag, user=user, ac=ac)

    # Invalidations, roots and settings.

    @rule(pick=picks)
    def invlpg(self, pick: int) -> None:
        self.world.invlpg(self.gva(pick))

    @rule(kind=st.integers(0, 3), pcid=pcids, pick=picks)
    def invpcid(self, kind: int, pcid: int, pick: int) -> None:
        self.world.invpcid(kind, pcid, self.gva(pick))

    @rule()
    def toggle_pge(self) -> None:
        self.world.toggle_pge()

    @rule(
        root=st.sampled_from((0, 0, 1, 4)),
        pcid=pcids,
        flush=st.booleans(),
        registers=st.sampled_from(REGISTERS),
    )
    def mov_to_cr3(self, root: int, pcid: int, flush: bool, registers: tuple[int | None, ...]) -> None:
        for n, frame in enumerate(registers):
            self.world.guest[Context.PDPTE0 + n] = 0 if frame is None else frame << 12 | P
        self.world.root(root, pcid, flush=flush)

    @rule(name=st.sampled_from(CONTROLS))
    def change_control(self, name: str) -> None:
        self.world.set_controls(**{name: 1 - int(self.world.guest[Context[name.upper()]])})

    # The hypervisor.

    @rule(frame=st.integers(0, 15), how=st.sampled_from(("move", "unmap", "split or join")))
    def map_changes(self, frame: int, how: str) -> None:
        found = self.world.map.lookup(LARGE << 12)
        assert found is not None
        if how == "split or join":
            if found.size > 0x1000:
                self.world.map.split(LARGE << 12)
            else:
                self.world.map.join(LARGE << 12)
        elif self.world.missing:
            self.world.bring_back()
        elif how == "move":
            self.world.move(frame)
        else:
            self.world.unmap(frame)

    @rule(
        frame=st.sampled_from((*range(11), LARGE + 1, LARGE + 3)),
        rights=st.sampled_from((ALL, ALL, Rights.READ, Rights.READ | Rights.WRITE, Rights.EXECUTE)),
    )
    def protect(self, frame: int, rights: Rights) -> None:
        if frame not in self.world.missing:
            self.world.map.protect(frame << 12, rights)

    @rule(what=st.sampled_from(("frame", "frame", "role", "all", "forget")), pick=picks)
    def zap(self, what: str, pick: int) -> None:
        shadow = self.world.shadow
        if what == "frame":
            shadow.zap(frame=TABLES[pick % len(TABLES)])
        elif what == "role":
            roles = [page.role for page in shadow.tables.pages]
            shadow.zap(role=roles[pick % len(roles)])
        elif what == "forget":
            shadow.forget_frame(TABLES[pick % len(TABLES)] << 12)
        else:
            shadow.zap()

    @invariant()
    def justified(self) -> None:
        breaches = self.world.audit()
        assert not breaches, breaches[:3]
        assert len(self.world.shadow.tables.pages) <= 64

    def teardown(self) -> None:
        self.world.close()


class Composition5(Composition):
    """Five levels."""

    mode = PagingMode.LEVEL_5


class CompositionPae(Composition):
    """PAE paging: the root is four registers."""

    mode = PagingMode.PAE


class Composition32(Composition):
    """32-bit paging: tables of 1,024 entries, each in two or four shadow pages."""

    mode = PagingMode.BITS_32


class CompositionUnpaged(Composition):
    """No paging: the memory map alone."""

    mode = PagingMode.NONE


TestLevel4 = Composition.TestCase
TestLevel5 = Composition5.TestCase
TestPae = CompositionPae.TestCase
Test32Bits = Composition32.TestCase
TestUnpaged = CompositionUnpaged.TestCase
for case, examples in ((TestLevel4, 24), (TestLevel5, 6), (TestPae, 12), (Test32Bits, 10), (TestUnpaged, 5)):
    count = some(examples, examples // 2)
    case.settings = settings(max_examples=count, stateful_step_count=25, deadline=None, derandomize=True)
