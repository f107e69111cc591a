"""A guest that shares a host with nodes, and what a test expects of it: contents, dirty pages, accessed pages."""

from collections.abc import Collection

import numpy as np
from dirty_guests import NoCpu, changed, machine_of, snapshot, tables_of, write_user

from quire.arch import Access
from quire.machine import GuestConfig, Machine
from quire.machine.migration import balance, migrate, move_vcpu, node_of
from quire.memory import OutOfFrames, OwnerKind
from quire.memory.numa import NodePools
from quire.mmu import BackedMmu, Host, NumaConfig
from quire.observe import AccessTracker, DirtyLog, DirtyWay
from quire.paging import Rights, Status

RW = Rights.READ | Rights.WRITE
REGION = 0x400000
MEMORY = 8 << 20
BLANK = bytes(4096)


def pools_of(host: Host) -> NodePools:
    assert isinstance(host.pool, NodePools)
    return host.pool


class Subject:
    """One guest on `host`. `contents` is the model of its data pages, by slot; the rest is what logs must hold."""

    def __init__(
        self, host: Host, mmu: str, host_page: int, numa: NumaConfig, vpid: int, check: bool
    ) -> None:
        self.host = host
        config = GuestConfig(mmu, MEMORY, host_page=host_page, numa=numa, vpid=vpid, check_flushes=check)
        self.machine = Machine(config, NoCpu, host=host)  # type: ignore[arg-type]
        self.kernel_view = machine_of(self.machine)
        self.exact = host_page == 4096  # a flag is one page's
        self.pages: dict[int, int] = {}  # slot to GPA
        self.contents: dict[int, bytearray] = {}
        self.used: set[int] = set()
        self.log: DirtyLog | None = None
        self.tracker: AccessTracker | None = None
        self.written: set[int] = set()  # must be in the next harvest
        self.reported: set[int] = set()  # were in one, and are not cleared
        self.maybe: set[int] = set()  # may be in it: tables
        self.accessed: set[int] = set()
        self.maybe_accessed: set[int] = set()

    @property
    def mmu(self) -> BackedMmu:
        assert isinstance(self.machine.vcpu.mmu, BackedMmu)
        return self.machine.vcpu.mmu

    def map(self, slot: int) -> bool:
        """Map a new page; return False when the guest has no memory left. Without host frames nothing of it stays."""
        gpa = self.kernel_view.allocate(4096)
        if gpa is None:
            return False
        frame = gpa >> 12
        if frame in self.used:
            self.written.add(frame)  # it was made zero
        self.used.add(frame)
        try:
            self.kernel_view.map(REGION + (slot << 20), gpa, 4096, RW)
        except OutOfFrames:
            self.kernel_view.free(gpa, 4096)
            raise
        finally:
            self._note_tables()
        self.pages[slot], self.contents[slot] = gpa, bytearray(4096)
        return True

    def unmap(self, slot: int) -> None:
        self._note_tables()  # they are written before they are freed
        self.kernel_view.unmap(REGION + (slot << 20))
        gpa = self.pages.pop(slot)
        self.kernel_view.free(gpa, 4096)
        self.maybe_accessed.add(gpa >> 12)
        del self.contents[slot]

    def write(self, slot: int, offset: int, data: bytes, by_kernel: bool) -> None:
        gpa = self.pages[slot]
        self.maybe.add(gpa >> 12)  # a log may have let the write pass before there was no frame for it
        if by_kernel:
            self.kernel_view.physical(gpa + offset, len(data), write=True)[:] = data
        else:
            write_user(self.kernel_view, REGION + (slot << 20) + offset, data)
            self.accessed.add(gpa >> 12)
        self.contents[slot][offset : offset + len(data)] = data
        self.written.add(gpa >> 12)

    def read(self, slot: int) -> None:
        view = self.kernel_view.user(REGION + (slot << 20), 4096, Access.READ)
        assert isinstance(view, memoryview), view
        assert view == self.contents[slot]
        self.accessed.add(self.pages[slot] >> 12)

    def migrate(self, choice: int, node: int) -> None:
        blocks = sorted(self.mmu.blocks)
        gpa = blocks[choice % len(blocks)]
        if migrate(self.machine, gpa, node):
            self._moved([gpa])
        assert node_of(self.machine, gpa) == node

    def balance(self, accesses: dict[int, tuple[int, int]], limit: int | None) -> None:
        nodes = pools_of(self.host).topology.count
        table = np.zeros((MEMORY // self.mmu.page_size, nodes), np.int64)
        for page, (node, count) in accesses.items():
            table[page % len(table), node] += count
        moved = balance(self.machine, table, limit=limit)
        assert limit is None or len(moved) <= limit
        for gpa, node in moved:
            assert node_of(self.machine, gpa) == node
        self._moved([gpa for gpa, _ in moved])

    def _moved(self, pages: Collection[int]) -> None:
        for gpa in pages:
            first = gpa >> 12
            self.written |= set(range(first, first + (self.mmu.page_size >> 12)))

    def move_vcpu(self, node: int) -> None:
        move_vcpu(self.machine.vcpu, node)
        assert self.machine.vcpu.node == node

    def start_log(self, way: DirtyWay) -> None:
        self.log = DirtyLog(self.machine, way)
        self.before = snapshot(self.machine)
        self.written, self.reported, self.maybe = set(), set(), tables_of(self.machine)

    def stop_log(self) -> None:
        assert self.log is not None
        self.log.close()
        self.log = None
        sizes = {one.size for one in self.mmu.memory_map.mappings()}
        assert sizes <= {self.mmu.page_size}, "large pages are joined again"
        assert all(one.rights == Rights(7) and not one.entry >> 52 for one in self.mmu.memory_map.mappings())

    def harvest(self, clear: bool) -> set[int]:
        assert self.log is not None
        found = set(self.log.harvest(clear=clear).frames().tolist())
        now = snapshot(self.machine)
        assert changed(self.before, now) <= found, "each page that differs is in the log"
        self.before = now
        self.reported |= self.written
        self._note_tables()
        assert self.written <= found
        assert not found - self.reported - self.maybe, "none that was not written"
        self.written = set()
        if clear:
            self.reported, self.maybe = set(), tables_of(self.machine)
        return found

    def clear(self, frames: list[int]) -> None:
        assert self.log is not None
        self.log.clear(frames)
        self.reported -= set(frames)

    def start_tracking(self) -> None:
        self.tracker = AccessTracker(self.machine)
        self.accessed, self.maybe_accessed = set(), tables_of(self.machine)

    def sample(self) -> None:
        assert self.tracker is not None
        found = set(self.tracker.sample(0.0).tolist())
        assert self.accessed <= found
        self._note_tables()
        if self.exact:
            assert found <= self.accessed | self.maybe_accessed
        self.accessed, self.maybe_accessed = set(), tables_of(self.machine)

    def _note_tables(self) -> None:
        tables = tables_of(self.machine)
        self.maybe |= tables
        self.maybe_accessed |= tables

    def check(self) -> None:
        """What the guest sees is the model; each of its pages is where the memory map says, and its own."""
        for slot, gpa in self.pages.items():
            found = self.mmu.walk(REGION + (slot << 20), Access.READ)
            if found.status == Status.OK:
                assert self.host.memory.read(found.hpa, 4096) == self.contents[slot]
                continue
            # A page that nobody has touched, or tables of the guest's that a log protects from accessed flags.
            assert found.status == Status.EPT_VIOLATION, found
            mapping, hpa = self.kernel_view.lookup(REGION + (slot << 20)), self.mmu.memory_map.target(gpa)
            assert mapping is not None and mapping.target == gpa
            assert self.contents[slot] == (BLANK if hpa is None else self.host.memory.read(hpa, 4096))
        pools, size = pools_of(self.host), self.mmu.page_size
        for gpa, hfn in self.mmu.blocks.items():
            for frame in {0, (size >> 12) - 1}:
                assert self.mmu.memory_map.target(gpa + 4096 * frame) == hfn + frame << 12
                assert pools.owner_of(hfn + frame).kind is OwnerKind.GUEST_PAGE
        assert self.mmu.memory_map.mapped_bytes == size * len(self.mmu.blocks)
        self.mmu.frames.audit()
        guest = self.mmu.frames
        assert guest.frames_of(OwnerKind.GUEST_PAGE) == len(self.pages)
        assert guest.frames_of(OwnerKind.GUEST_TABLE) == len(tables_of(self.machine))
        if self.mmu.name == "shadow":
            self.machine.vcpu.mmu.check()
        if self.machine.vcpu.flush_check is not None:
            assert self.machine.vcpu.flush_check.findings == []

    def state(self) -> tuple[object, ...]:
        """What nobody else's doing may change: where its memory is, and what its map says."""
        found = self.mmu.memory_map.leaves(0, 1 << 48)
        return (dict(self.mmu.blocks), found.starts.tolist(), found.entries.tolist(), self.machine.vcpu.node)
