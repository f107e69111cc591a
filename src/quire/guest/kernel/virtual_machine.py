"""The machine that a process guest's kernel runs on: ProcessMachine over its vCPUs, one for each address space.

An EPT violation met on the way is an exit like any other: recorded, counted, handled. Of an address space that is not
loaded nothing is invalidated at once: it is noted, and the next MOV to CR3 that loads it drops what is cached under its
PCID, as Linux does by its generations (arch/x86/mm/tlb.c).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from quire.arch import PAGE_SHIFT, PAGE_SIZE, Access, CpuProfile, ExitReason
from quire.errors import MisuseError
from quire.guest.kernel.machine import PageFault, ProcessMachine, Registers
from quire.guest.kernel.meter import Tally
from quire.guest.kernel.processors import Processors
from quire.memory import OwnerKind
from quire.paging import Context, Mapping, Rights, Status, Tables
from quire.vcpu import Counting, Exit, Sliced, counting, sliced

__all__ = ["VirtualMachine"]


#: Pages from which on all of an address space is dropped, as Linux has it (tlb_single_page_flush_ceiling).
_MANY = 33
_VERSION = int(Context.VERSION)


class VirtualMachine:
    """The vCPU that runs, its guest-physical memory, and one address space: `tables`, by default those that are loaded.

    Sizes are in bytes. `pcid` tags its translations; `machine` is that of another address space on the same vCPUs.
    """

    def __init__(
        self,
        processors: Processors,
        tables: Tables | None = None,
        pcid: int = 0,
        machine: "VirtualMachine | None" = None,
    ) -> None:
        self.processors = processors
        first = processors.all[0]
        self._bytes = first.host.memory.octets.data
        self._tables = first.mmu.tables if tables is None else tables
        self.pcid = pcid
        #: The address spaces of the vCPUs by their tables.
        self._known: dict[Tables, VirtualMachine] = {} if machine is None else machine._known
        self._known[self._tables] = self
        self._stale = 0  # by vCPU, a bit: whether translations may be cached there that it no longer has
        self._walked: dict[tuple[int, Access], int] = {}  # HPAs of pages, by what was walked for
        self._walked_in: tuple[object, int] = (None, 0)  # the Mmu, and its version of the tables
        self._gathered: list[int | None] | None = None  # what other vCPUs are to be told of together
        if machine is None:
            for one in processors.tagged:
                one[pcid] = self._tables
        self.page_size = first.machine.config.guest_page
        self.map = self._tables.map
        self.dirty_pages = self._tables.dirty_pages
        self.lookup = self._tables.lookup
        self.allocate = first.mmu.allocate
        self.free = first.mmu.free

    @property
    def registers(self) -> Registers:
        """The registers of the vCPU that runs."""
        return self.processors.current.cpu.registers

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs there are."""
        return len(self.processors.all)

    @property
    def profile(self) -> CpuProfile:
        """The processor."""
        return self.processors.current.vmx.profile

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """Return what CPUID answers."""
        return self.processors.current.cpuid(leaf, subleaf)

    def memory_sizes(self) -> tuple[int, int]:
        """Return the bytes of guest memory, and of them those that nobody has."""
        vcpu = self.processors.current
        total, frames = vcpu.machine.config.memory, vcpu.mmu.frames
        used = frames.frames_of(OwnerKind.GUEST_PAGE) + frames.frames_of(OwnerKind.GUEST_TABLE)
        return total, max(total - (used << PAGE_SHIFT), 0)

    @property
    def node(self) -> int:
        """Where the vCPU runs."""
        return self.processors.current.node

    def go_to(self, number: int) -> None:
        """Work on vCPU `number` from now on."""
        self.processors.go_to(number)

    def begin_slice(self, blocks: int) -> None:
        """Interrupt the guest after so many blocks of instructions."""
        self._sliced[self.processors.number].begin_slice(blocks)

    @cached_property
    def _sliced(self) -> list[Sliced]:
        return [sliced(one.cpu) for one in self.processors.all]

    @cached_property
    def _counting(self) -> list[Counting]:
        return [counting(one.cpu) for one in self.processors.all]

    def begin_steps(self, instructions: int) -> None:
        """Interrupt the guest after so many instructions. Costs a call an instruction, from the first time on."""
        self.processors.begin_steps(instructions)

    @property
    def slice_over(self) -> bool:
        """Whether all of them have run."""
        on = self.processors
        return on.steps_over if on.steps else self._sliced[on.number].slice_over

    def instructions(self) -> int:
        """Return how many instructions the vCPU that runs has executed, 0 where nobody counts them."""
        return self._counting[self.processors.number].instructions()

    def tally(self) -> Tally:
        """Return what the vCPU that runs has counted."""
        on = self.processors
        counts = self._counting[on.number]
        return Tally(counts.instructions(), on.current.tlb.first_misses, counts.walks())

    def held(self) -> int:
        """Return how many entries of its TLBs the loaded address space has; 0 where accesses are not seen."""
        tlb = self.processors.current.tlb
        return tlb.held() if tlb.first_misses else 0

    @property
    def table_count(self) -> int:
        """How many frames the tables of this address space take."""
        return self._tables.table_count

    @property
    def loaded(self) -> bool:
        """Whether CR3 points to these tables, and nothing that went is cached."""
        on = self.processors
        return on.current.mmu.tables is self._tables and not self._stale >> on.number & 1

    def load(self) -> bool:
        """Execute MOV to CR3; return whether it had to drop what was cached under this PCID."""
        on = self.processors
        mmu, tagged, bit = on.current.mmu, on.tagged[on.number], 1 << on.number
        flushes = (
            bool(self._stale & bit) or tagged.get(self.pcid) is not self._tables or not mmu.enable_pcids()
        )
        self._stale &= ~bit
        tagged[self.pcid] = self._tables
        mmu.load_tables(self._tables, self.pcid, keep=not flushes)
        return flushes

    def loaded_one(self) -> "VirtualMachine":
        """Return the machine with the address space that CR3 points to."""
        return self._known[self.processors.current.mmu.tables]

    def another(self, pcid: int) -> "VirtualMachine":
        """Return the machine with an empty address space. Raises OutOfFrames."""
        mmu = self.processors.current.mmu
        return VirtualMachine(self.processors, mmu.new_tables(), pcid * mmu.enable_pcids(), self)

    def leave(self, other: ProcessMachine) -> None:
        """Have no vCPU's CR3 point to these tables, but to those of `other`: they are about to be freed."""
        on = self.processors
        here = on.number
        for number, one in enumerate(on.all):
            if one.mmu.tables is self._tables:
                on.go_to(number)
                other.load()
        on.go_to(here)

    def close(self) -> None:
        """Free the tables of this address space, which is not loaded and maps nothing."""
        del self._known[self._tables]
        self._tables.close()

    def unmap(self, gva: int) -> Mapping:
        """Remove the page that maps `gva`, invalidate its cached translations, return what it was."""
        mapping = self._tables.unmap(gva)
        self._invalidate(gva)
        return mapping

    def protect(self, gva: int, rights: Rights) -> None:
        """Change the rights of the page that maps `gva`, and invalidate its cached translations if it loses any.

        One that allows less than the tables is dropped by the page fault that it causes (SDM 3A §4.10.4.3).
        """
        before = self._tables.protect(gva, rights)
        if before.rights & ~rights:
            self._invalidate(gva)

    def split(self, gva: int, *, divide: bool = True) -> None:
        """Turn the 2 MiB page that maps `gva` into 512 pages of 4 KiB; with `divide` its frames into single ones."""
        mapping = self._tables.lookup(gva)
        self._tables.split(gva)
        if mapping is not None and divide:
            self.processors.current.mmu.divide(mapping.target, mapping.size)
        self._invalidate(gva)

    def move_tables(self, start: int, end: int, to: int) -> None:
        """Have the small pages from `start` to `end` be mapped from `to` on, by their tables."""
        self._tables.move_tables(start, end, to)
        self._invalidate(None)

    def copy_pages(self, other: ProcessMachine, pages: Sequence[int]) -> None:
        """Have `other` map the small pages at `pages` as these tables do; neither may write them then."""
        assert isinstance(other, VirtualMachine), "both are address spaces of one machine"
        if pages:
            try:
                other._tables.copy_read_only(self._tables, np.array(pages, np.uint64))
            finally:
                self._invalidate(None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have other vCPUs be told at the end, once, of all pages that go meanwhile."""
        if self._gathered is not None or self.vcpu_count == 1:
            yield
            return
        self._gathered = []
        try:
            yield
        finally:
            gathered, self._gathered = self._gathered, None
            if gathered:
                whole = None in gathered or len(gathered) > _MANY
                self._tell_others([None] if whole else gathered)

    def _invalidate(self, gva: int | None) -> None:
        """Drop what is cached of the page at `gva`, or of all pages: if not now, then when it is loaded."""
        on = self.processors
        if self.loaded:
            on.current.mmu.invalidate(gva)
        else:
            self._stale |= 1 << on.number
        if len(on.all) > 1:
            if self._gathered is None:
                self._tell_others([gva])
            else:
                self._gathered.append(gva)

    def _tell_others(self, pages: Sequence[int | None]) -> None:
        on = self.processors
        told = on.others_in(self._tables)
        for number in told:
            on.shoot_down(number, pages)
        for number in range(len(on.all)):
            if number != on.number and number not in told:
                self._stale |= 1 << number

    def physical(self, gpa: int, length: int, *, write: bool = False) -> memoryview:
        """Return the bytes at `gpa`, which must not cross a 4 KiB boundary."""
        _check(gpa, length)
        vcpu = self.processors.current
        hpa = vcpu.mmu.reach(gpa, write=write)
        if write:
            vcpu.machine.forget_code(hpa, length)
        return self._bytes[hpa : hpa + length]

    def user(self, gva: int, length: int, access: Access) -> memoryview | PageFault:
        """Return the bytes at user address `gva` as a user access reaches them, or the fault it meets."""
        _check(gva, length)
        mmu = self.processors.current.mmu
        state = mmu, int(mmu.context[_VERSION])
        if state != self._walked_in:
            self._walked.clear()
            self._walked_in = state
        page = self._walked.get((gva >> PAGE_SHIFT, access))
        if page is None:
            found = self._walk(gva, access)
            if isinstance(found, PageFault):
                return found
            page = found & -PAGE_SIZE
            if state == (mmu, int(mmu.context[_VERSION])):  # and no exit has changed anything
                self._walked[gva >> PAGE_SHIFT, access] = page
        hpa = page | gva & PAGE_SIZE - 1
        if access is Access.WRITE:
            self.processors.current.machine.forget_code(hpa, length)
        return self._bytes[hpa : hpa + length]

    def _walk(self, gva: int, access: Access) -> int | PageFault:
        """Return where a user access reaches `gva`, with accessed and dirty flags set, or the fault it meets."""
        vcpu = self.processors.current
        mmu = vcpu.mmu
        while True:
            status, value = mmu.translate(gva, access)
            if status == Status.OK:
                return value
            if status == Status.PAGE_FAULT:
                return PageFault(gva, value)
            if status == Status.EPT_VIOLATION:
                vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, value, mmu.fault_gpa, gla=gva))
            elif status == Status.LOG_FULL:
                vcpu.handle_exit(Exit(ExitReason.PAGE_MODIFICATION_LOG_FULL, gpa=mmu.fault_gpa, gla=gva))
            elif status == Status.EPT_MISCONFIGURATION:
                vcpu.handle_exit(Exit(ExitReason.EPT_MISCONFIGURATION, gpa=mmu.fault_gpa))
            else:
                return PageFault(gva, 0)


def _check(address: int, length: int) -> None:
    if length < 0 or (address & PAGE_SIZE - 1) + length > PAGE_SIZE:
        raise MisuseError(f"{length:#x} bytes at {address:#x} cross a page: split the request at 0x1000")
