"""The machine that a process guest's kernel runs on: ProcessMachine over a vCPU.

An EPT violation met on the way is an exit like any other: recorded, counted, handled.
"""

from quire.arch import PAGE_SIZE, Access, ExitReason
from quire.errors import MisuseError
from quire.guest.kernel.machine import PageFault, Registers
from quire.machine import Vcpu
from quire.paging import Status
from quire.vcpu import Exit

__all__ = ["VirtualMachine"]


class VirtualMachine:
    """One vCPU and its guest-physical memory. Sizes are in bytes."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._mmu = mmu = vcpu.mmu
        self._cpu = vcpu.cpu
        self._bytes = vcpu.host.memory.octets.data
        self.page_size = vcpu.machine.config.guest_page
        self.map = mmu.map
        self.unmap = mmu.unmap
        self.protect = mmu.protect
        self.split = mmu.split
        self.move_tables = mmu.move_tables
        self.dirty_pages = mmu.dirty_pages
        self.lookup = mmu.lookup
        self.allocate = mmu.allocate
        self.free = mmu.free

    @property
    def registers(self) -> Registers:
        """The vCPU's registers."""
        return self._cpu.registers

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
