"""The machine that a process guest's kernel runs on: ProcessMachine over a vCPU, one for each address space.

An EPT violation met on the way is an exit like any other: recorded, counted, handled. Of an address space that is not
loaded nothing is invalidated at once: it is noted, and the next MOV to CR3 that loads it drops what is cached under its
PCID, as Linux does by its generations (arch/x86/mm/tlb.c).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from quire.arch import PAGE_SIZE, Access, ExitReason
from quire.errors import MisuseError
from quire.guest.kernel.machine import PageFault, ProcessMachine, Registers
from quire.machine import Vcpu
from quire.paging import Mapping, Rights, Status, Tables
from quire.vcpu import Counting, Exit, Sliced, counting, sliced

__all__ = ["VirtualMachine"]


class VirtualMachine:
    """One vCPU, its guest-physical memory, and one address space: `tables`, by default those that are loaded.

    Sizes are in bytes. `pcid` tags its translations; `machine` is that of another address space on the vCPU.
    """

    def __init__(
        self,
        vcpu: Vcpu,
        tables: Tables | None = None,
        pcid: int = 0,
        machine: "VirtualMachine | None" = None,
    ) -> None:
        self._vcpu = vcpu
        self._mmu = mmu = vcpu.mmu
        self._cpu = vcpu.cpu
        self._bytes = vcpu.host.memory.octets.data
        self._tables = mmu.tables if tables is None else tables
        self.pcid = pcid
        #: The address spaces of the vCPU by their tables, and the last that was loaded under each PCID.
        self._known: dict[Tables, VirtualMachine] = {} if machine is None else machine._known
        self._tagged: dict[int, VirtualMachine] = {} if machine is None else machine._tagged
        self._known[self._tables] = self
        self.stale = False  #: whether translations may be cached that it no longer has
        if machine is None:
            self._tagged[pcid] = self
        self.page_size = vcpu.machine.config.guest_page
        self.map = self._tables.map
        self.dirty_pages = self._tables.dirty_pages
        self.lookup = self._tables.lookup
        self.allocate = mmu.allocate
        self.free = mmu.free

    @property
    def registers(self) -> Registers:
        """The vCPU's registers."""
        return self._cpu.registers

    @cached_property
    def _sliced(self) -> Sliced:
        return sliced(self._cpu)

    @cached_property
    def _counting(self) -> Counting:
        return counting(self._cpu)

    def begin_slice(self, blocks: int) -> None:
        """Interrupt the guest after so many blocks of instructions."""
        self._sliced.begin_slice(blocks)

    @property
    def slice_over(self) -> bool:
        """Whether all of them have run."""
        return self._sliced.slice_over

    def instructions(self) -> int:
        """Return how many instructions the guest has executed, 0 where nobody counts them."""
        return self._counting.instructions()

    @property
    def table_count(self) -> int:
        """How many frames the tables of this address space take."""
        return self._tables.table_count

    @property
    def loaded(self) -> bool:
        """Whether the vCPU's CR3 points to these tables."""
        return self._mmu.tables is self._tables

    def load(self) -> bool:
        """Execute MOV to CR3; return whether it had to drop what was cached under this PCID."""
        flushes = self.stale or self._tagged.get(self.pcid) is not self or not self._mmu.enable_pcids()
        self.stale, self._tagged[self.pcid] = False, self
        self._mmu.load_tables(self._tables, self.pcid, keep=not flushes)
        return flushes

    def loaded_one(self) -> "VirtualMachine":
        """Return the machine with the address space that CR3 points to."""
        return self._known[self._mmu.tables]

    def another(self, pcid: int) -> "VirtualMachine":
        """Return the machine with an empty address space. Raises OutOfFrames."""
        return VirtualMachine(self._vcpu, self._mmu.new_tables(), pcid * self._mmu.enable_pcids(), self)

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

    def split(self, gva: int) -> None:
        """Turn the 2 MiB page that maps `gva` into 512 pages of 4 KiB, and its frames into single ones."""
        mapping = self._tables.lookup(gva)
        self._tables.split(gva)
        if mapping is not None:
            self._mmu.divide(mapping.target, mapping.size)
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

    def _invalidate(self, gva: int | None) -> None:
        """Drop what is cached of the page at `gva`, or of all pages: if not now, then when it is loaded."""
        if self.loaded:
            self._mmu.invalidate(gva)
        else:
            self.stale = True

    def physical(self, gpa: int, length: int, *, write: bool = False) -> memoryview:
        """Return the bytes at `gpa`, which must not cross a 4 KiB boundary."""
        _check(gpa, length)
        hpa = self._mmu.reach(gpa, write=write)
        if write:
            self._cpu.forget_code(hpa, length)
        return self._bytes[hpa : hpa + length]

    def user(self, gva: int, length: int, access: Access) -> memoryview | PageFault:
        """Return the bytes at user address `gva` as a user access reaches them, or the fault it meets."""
        _check(gva, length)
        while True:
            status, value = self._mmu.translate(gva, access)
            if status == Status.OK:
                if access is Access.WRITE:
                    self._cpu.forget_code(value, length)
                return self._bytes[value : value + length]
            if status == Status.PAGE_FAULT:
                return PageFault(gva, value)
            if status == Status.EPT_VIOLATION:
                self._vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, value, self._mmu.fault_gpa, gla=gva))
            elif status == Status.LOG_FULL:
                self._vcpu.handle_exit(
                    Exit(ExitReason.PAGE_MODIFICATION_LOG_FULL, gpa=self._mmu.fault_gpa, gla=gva)
                )
            elif status == Status.EPT_MISCONFIGURATION:
                self._vcpu.handle_exit(Exit(ExitReason.EPT_MISCONFIGURATION, gpa=self._mmu.fault_gpa))
            else:
                return PageFault(gva, 0)


def _check(address: int, length: int) -> None:
    if length < 0 or (address & PAGE_SIZE - 1) + length > PAGE_SIZE:
        raise MisuseError(f"{length:#x} bytes at {address:#x} cross a page: split the request at 0x1000")
