"""Guest-physical memory as whoever boots a guest, or a device of it, reads and writes it."""

from collections.abc import Iterator

from quire.arch import PAGE_SIZE
from quire.devices.virtio import NoMemory
from quire.machine import Machine

__all__ = ["DriverMemory", "GuestMemory"]


class GuestMemory:
    """Of `machine`. Every write is seen by dirty logs and checks, and drops code that was compiled from there."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to guest-physical memory; backs it first if need be. Raises MisuseError where there is none."""
        machine = self._machine
        for at, count in _pages(gpa, len(data)):
            hpa = machine.mmu.reach(at, write=True)
            machine.forget_code(hpa, count)
            with machine.vcpu.noting_writes(hpa):
                machine.host.memory.write(hpa, data[at - gpa : at - gpa + count])

    def read(self, gpa: int, length: int) -> bytes:
        """Return guest-physical memory. Raises MisuseError where there is none."""
        reach, read = self._machine.mmu.reach, self._machine.host.memory.read
        return b"".join(bytes(read(reach(at), count)) for at, count in _pages(gpa, length))


class DriverMemory:
    """The same as a device has it, whose driver gives it any address: where there is no memory is NoMemory."""

    def __init__(self, machine: Machine) -> None:
        self._memory, self._end = GuestMemory(machine), machine.config.memory

    def read(self, gpa: int, length: int) -> bytes:
        """Return guest-physical memory. Raises NoMemory."""
        self._check(gpa, length)
        return self._memory.read(gpa, length)

    def write(self, gpa: int, data: bytes) -> None:
        """Write `data` to guest-physical memory. Raises NoMemory."""
        self._check(gpa, len(data))
        self._memory.write(gpa, data)

    def _check(self, gpa: int, length: int) -> None:
        if gpa + length > self._end:
            raise NoMemory(f"there is no memory at {gpa:#x} to {gpa + length:#x}: it ends at {self._end:#x}")


def _pages(gpa: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield address and length of the pieces of a range that cross no page."""
    while length > 0:
        count = min(length, PAGE_SIZE - (gpa & PAGE_SIZE - 1))
        yield gpa, count
        gpa, length = gpa + count, length - count
