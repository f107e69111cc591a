"""What the loop asks of the guest's kernel, which Quire plays for process guests."""

from typing import Protocol

__all__ = ["GuestKernel"]


class GuestKernel(Protocol):
    """Who deals with what stops a guest and is no VM exit."""

    @property
    def finished(self) -> bool:
        """Whether the guest has ended."""
        ...

    def syscall(self) -> None:
        """Deal with the SYSCALL that the guest executed."""
        ...

    def page_fault(self, gva: int, error_code: int) -> None:
        """Deal with a #PF."""
        ...

    def exception(self, vector: int, error_code: int) -> None:
        """Deal with any other exception."""
        ...

    def software_interrupt(self, vector: int) -> None:
        """Deal with INT n or INT3; RIP is behind the instruction."""
        ...

    def interrupted(self) -> None:
        """Deal with what interrupted the Cpu from outside."""
        ...
