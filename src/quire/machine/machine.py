"""A machine: a guest's hardware, made in named steps, each with its undo.

Steps, in order: memory, EPT, then for each vCPU vCPU, memory management, TLB, enable. A step that fails undoes those
before it, last first, and the pool is as it was.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from quire.arch import PAGE_SHIFT, ExitReason
from quire.devices.bus import Bus
from quire.devices.ports import Ports
from quire.errors import MisuseError
from quire.exits.context import Handler
from quire.exits.table import HANDLERS
from quire.machine.config import MOST_VCPUS, GuestConfig, check_several
from quire.machine.vcpu import MakeCpu, Vcpu
from quire.mmu.backed import make_ept
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu
from quire.mmu.placement import Placement
from quire.paging import Tables
from quire.tlb import Operation

__all__ = ["STEPS", "DirtyLogging", "Machine"]

#: The steps of creation of a machine with one vCPU, in order.
STEPS = ("memory", "EPT", "vCPU", "memory management", "TLB", "enable")


class DirtyLogging(Protocol):
    """Who logs the guest's writes, as its machine knows it."""

    def close(self) -> None:
        """Stop logging. Idempotent."""
        ...


class Machine:
    """The hardware that `config` describes. `make_cpu` makes the engine of each vCPU; machines may share a `host`.

    `on_step` hears of each step before it happens. Raises what a step raises, with everything undone.
    """

    host: Host
    placement: Placement  #: where its memory comes from
    memory_map: Tables | None = (
        None  #: from guest-physical to host-physical: EPT, or what a shadow is composed with
    )

    def __init__(
        self,
        config: GuestConfig,
        make_cpu: MakeCpu,
        *,
        host: Host | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.config = config
        self.handlers: dict[ExitReason, Handler] = dict(HANDLERS)
        self.ports = Ports()
        self.bus = Bus()
        self.vcpus: list[Vcpu] = []  #: in order
        self.dirty_log: DirtyLogging | None = None  #: while the guest's writes are logged
        self._make_cpu = make_cpu
        self._given_host = host
        with ExitStack() as undo:
            on_step("memory")
            self._take_memory(undo)
            on_step("EPT")
            if config.shape.has_map:
                self.memory_map = make_ept(self.host, self.placement)
                undo.callback(self.memory_map.close)
            undo.callback(self._close_vcpus)
            for _ in range(config.vcpus):
                self._add(on_step)
            self._undo = undo.pop_all()

    @property
    def vcpu(self) -> Vcpu:
        """The first vCPU, the only one of most machines."""
        return self.vcpus[0]

    @property
    def mmu(self) -> PagedMmu:
        """The Mmu of the first vCPU, which knows the guest-physical memory of all."""
        return self.vcpus[0].mmu

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; return False when the guest has no memory there."""
        return self.mmu.back(gpa)

    def add_vcpu(self) -> Vcpu:
        """Return one vCPU more. Raises MisuseError for a machine that cannot have it."""
        check_several(self.config)
        if len(self.vcpus) == MOST_VCPUS:
            raise MisuseError(f"A guest with {MOST_VCPUS} vCPUs cannot get another: that is the most")
        if self.dirty_log is not None:
            raise MisuseError("A vCPU cannot join while the guest's writes are logged: leave the log first")
        return self._add(lambda step: None)

    def shoot_down(
        self,
        operation: Operation,
        *,
        vcpus: Sequence[Vcpu] | None = None,
        pcid: int = 0,
        gva: int = 0,
        gpa: int = 0,
    ) -> None:
        """Execute `operation` on `vcpus`, by default every vCPU of the guest: a flush that the hypervisor asks for.

        VPID and EP4TA are those of each vCPU.
        """
        for one in self.vcpus if vcpus is None else vcpus:
            one.flush(operation, pcid=pcid, gva=gva, gpa=gpa)

    def forget_code(self, hpa: int, length: int) -> None:
        """Bytes of host memory change behind the guest's back: no vCPU may go on with code compiled from them."""
        for one in self.vcpus:
            one.cpu.forget_code(hpa, length)

    def close(self) -> None:
        """Undo every step, last first."""
        if self.dirty_log is not None:
            self.dirty_log.close()
        self._undo.close()

    def discard(self) -> None:
        """End with the host: free engines and memory, not frame by frame. A shared host is left in order."""
        if self._given_host is not None:
            self.close()
            return
        for one in reversed(self.vcpus):
            one.discard()
        self._undo.pop_all()
        self.host.close()

    def _add(self, on_step: Callable[[str], None]) -> Vcpu:
        made = Vcpu(self, len(self.vcpus), self._make_cpu, on_step)
        self.vcpus.append(made)
        return made

    def _close_vcpus(self) -> None:
        while self.vcpus:
            self.vcpus.pop().close()

    def _take_memory(self, undo: ExitStack) -> None:
        config, shape = self.config, self.config.shape
        if self._given_host is None:
            page = config.host_page if shape.has_map else config.guest_page
            nodes = None if config.numa is None else config.numa.topology
            tables = 0
            if shape.shadows:  # there is room for those of one
                tables = (config.vcpus - 1) * config.shadow.limit(config.memory) << PAGE_SHIFT
            self.host = shape.make_host(config.memory + tables, page, nodes)
            undo.callback(self.host.close)
        elif shape.shares_host:
            self.host = self._given_host
        else:
            raise MisuseError(
                "A machine guest's memory under native is host memory from 0: it cannot share a host"
            )
        self.placement = Placement(self.host, config.numa)
