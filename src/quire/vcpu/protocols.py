"""What the hypervisor asks of a Cpu and of an Mmu: the consumer's side of both interfaces."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import Access
from quire.paging import Mapping, Rights, WalkRecord
from quire.vcpu.stop import Stop

__all__ = ["Cpu", "Mmu", "Registers"]


class Registers(Protocol):
    """The vCPU's registers, by the manual's lower-case names."""

    def read(self, name: str) -> int:
        """Return one register, unsigned."""
        ...

    def write(self, name: str, value: int) -> None:
        """Set one register, modulo its width."""
        ...

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        """Return several registers."""
        ...

    def write_many(self, values: dict[str, int]) -> None:
        """Set several registers."""
        ...

    def save_fpu(self) -> bytes:
        """Return x87 and SSE state as a 512-byte FXSAVE64 image."""
        ...

    def load_fpu(self, image: bytes) -> None:
        """Set x87 and SSE state from such an image."""
        ...


class Cpu(Protocol):
    """What executes instructions. Translation is the Mmu's; a Cpu asks for it and may cache the answer."""

    @property
    def registers(self) -> Registers:
        """The guest's registers; valid while the Cpu does not run."""
        ...

    def run(self) -> Stop:
        """Execute guest instructions until something must be dealt with."""
        ...

    def step(self, then: Callable[[], None]) -> None:
        """Have the next instruction run alone, and call `then` when it has passed, or before another runs."""
        ...

    def interrupt(self) -> None:
        """Make :meth:`run` return Interrupted soon. The one method that another thread may call."""
        ...

    def forget(self, gva: int | None) -> None:
        """Drop what is cached of the translation of the page at `gva`, or of all pages."""
        ...

    def forget_code(self, hpa: int, length: int) -> None:
        """Drop what was compiled from these bytes of host memory: they change or leave the guest."""
        ...

    def events(self) -> dict[str, int]:
        """Return what the Cpu counted so far, by the names of its event list."""
        ...

    def close(self) -> None:
        """Give the engine back. The Cpu cannot run any more."""
        ...


class Mmu(Protocol):
    """How guest-virtual becomes host-physical: page-table, TLB and cache operations behind one interface."""

    name: str
    context: npt.NDArray[np.uint64]

    def map(self, gva: int, gpa: int, size: int, rights: Rights) -> None:
        """Map a guest page in the guest's own tables."""
        ...

    def unmap(self, gva: int) -> Mapping:
        """Remove a guest page and invalidate its translations."""
        ...

    def protect(self, gva: int, rights: Rights) -> None:
        """Change a guest page's rights and invalidate its translations."""
        ...

    def split(self, gva: int) -> None:
        """Split a large guest page into small ones."""
        ...

    def lookup(self, gva: int) -> Mapping | None:
        """Return the guest page that maps `gva`."""
        ...

    def walk(self, gva: int, access: Access, *, user: bool = True) -> WalkRecord:
        """Translate as the processor would, without side effects: the explained walk."""
        ...

    def translate(self, gva: int, access: Access) -> tuple[int, int]:
        """Translate with accessed and dirty updates; return (status, HPA or error) of the compiled walk."""
        ...

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of guest-physical `gpa`, making it present first if need be."""
        ...

    def invalidate(self, gva: int | None) -> None:
        """INVLPG of one page, or all non-global translations of the current address space."""
        ...

    def close(self) -> None:
        """Free every table and page."""
        ...
