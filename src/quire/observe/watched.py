"""What those who watch a machine from outside ask of it and of its vCPUs: the consumer's side."""

from collections.abc import Sequence
from typing import Protocol

from quire.arch import ExitReason
from quire.exits.context import Handler
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu
from quire.tlb import Operation
from quire.vcpu import Vmcs

__all__ = ["Closing", "WatchedMachine", "WatchedVcpu"]


class Closing(Protocol):
    """Something that is on until it is closed."""

    def close(self) -> None:
        """Stop. Idempotent."""
        ...


class WatchedVcpu(Protocol):
    """One vCPU; a :class:`quire.machine.Vcpu` is one."""

    @property
    def mmu(self) -> PagedMmu:
        """How its guest's addresses are translated."""
        ...

    @property
    def vmcs(self) -> Vmcs:
        """Its VMCS."""
        ...

    @property
    def host(self) -> Host:
        """The memory that its machine lives in."""
        ...

    def set_log_index(self, index: int) -> None:
        """Set where the page-modification log goes on, for VMCS and walk."""
        ...

    def follow_controls(self) -> None:
        """Let the walk follow the VMCS's controls now."""
        ...


class WatchedMachine(Protocol):
    """A machine; a :class:`quire.machine.Machine` is one."""

    handlers: dict[ExitReason, Handler]
    dirty_log: Closing | None  #: who logs the guest's writes now

    @property
    def mmu(self) -> PagedMmu:
        """The Mmu of the first vCPU, which knows the guest-physical memory of all."""
        ...

    @property
    def vcpus(self) -> Sequence[WatchedVcpu]:
        """Every vCPU, in order."""
        ...

    def shoot_down(self, operation: Operation) -> None:
        """Execute `operation` on every vCPU."""
        ...
