"""What is kept against a naive list: the same mappings after any keeps and operations, and only made as allowed."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quire.arch import EPT_PTE, EPTP, PDE, PDPTE, PML4E, PTE, SKYLAKE_X, Access
from quire.paging import Context, Rights, Status, WalkRecord, new_context, reference_walk
from quire.paging.walk_caches import GuestFlags, GuestPage, GuestTable, HostPage, HostTable
from quire.testing.random_world import random_access, random_world
from quire.tlb import AddressSpace, Operation
from quire.tlb.invalidation import MappingClass, Operand, Structures
from quire.tlb.retained import KeptHostPage, KeptHostTable, KeptPage, KeptTable, Retained, RetainedWalk, Roots

ROOTS = Roots(0x1000, None)
GUEST_SPACES = [
    AddressSpace(vpid, pcid, ep4ta) for vpid in (0, 1, 2) for pcid in (None, 0, 1) for ep4ta in (None, 5, 6)
]
HOST_SPACES = [AddressSpace(None, None, ep4ta) for ep4ta in (5, 6)]
#: Few addresses, near each other and far, so that operations often meet something.
ADDRESSES = [0x1000, 0x2000, 0x20_1000, 0x4000_1000, 0x80_0000_1000]
HOST = HostPage(1, 12, Rights.READ, Rights.READ, 0x7)


def page(space: AddressSpace, gva: int, guest_shift: int, host_shift: int) -> KeptPage:
    host = None if space.ep4ta is None else HostPage(1, host_shift, Rights.READ, Rights.READ, 0x7)
    said = GuestPage(1, guest_shift, 0x3, GuestFlags(), host, 0, 0, False)
    return KeptPage(space, gva & -1 << said.size_shift, said.size_shift, said, (), ROOTS, 0)


def reached(kept: object, operation: Operation, operand: Operand) -> bool:
    """The manual's rules once more, a mapping at a time and word by word."""
    rule = operation.value
    assert isinstance(kept, (KeptPage, KeptTable, KeptHostPage, KeptHostTable))
    space = kept.space
    of_ept = isinstance(kept, (KeptHostPage, KeptHostTable))
    kind = (
        MappingClass.GUEST_PHYSICAL
        if of_ept
        else MappingClass.LINEAR
        if space.ep4ta is None
        else MappingClass.COMBINED
    )
    if kind not in rule.classes or (rule.ep4ta and space.ep4ta != operand.ep4ta):
        return False
    if not of_ept:
        if rule.vpid and space.vpid != operand.vpid:
            return False
        if rule.spare_vpid_0 and space.vpid == 0:
            return False
        if space.pcid is None and not rule.global_pages:
            return False
        if space.pcid is not None and rule.pcid and space.pcid != operand.pcid:
            return False
    if not rule.page:
        return True
    if isinstance(kept, (KeptTable, KeptHostTable)) and rule.structures is Structures.ALL:
        return True
    address = operand.gpa if of_ept else operand.gva
    shift = kept.said.shift if isinstance(kept, KeptPage) else kept.shift
    return address >> shift == kept.start >> shift


class Machine(RuleBasedStateMachine):
    """The store, and a list of all that was put in."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Retained()
        self.naive: list[KeptPage | KeptTable | KeptHostPage | KeptHostTable] = []

    def keep(self, kept: KeptPage | KeptTable | KeptHostPage | KeptHostTable) -> None:
        same = (type(kept), kept.space, kept.shift, kept.start)
        self.naive = [old for old in self.naive if (type(old), old.space, old.shift, old.start) != same]
        self.naive.append(kept)
        self.store.keep(kept)

    @rule(
        space=st.sampled_from(GUEST_SPACES),
        gva=st.sampled_from(ADDRESSES),
        shifts=st.sampled_from([(12, 12), (21, 21), (30, 30), (21, 12), (30, 12), (12, 21)]),
    )
    def keep_page(self, space: AddressSpace, gva: int, shifts: tuple[int, int]) -> None:
        self.keep(page(space, gva, *shifts))

    @rule(
        space=st.sampled_from([space for space in GUEST_SPACES if space.pcid is not None]),
        gva=st.sampled_from(ADDRESSES),
        shift=st.sampled_from([21, 30, 39]),
    )
    def keep_table(self, space: AddressSpace, gva: int, shift: int) -> None:
        said = GuestTable(1, 0, 0, GuestFlags(), True, None)
        self.keep(KeptTable(space, gva & -1 << shift, shift, said, (), ROOTS, 0))

    @rule(space=st.sampled_from(HOST_SPACES), gpa=st.sampled_from(ADDRESSES), shift=st.sampled_from([12, 21]))
    def keep_host(self, space: AddressSpace, gpa: int, shift: int) -> None:
        if shift == 12:
            self.keep(KeptHostPage(space, gpa, 12, HOST, (), ROOTS, 0))
        else:
            table = HostTable(1, 0, Rights.READ)
            self.keep(KeptHostTable(space, gpa & -1 << 21, 21, table, (), ROOTS, 0))

    @rule(
        operation=st.sampled_from(Operation),
        vpid=st.sampled_from([0, 1, 2]),
        pcid=st.sampled_from([0, 1]),
        ep4ta=st.sampled_from([None, 5, 6]),
        gva=st.sampled_from(ADDRESSES),
        gpa=st.sampled_from(ADDRESSES),
    )
    def invalidate(
        self, operation: Operation, vpid: int, pcid: int, ep4ta: int | None, gva: int, gpa: int
    ) -> None:
        operand = Operand(vpid, pcid, ep4ta, gva, gpa)
        goes = [kept for kept in self.naive if reached(kept, operation, operand)]
        self.naive = [kept for kept in self.naive if kept not in goes]
        dropped = self.store.invalidate(operation, operand)
        assert {id(kept) for kept in dropped} == {id(kept) for kept in goes}

    @invariant()
    def same(self) -> None:
        assert {id(kept) for kept in self.store} == {id(kept) for kept in self.naive}
        assert len(self.store) == len(self.naive)
        for space in (AddressSpace(1, 0, 5), AddressSpace(0, 1, None)):
            for gva in ADDRESSES[:3]:
                found = self.store.pages(space, gva)
                expected = [
                    kept
                    for kept in self.naive
                    if isinstance(kept, KeptPage) and kept.space in (space, space.shared) and kept.covers(gva)
                ]
                assert {id(kept) for kept in found} == {id(kept) for kept in expected}


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=20, stateful_step_count=30, deadline=None, derandomize=True)

GVA = 0x40_2000
SPACE = AddressSpace(1, 0, 5)


class World:
    """Guest tables at 0x1000 to 0x4000 map GVA to 0x9000; EPT at 0x11000 to 0x14000 maps the first 2 MiB one to one."""

    def __init__(self) -> None:
        self.words = [0] * (0x20000 // 8)
        flags = {"P": 1, "RW": 1, "US": 1}
        self.store(0x1000, PML4E.encode(addr=0x2000, **flags))
        self.store(0x2000, PDPTE.encode(addr=0x3000, **flags))
        self.store(0x3000 + 8 * 2, PDE.encode(addr=0x4000, **flags))
        self.store(0x4000 + 8 * 2, PTE.encode(addr=0x9000, **flags))
        for level in (0x11000, 0x12000, 0x13000):
            self.store(level, EPT_PTE.encode(R=1, W=1, X=1, addr=level + 0x1000))
        for frame in range(0x20):
            self.store(0x14000 + 8 * frame, EPT_PTE.encode(R=1, W=1, X=1, MT=6, addr=frame << 12))
        self.context = new_context(SKYLAKE_X, 0x20000)
        self.context[Context.CR3] = 0x1000
        self.context[Context.EPTP] = EPTP.encode(MT=6, walk_length=3, addr=0x11000)
        self.retained = Retained()

    def store(self, hpa: int, entry: int) -> None:
        self.words[hpa >> 3] = entry

    def walk(self, access: Access, gva: int = GVA, space: AddressSpace = SPACE) -> tuple[Status, int, int]:
        caches = RetainedWalk(self.retained, space, self.words, self.context, 0)
        record = reference_walk(self.words, self.context, gva, access, caches)
        if record.status is Status.OK:
            caches.commit()
        return record.status, record.hpa, len(record.references)


def test_a_walk_leaves_and_uses_every_kind() -> None:
    world = World()
    assert world.walk(Access.READ) == (Status.OK, 0x9000, 24)  # kept when it is done
    kinds = [type(kept).__name__ for kept in world.retained]
    assert kinds.count("KeptPage") == 1 and kinds.count("KeptTable") == 3
    assert kinds.count("KeptHostPage") == 5 and kinds.count("KeptHostTable") == 3
    assert world.walk(Access.READ) == (Status.OK, 0x9000, 0)
    assert world.walk(Access.WRITE) == (Status.OK, 0x9000, 1)  # the dirty flag is to be set: from the PDE on
    assert world.walk(Access.WRITE) == (Status.OK, 0x9000, 0)
    world.store(0x4000 + 8 * 3, PTE.encode(P=1, US=1, addr=0xA000))
    assert world.walk(Access.READ, GVA + 0x1000) == (Status.OK, 0xA000, 2)
    world.store(0x4000 + 8 * 2, 0)
    assert world.walk(Access.WRITE) == (Status.OK, 0x9000, 0)
    world.retained.invalidate(Operation.INVLPG, Operand(1, 0, None, GVA))
    assert world.walk(Access.READ)[0] is Status.PAGE_FAULT


@pytest.mark.parametrize(
    ("entry", "access"),
    [
        (PTE.encode(P=0, addr=0x9000), Access.READ),
        (PTE.encode(P=1, RW=1, US=1, addr=1 << 50), Access.READ),
        (PTE.encode(P=1, US=1, addr=0x9000), Access.WRITE),
    ],
    ids=["not present", "reserved", "not allowed"],
)
def test_a_walk_that_faults_leaves_no_translation(entry: int, access: Access) -> None:
    world = World()
    world.store(0x4000 + 8 * 2, entry)
    assert world.walk(access)[0] is Status.PAGE_FAULT
    assert len(world.retained) == 0


def test_rights_are_decided_anew_for_each_access() -> None:
    """What is kept is R/W, U/S, XD, the key: WP, SMEP, SMAP, AC and PKRU count as they are."""
    world = World()
    world.store(0x4000 + 8 * 2, PTE.encode(P=1, US=1, pkey=3, addr=0x9000))
    context = world.context
    assert world.walk(Access.READ)[0] is Status.OK
    context[Context.USER] = 0
    assert world.walk(Access.WRITE)[0] is Status.PAGE_FAULT
    context[Context.WP] = 0
    assert world.walk(Access.WRITE)[0] is Status.OK
    for field, access in ((Context.SMAP, Access.READ), (Context.SMEP, Access.FETCH)):
        assert world.walk(access)[0] is Status.OK
        context[field] = 1
        assert world.walk(access)[0] is Status.PAGE_FAULT
    context[Context.AC] = 1
    assert world.walk(Access.READ) == (Status.OK, 0x9000, 0)
    context[Context.PKE], context[Context.PKRU] = 1, 1 << 6
    assert world.walk(Access.READ)[0] is Status.PAGE_FAULT
    context[Context.PKRU] = 0
    assert world.walk(Access.READ) == (Status.OK, 0x9000, 0)


def test_global_pages_are_found_under_any_pcid_if_cr4_says_so() -> None:
    for enabled in (0, 1):
        world = World()
        world.context[Context.PGE] = enabled
        world.store(0x4000 + 8 * 2, PTE.encode(P=1, RW=1, US=1, G=1, addr=0x9000))
        assert world.walk(Access.READ)[2] == 24
        assert (world.walk(Access.READ, space=AddressSpace(1, 7, 5))[2] == 0) is bool(enabled)


def outcome(record: WalkRecord) -> tuple[object, ...]:
    """What a walk says of the access, without what it took to find out."""
    if record.status is not Status.OK:
        return record.status, record.error, record.fault_gpa, record.fault_level, record.vector, record.rule
    return (
        *(record.hpa, record.gpa, record.rights, record.dirty, record.guest_shift, record.host_shift),
        *(record.guest_entry & ~0x60, record.host_entry & ~0x300, record.global_page, record.memory_type),
    )


def test_kept_walks_are_walks_while_tables_stay() -> None:
    """Random worlds of every mode: a walk beside caches is the walk; what it leaves answers a second access alike."""
    rng = random.Random(4)
    used = 0
    for _ in range(400):
        world = random_world(rng)
        context = world.context
        context[Context.UPDATE], context[Context.VE] = 1, 0
        first, second = random_access(rng), random_access(rng)
        space = AddressSpace(1, 0, 5 if context[Context.EPTP] else None)
        plain, beside = world.memory.copy(), world.memory.copy()
        theirs, ours = context.copy(), context.copy()
        retained = Retained()
        caches = RetainedWalk(retained, space, beside, ours, 0)
        walked = reference_walk(plain, theirs, world.gva, first)
        record = reference_walk(beside, ours, world.gva, first, caches)
        assert (record, ours.tolist(), beside.tolist()) == (walked, theirs.tolist(), plain.tolist())
        if record.status is not Status.OK:
            continue
        caches.commit()
        again = RetainedWalk(retained, space, beside, ours, 0)
        kept = reference_walk(beside, ours, world.gva, second, again)
        assert outcome(kept) == outcome(reference_walk(plain, theirs, world.gva, second))
        assert beside.tolist() == plain.tolist()
        used += again.page is not None
    assert used > 20
