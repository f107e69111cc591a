"""Address spaces over the shadows of several vCPUs, in any order of what a kernel does with them.

After every step each entry of each shadow is justified, and an access on any vCPU finds what the tables say: whoever
was at work there was told what to drop, and anybody else drops it when he loads it.
"""

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from test_isolation_machine import QuietCpu

from quire.arch import PAGE_SIZE, Access
from quire.guest.kernel.machine import PageFault
from quire.guest.kernel.processors import Processors
from quire.guest.kernel.virtual_machine import VirtualMachine
from quire.machine import GuestConfig, Machine
from quire.memory import OwnerKind
from quire.mmu.shadow import ShadowOptions
from quire.paging import Rights
from quire.paging.shadow import audit

MEMORY = 8 << 20
VCPUS = 3
READ, WRITE = Access.READ, Access.WRITE
RIGHTS = (Rights.READ, Rights.READ | Rights.WRITE)
#: Two of one page table, one beside it, one of another directory, one of another half of the root.
PAGES = (0x40_0000, 0x40_1000, 0x60_0000, 0x4000_0000, 0x7F00_0000_0000)
SPACES = 3

spaces, pages, vcpus = (st.integers(0, n - 1) for n in (SPACES, len(PAGES), VCPUS))


class SeveralShadows(RuleBasedStateMachine):
    """`model` has of each space the page mapped at each address, and whether it may be written."""

    @initialize(busy=st.sets(vcpus), prefetch=st.sampled_from([1, 8]))
    def start(self, busy: set[int], prefetch: int) -> None:
        config = GuestConfig(mmu="shadow", memory=MEMORY, vcpus=VCPUS, shadow=ShadowOptions(None, prefetch))
        self.machine = Machine(config, QuietCpu)  # type: ignore[arg-type]
        self.on = Processors(self.machine.vcpus)
        self.on.is_busy = busy.__contains__
        first = VirtualMachine(self.on)
        self.spaces = [first, *(first.another(n) for n in range(1, SPACES))]
        self.model: list[dict[int, tuple[int, bool]]] = [{} for _ in range(SPACES)]

    @rule(number=vcpus)
    def go_to(self, number: int) -> None:
        self.on.go_to(number)

    @rule(space=spaces)
    def load(self, space: int) -> None:
        self.spaces[space].load()

    @rule(space=spaces, page=pages, may_write=st.booleans())
    def map(self, space: int, page: int, may_write: bool) -> None:
        if page not in self.model[space]:
            gpa = self.spaces[space].allocate(PAGE_SIZE)
            assert gpa is not None
            self.spaces[space].map(PAGES[page], gpa, PAGE_SIZE, RIGHTS[may_write])
            self.model[space][page] = gpa, may_write

    @rule(space=spaces, page=pages)
    def unmap(self, space: int, page: int) -> None:
        if page in self.model[space]:
            gpa, _ = self.model[space].pop(page)
            assert self.spaces[space].unmap(PAGES[page]).target == gpa
            self.spaces[space].free(gpa, PAGE_SIZE)

    @rule(space=spaces, page=pages, may_write=st.booleans())
    def protect(self, space: int, page: int, may_write: bool) -> None:
        if page in self.model[space]:
            self.spaces[space].protect(PAGES[page], RIGHTS[may_write])
            self.model[space][page] = self.model[space][page][0], may_write

    @rule(space=st.integers(1, SPACES - 1))
    def replace(self, space: int) -> None:
        """A process ends and another begins, whose tables may lie in the same frames."""
        old = self.spaces[space]
        for page in list(self.model[space]):
            self.unmap(space, page)
        old.leave(self.spaces[0])
        old.close()
        self.spaces[space] = self.spaces[0].another(space)

    @rule(space=spaces, page=pages)
    def move_host_memory(self, space: int, page: int) -> None:
        """The hypervisor takes a page out of the memory map and puts it back."""
        memory_map = self.machine.memory_map
        found = self.model[space].get(page)
        assert memory_map is not None
        if found is not None and memory_map.target(found[0]) is not None:
            taken = memory_map.unmap(found[0])
            memory_map.map(taken.start, taken.target, taken.size, taken.rights)

    @rule(space=spaces, page=pages)
    def kernel_writes(self, space: int, page: int) -> None:
        if page in self.model[space]:
            self.spaces[space].physical(self.model[space][page][0], 8, write=True)[0] = space

    @rule(space=spaces, page=pages, access=st.sampled_from([READ, WRITE]))
    def touch(self, space: int, page: int, access: Access) -> None:
        machine, memory_map = self.spaces[space], self.machine.memory_map
        assert memory_map is not None
        if not machine.loaded:
            machine.load()
        mmu = self.on.current.mmu
        status, found = mmu.translate(PAGES[page], access)
        gpa, may_write = self.model[space].get(page, (None, False))
        if gpa is None or (access is WRITE and not may_write):
            assert status and isinstance(machine.user(PAGES[page], 8, access), PageFault)
        else:
            assert not status and found & -PAGE_SIZE == memory_map.target(gpa)

    @invariant()
    def every_entry_is_justified(self) -> None:
        if hasattr(self, "machine"):
            assert [audit(one.mmu.shadow) for one in self.machine.vcpus] == [[]] * VCPUS  # type: ignore[attr-defined]

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        pool = self.machine.host.pool
        held = sum(len(one.mmu.shadow.tables.pages) for one in self.machine.vcpus)  # type: ignore[attr-defined]
        assert pool.frames_of(OwnerKind.SHADOW_TABLE) == held
        self.machine.close()


TestSeveralShadows = SeveralShadows.TestCase
