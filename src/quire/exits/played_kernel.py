"""The system registers of a guest whose kernel Quire plays: of their instructions it executes only those that flush."""

from quire.arch import Vector
from quire.mmu.paged import PagedMmu
from quire.vcpu import Event

__all__ = ["PlayedKernel"]

_GP = Event.exception(Vector.GP, 0)


class PlayedKernel:
    """The kernel of the process guest behind `mmu`. A program at CPL 3 has no register of these: #GP."""

    def __init__(self, mmu: PagedMmu) -> None:
        self._mmu = mmu
        self.cr2 = 0
        self.debug = [0] * 8

    def read_cr(self, number: int) -> int:
        """Return CR3; the played kernel reads no other."""
        del number
        return self._mmu.vmx.vmcs.read("guest_cr3")

    def write_cr(self, number: int, value: int) -> Event | None:
        """MOV to CR3 of the same value, for its flush; any other register is #GP."""
        del value
        if number != 3 or self._mmu.shadowed is None:
            return _GP
        self._mmu.shadowed.perform_invalidation(None)
        return None

    def read_msr(self, number: int) -> int | Event:
        """Return #GP."""
        del number
        return _GP

    def write_msr(self, number: int, value: int) -> Event | None:
        """Return #GP."""
        del number, value
        return _GP

    def invlpg(self, gva: int) -> None:
        """INVLPG, which exits under shadow alone."""
        if self._mmu.shadowed is not None:
            self._mmu.shadowed.perform_invalidation(gva)

    def invpcid(self, kind: int, descriptor: int) -> Event | None:
        """Return #GP."""
        del kind, descriptor
        return _GP
