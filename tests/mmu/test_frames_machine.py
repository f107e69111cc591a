"""EPT over real frames: map, unmap, protect, split, join and access in any order, ownership audited at each step."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quire.arch import EPT_PTE, EPTP, PDE, SKYLAKE_X, Access, MemoryType, PagingMode
from quire.memory import HostMemory, Owner, OwnerKind, Pool
from quire.mmu import Host
from quire.mmu.backed import make_ept
from quire.paging import RESULT_WORDS, Context, Result, Rights, Status, new_context, reference_walk
from quire.paging._kernels import walk

PAGE = Owner(OwnerKind.GUEST_PAGE, "pages")
RIGHTS = (Rights.READ, Rights.READ | Rights.WRITE, Rights.READ | Rights.EXECUTE, Rights(7))
SMALL, LARGE = 1 << 12, 1 << 21
FRAMES = 8192
WANTED = {Access.READ: Rights.READ, Access.WRITE: Rights.WRITE, Access.FETCH: Rights.EXECUTE}


class FramesMachine(RuleBasedStateMachine):
    """`pages` is the model: guest-physical start to (HPA, size, rights)."""

    def __init__(self) -> None:
        super().__init__()
        memory = HostMemory(FRAMES << 12)
        self.host = Host(memory, Pool(0, FRAMES, memory))
        self.ept = make_ept(self.host)
        self.pages: dict[int, tuple[int, int, Rights]] = {}
        self.context = new_context(SKYLAKE_X, memory.size)
        self.context[Context.MODE] = PagingMode.NONE
        self.context[Context.EPTP] = EPTP.encode(MT=MemoryType.WB, walk_length=3, AD=1, addr=self.ept.root)

    def teardown(self) -> None:
        for start in list(self.pages):
            self._unmap(start)
        self.ept.close()
        self.host.pool.audit()
        assert self.host.pool.frames_of(OwnerKind.FREE) == FRAMES, "every frame came back"
        self.host.close()

    def _free(self, start: int, size: int) -> bool:
        return not any(s < start + size and start < s + n for s, (_, n, _) in self.pages.items())

    def _unmap(self, start: int) -> None:
        hpa, size, _ = self.pages.pop(start)
        self.ept.unmap(start)
        self.host.pool.free(hpa >> 12, (size >> 12).bit_length() - 1, PAGE)

    @rule(slot=st.integers(0, 5), page=st.integers(0, 3), large=st.booleans(), rights=st.sampled_from(RIGHTS))
    def map(self, slot: int, page: int, large: bool, rights: Rights) -> None:
        size = LARGE if large else SMALL
        start = slot * LARGE + (0 if large else page * SMALL)
        table_in_the_way = large and any(s // LARGE == slot for s in self.pages)
        if not self._free(start, size) or table_in_the_way:
            return
        hpa = self.host.pool.allocate(9 if large else 0, PAGE) << 12
        self.ept.map(start, hpa, size, rights)
        self.pages[start] = (hpa, size, rights)

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        self._unmap(data.draw(st.sampled_from(sorted(self.pages))))

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), rights=st.sampled_from(RIGHTS))
    def protect(self, data: st.DataObject, rights: Rights) -> None:
        start = data.draw(st.sampled_from(sorted(self.pages)))
        hpa, size, _ = self.pages[start]
        self.ept.protect(start, rights)
        self.pages[start] = (hpa, size, rights)

    @precondition(lambda self: any(size == LARGE for _, size, _ in self.pages.values()))
    @rule(data=st.data(), keep=st.booleans())
    def split(self, data: st.DataObject, keep: bool) -> None:
        large = sorted(start for start, (_, size, _) in self.pages.items() if size == LARGE)
        start = data.draw(st.sampled_from(large))
        self.ept.split(start)
        if keep:
            hpa, _, rights = self.pages.pop(start)
            self.host.pool.divide(hpa >> 12, 9, PAGE)
            for n in range(512):
                self.pages[start + n * SMALL] = (hpa + n * SMALL, SMALL, rights)
        else:
            assert self.ept.join(start)

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), offset=st.integers(0, LARGE - 1), access=st.sampled_from(list(WANTED)))
    def access(self, data: st.DataObject, offset: int, access: Access) -> None:
        start = data.draw(st.sampled_from(sorted(self.pages)))
        self._access(start + offset % self.pages[start][1], access)

    @rule(gpa=st.integers(0, 8 * LARGE), access=st.sampled_from(list(WANTED)))
    def access_anywhere(self, gpa: int, access: Access) -> None:
        self._access(gpa, access)

    def _access(self, gpa: int, access: Access) -> None:
        found = next(((s, p) for s, p in self.pages.items() if s <= gpa < s + p[1]), None)
        result = np.zeros(RESULT_WORDS, np.uint64)
        words = self.host.memory.words
        status = Status(int(walk(words, self.context, np.uint64(gpa), np.uint64(access), result)))
        record = reference_walk(words, self.context, gpa, access)
        assert record.status is status
        if found is None or WANTED[access] & ~found[1][2]:
            assert status is Status.EPT_VIOLATION
            return
        start, (hpa, _, _) = found
        assert status is Status.OK
        assert int(result[Result.HPA]) == record.hpa == hpa + gpa - start
        mapping = self.ept.lookup(gpa)
        assert mapping is not None and mapping.accessed
        assert mapping.dirty or access is not Access.WRITE

    @invariant()
    def every_frame_has_one_owner(self) -> None:
        pool, words = self.host.pool, self.host.memory.words
        pool.audit()
        tables, leaves = [self.ept.root], 0
        for level in (4, 3, 2):
            below = []
            for table in tables if level == 4 else self._level:
                present = [entry for entry in words[table >> 3 : (table >> 3) + 512].tolist() if entry & 7]
                leaves += sum(
                    1 << (level - 1) * 9 for entry in present if level < 4 and entry & PDE.mask("PS")
                )
                below += [EPT_PTE.get(e, "addr") for e in present if level == 4 or not e & PDE.mask("PS")]
            self._level = below
            tables += below
        for table in self._level:
            leaves += sum(bool(entry & 7) for entry in words[table >> 3 : (table >> 3) + 512].tolist())
        assert len(set(tables)) == len(tables), "each table is reached once"
        assert {pool.owner_of(table >> 12).kind for table in tables} == {OwnerKind.EPT_TABLE}
        assert pool.frames_of(OwnerKind.EPT_TABLE) == len(tables)
        assert (
            pool.frames_of(OwnerKind.GUEST_PAGE) == leaves == sum(n >> 12 for _, n, _ in self.pages.values())
        )


FramesMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestFrames = FramesMachine.TestCase
