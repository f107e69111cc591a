"""Whatever a guest and its hypervisor do, a TLB answers with what the tables said once and nobody has dropped since.

The model keeps every mapping that was ever cached and not invalidated; it never evicts. It knows no geometry, no
levels and no numbers of spaces; what each operation must drop is written down again here, from the manual.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sampling import some

from quire.arch import Replacement, profile_by_name
from quire.tlb import TAG, TRANSLATION, AddressSpace, Kind, Operation, Tlb, TlbOptions, TlbState
from quire.tlb._kernels_arrays import fill, lookup

SHIFTS = (12, 21, 30)
SPACES = [
    AddressSpace(vpid, pcid, ep4ta)
    for vpid, pcid, ep4ta in (
        (0, 0, None),
        (1, 0, 5),
        (1, 3, 5),
        (1, 0, 6),
        (2, 0, 5),
        (0, 0, 6),
        (1, 3, None),
    )
]
#: Two regions of a GiB, in both halves of the address space, and addresses that share pages of some sizes only.
REGIONS = (0, (1 << 57) - (1 << 47))
OFFSETS = (0, 0x1234, 0x20_1000, 0x3FFF_F000)
ADDRESSES = [region + offset for region in REGIONS for offset in OFFSETS]

OF_ONE_PAGE = [operation for operation in Operation if operation.value.page]


@dataclass(frozen=True)
class Mapping:
    """A page of a guest as it was cached; `pcid` None is a global page."""

    vpid: int
    pcid: int | None
    ep4ta: int | None
    size: int
    page: int
    hpa_of_region: int

    def translates(self, gva: int) -> bool:
        return gva >> SHIFTS[self.size] == self.page

    def hpa(self, gva: int) -> int:
        return self.hpa_of_region | gva & (1 << 30) - 1


@dataclass(frozen=True)
class Operand:
    vpid: int
    pcid: int
    ep4ta: int
    gva: int


Drops = Callable[[Mapping, Operand], bool]


def of_vpid(one: Mapping, of: Operand) -> bool:
    return one.vpid == of.vpid


def of_pcid(one: Mapping, of: Operand) -> bool:
    return of_vpid(one, of) and one.pcid == of.pcid


def of_pcid_or_global(one: Mapping, of: Operand) -> bool:
    return of_vpid(one, of) and one.pcid in (of.pcid, None)


def of_address(one: Mapping, of: Operand) -> bool:
    return one.translates(of.gva)


def nothing(one: Mapping, of: Operand) -> bool:
    return False


DROPS: dict[str, Drops] = {
    "INVLPG": lambda one, of: of_pcid_or_global(one, of) and of_address(one, of),
    "PAGE_FAULT": lambda one, of: of_pcid_or_global(one, of) and of_address(one, of),
    "INVPCID_ADDRESS": lambda one, of: of_pcid(one, of) and of_address(one, of),
    "INVPCID_CONTEXT": of_pcid,
    "INVPCID_ALL": of_vpid,
    "INVPCID_ALL_RETAINING_GLOBALS": lambda one, of: of_vpid(one, of) and one.pcid is not None,
    "MOV_CR0_PG": of_vpid,
    "MOV_CR0_OTHER": nothing,
    "MOV_CR3": of_pcid,
    "MOV_CR3_KEEP": nothing,
    "MOV_CR4_PGE": of_vpid,
    "MOV_CR4_PCIDE": of_vpid,
    "MOV_CR4_PAE": of_pcid_or_global,
    "MOV_CR4_SMEP": of_pcid_or_global,
    "MOV_CR4_OTHER": nothing,
    "TASK_SWITCH": of_pcid,
    "EPT_VIOLATION": lambda one, of: (
        of_pcid_or_global(one, of) and of_address(one, of) and one.ep4ta == of.ep4ta
    ),
    "INVVPID_ADDRESS": lambda one, of: of_vpid(one, of) and of_address(one, of),
    "INVVPID_CONTEXT": of_vpid,
    "INVVPID_ALL": lambda one, of: one.vpid != 0,
    "INVVPID_RETAINING_GLOBALS": lambda one, of: of_vpid(one, of) and one.pcid is not None,
    "INVEPT_CONTEXT": lambda one, of: one.ep4ta == of.ep4ta,
    "INVEPT_ALL": lambda one, of: one.ep4ta is not None,
    "VM_ENTRY_VPID_0": of_vpid,
    "VM_EXIT_VPID_0": of_vpid,
    "VM_ENTRY_VPID": nothing,
    "VM_EXIT_VPID": nothing,
    "VMFUNC_VPID_0": lambda one, of: of_vpid(one, of) and one.ep4ta is not None,
    "VMFUNC_VPID": nothing,
}


class TlbMachine(RuleBasedStateMachine):
    """Guests that change tables, access memory, switch spaces and invalidate, or forget to."""

    @initialize(
        name=st.sampled_from(["skylake-x", "zen4", "ideal"]),
        replacement=st.sampled_from(Replacement),
        largest=st.sampled_from([1 << shift for shift in SHIFTS]),
    )
    def start(self, name: str, replacement: Replacement, largest: int) -> None:
        self.tlb = Tlb(profile_by_name(name), TlbOptions(replacement, largest))
        self.cached: set[Mapping] = set()
        self.tables = {(space, region): (0, False, 0) for space in SPACES for region in REGIONS}
        self.changes = 0
        self.space = SPACES[1]
        self.tlb.enter(self.space)

    @rule(space=st.sampled_from(SPACES))
    def enter(self, space: AddressSpace) -> None:
        self.space = space
        self.tlb.enter(space)

    @rule(region=st.sampled_from(REGIONS), size=st.integers(0, 2), is_global=st.booleans())
    def change_map(self, region: int, size: int, is_global: bool) -> None:
        """The tables map a region elsewhere from now on, with pages of one size; nobody tells the TLB."""
        self.changes += 1
        self.tables[self.space, region] = size, is_global, self.changes << 30

    @rule(region=st.sampled_from(REGIONS), side=st.integers(0, 2))
    def access_all(self, region: int, side: int) -> None:
        for offset in OFFSETS:
            self.access(region + offset, side)

    @rule(gva=st.sampled_from(ADDRESSES), side=st.integers(0, 2))
    def access(self, gva: int, side: int) -> None:
        tlb, space = self.tlb, self.space
        where = tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), side
        index = int(lookup(*where))
        if index >= 0:
            at = index & 0xFFFF_FFFF
            inside = (1 << Kind(TAG.get(int(tlb.entries[at]), "kind")).shift) - 1
            value = int(tlb.entries[2 * tlb.capacity + at])
            answer = TRANSLATION.get(value, "frame") << 12 & ~inside | gva & inside
            permitted = {
                one.hpa(gva)
                for one in self.cached
                if (one.vpid, one.ep4ta) == (space.vpid, space.ep4ta)
                and one.pcid in (space.pcid, None)
                and one.translates(gva)
            }
            assert answer in permitted
            return
        size, is_global, hpa = self.tables[space, gva >> 30 << 30]
        assert space.vpid is not None
        pcid = None if is_global else space.pcid
        self.cached.add(Mapping(space.vpid, pcid, space.ep4ta, size, gva >> SHIFTS[size], hpa))
        page = (hpa | gva & (1 << 30) - 1) >> SHIFTS[size] << SHIFTS[size]
        value = TRANSLATION.encode(walk_size=size, frame=page >> 12, G=is_global)
        fill(*where, np.uint64(size), is_global, np.uint64(value), False)
        if tlb.state[TlbState.FULL]:
            tlb.grow()

    @rule(
        operation=st.sampled_from(Operation),
        vpid=st.sampled_from((0, 1, 2)),
        pcid=st.sampled_from((0, 3)),
        ep4ta=st.sampled_from((5, 6)),
        gva=st.sampled_from(ADDRESSES),
    )
    def invalidate(self, operation: Operation, vpid: int, pcid: int, ep4ta: int, gva: int) -> None:
        if operation.name.endswith("VPID_0"):
            vpid = 0  # what runs without VPIDs has this one
        of = Operand(vpid, pcid, ep4ta, gva)
        self.tlb.invalidate(operation, vpid=vpid, pcid=pcid, ep4ta=ep4ta, gva=gva)
        self.cached = {one for one in self.cached if not DROPS[operation.name](one, of)}

    @rule(operation=st.sampled_from(OF_ONE_PAGE), gva=st.sampled_from(ADDRESSES))
    def invalidate_own(self, operation: Operation, gva: int) -> None:
        """What a guest does to a page of its own, and its hypervisor for it."""
        space = self.space
        self.invalidate(operation, space.vpid or 0, space.pcid or 0, space.ep4ta or 0, gva)

    @rule()
    @precondition(lambda self: self.cached)
    def flush(self) -> None:
        """Everything goes: from here on each answer is that of a walk."""
        for vpid in range(3):
            self.tlb.invalidate(Operation.INVVPID_CONTEXT, vpid=vpid)
        self.cached.clear()
        for gva in ADDRESSES:
            for space in SPACES:
                self.tlb.enter(space)
                assert lookup(self.tlb.entries, self.tlb.state, self.tlb.shapes, np.uint64(gva), 1) < 0
        self.tlb.enter(self.space)

    @invariant()
    def everything_held_is_permitted(self) -> None:
        """Not only what is looked up: every entry is a mapping of the model, or a piece of one."""
        if not hasattr(self, "tlb"):
            return
        known = {(one.vpid, one.pcid, one.ep4ta): [] for one in self.cached}
        for one in self.cached:
            known[one.vpid, one.pcid, one.ep4ta].append(one)
        for entry in self.tlb.valid():
            gva = entry.address & (1 << 57) - 1
            space = entry.space
            assert any(
                one.translates(gva) and one.hpa(gva) == entry.hpa
                for one in known.get((space.vpid, space.pcid, space.ep4ta), ())
            ), entry


def test_every_operation_is_in_the_model() -> None:
    assert set(DROPS) == {operation.name for operation in Operation}


TestTlb = TlbMachine.TestCase
TestTlb.settings = settings(
    max_examples=some(30, 15), stateful_step_count=40, deadline=None, derandomize=True
)
