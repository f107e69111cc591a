"""What a debugger asks of a guest: the consumer's side of the interface."""

from typing import Protocol

__all__ = ["Target"]


class Target(Protocol):
    """A guest that stands still between two calls. Threads are numbered from 1: a machine's vCPUs are."""

    @property
    def threads(self) -> int:
        """How many there are."""
        ...

    @property
    def current(self) -> int:
        """The thread that the last stop was of."""
        ...

    def name(self, thread: int) -> str:
        """Return what a person calls a thread."""
        ...

    def registers(self, thread: int) -> list[int]:
        """Return the value of every register, in gdb's order."""
        ...

    def write_register(self, thread: int, number: int, value: int) -> bool:
        """Set one; return False for one that cannot be set."""
        ...

    def read(self, thread: int, address: int, length: int, *, physical: bool) -> bytes:
        """Return memory, as much as there is from `address` on: linear, or guest-physical."""
        ...

    def write(self, thread: int, address: int, data: bytes, *, physical: bool) -> bool:
        """Write memory; return False where there is none, and nothing was written."""
        ...

    def set_breakpoints(self, places: frozenset[int]) -> None:
        """Stop in front of instructions at these linear addresses, and at no others."""
        ...

    def go_on(self) -> str | None:
        """Run until a breakpoint, :meth:`interrupt` or the end; return None, or how the guest ended."""
        ...

    def step(self, thread: int) -> str | None:
        """Execute one instruction of `thread`; return None, or how the guest ended."""
        ...

    def interrupt(self) -> None:
        """End :meth:`go_on`. Any thread of the host may call."""
        ...
