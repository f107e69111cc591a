"""What a guest kernel needs from the machine that it runs on: the consumer's side of the interface.

Quire plays the kernel of a process guest. It sees guest-physical frames, its own page tables and the vCPU's
registers, and nothing of the host: whether a second dimension lies below is the machine's business. An EPT
violation that a call here runs into is serviced inside the call, and counted.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from quire.arch import Access, CpuProfile
from quire.guest.kernel.meter import Tally
from quire.paging import Mapping, Rights
from quire.vcpu import Registers

__all__ = ["PageFault", "ProcessMachine", "Registers"]


@dataclass(frozen=True, slots=True)
class PageFault:
    """A user access that the guest's own tables refuse: what a #PF would deliver (SDM 3A §4.7)."""

    gva: int
    error_code: int


class ProcessMachine(Protocol):
    """The vCPU that runs and its guest-physical memory, as a process guest's kernel uses them. Sizes are in bytes."""

    @property
    def registers(self) -> Registers:
        """The registers of the vCPU that runs."""
        ...

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs there are."""
        ...

    @property
    def profile(self) -> CpuProfile:
        """The processor."""
        ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """Return what CPUID answers."""
        ...

    def memory_sizes(self) -> tuple[int, int]:
        """Return the bytes of guest memory, and of them those that nobody has."""
        ...

    @property
    def node(self) -> int:
        """Where the vCPU runs."""
        ...

    def go_to(self, number: int) -> None:
        """Work on vCPU `number` from now on."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Return the context at whose end other vCPUs are told, once, of all pages that went meanwhile."""
        ...

    def leave(self, other: "ProcessMachine") -> None:
        """Have no vCPU's CR3 point to these tables, but to those of `other`: they are about to be freed."""
        ...

    def begin_slice(self, blocks: int) -> None:
        """Interrupt the guest after so many blocks of instructions."""
        ...

    def begin_steps(self, instructions: int) -> None:
        """Interrupt the guest after so many instructions. Costs a call an instruction, from the first time on."""
        ...

    @property
    def slice_over(self) -> bool:
        """Whether all of them have run."""
        ...

    def instructions(self) -> int:
        """Return how many instructions the vCPU that runs has executed, 0 where nobody counts them."""
        ...

    def tally(self) -> Tally:
        """Return what the vCPU that runs has counted."""
        ...

    @property
    def table_count(self) -> int:
        """How many frames the tables of this address space take."""
        ...

    def held(self) -> int:
        """Return how many entries of its TLBs the loaded address space has; 0 where accesses are not seen."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether CR3 points to the tables of this address space, and nothing that went is cached."""
        ...

    def load(self) -> bool:
        """Execute MOV to CR3; return whether it had to drop what was cached under this PCID."""
        ...

    def loaded_one(self) -> "ProcessMachine":
        """Return the machine with the address space that CR3 points to."""
        ...

    def another(self, pcid: int) -> "ProcessMachine":
        """Return the machine with an empty address space. Raises OutOfFrames."""
        ...

    def close(self) -> None:
        """Free the tables of this address space, which is not loaded."""
        ...

    @property
    def page_size(self) -> int:
        """The largest page that the kernel should map for anonymous memory: 4 KiB or 2 MiB."""
        ...

    def allocate(self, size: int) -> int | None:
        """Return the GPA of `size` (4 KiB or 2 MiB) zeroed, aligned bytes, or None when memory is exhausted."""
        ...

    def free(self, gpa: int, size: int) -> None:
        """Take back what :meth:`allocate` returned. Nothing may map it any more."""
        ...

    def map(self, gva: int, gpa: int, size: int, rights: Rights) -> None:
        """Map one user page. Raises OutOfFrames when no frame is left for a table."""
        ...

    def unmap(self, gva: int) -> Mapping:
        """Remove the page that maps `gva`, invalidate its cached translations, return what it was."""
        ...

    def protect(self, gva: int, rights: Rights) -> None:
        """Change the rights of the page that maps `gva` and invalidate its cached translations."""
        ...

    def split(self, gva: int, *, divide: bool = True) -> None:
        """Turn the 2 MiB page that maps `gva` into 512 pages of 4 KiB; with `divide` its frames into single ones."""
        ...

    def dirty_pages(self, region: int) -> list[int]:
        """Return the addresses of the small pages that were written in the 2 MiB at `region`, in order."""
        ...

    def copy_pages(self, other: "ProcessMachine", pages: Sequence[int]) -> None:
        """Have `other`, the tables of another address space, map the small pages at `pages` as these do, in order.

        Neither may write them then, and what is cached of these is dropped. Raises OutOfFrames.
        """
        ...

    def move_tables(self, start: int, end: int, to: int) -> None:
        """Have the small pages from `start` to `end` be mapped from `to` on, by their tables: all three are multiples
        of 2 MiB. Raises OutOfFrames before anything has changed.
        """
        ...

    def lookup(self, gva: int) -> Mapping | None:
        """Return the page that maps `gva`, or None. No side effect."""
        ...

    def physical(self, gpa: int, length: int, *, write: bool = False) -> memoryview:
        """Return the bytes of guest-physical memory at `gpa`; they must not cross a 4 KiB boundary.

        The view is for use at once. With `write` the machine notes that the frame changes, so that code
        cached from it is dropped.
        """
        ...

    def user(self, gva: int, length: int, access: Access) -> memoryview | PageFault:
        """Return the bytes at user address `gva` as a user-mode access of kind `access` would reach them.

        They must not cross a 4 KiB boundary. Translates through the guest's own tables with their rights,
        sets accessed and dirty flags; a refusal is a value.
        """
        ...
