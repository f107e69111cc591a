"""A checked run: the flush sanitizer joined to a hypervisor, and every writer of its tables to the log."""

from typing import TYPE_CHECKING

from quire.hypervisor.backed_mmu import EptMmu
from quire.hypervisor.caching import CachingMode
from quire.hypervisor.flushes import Actor, FlushCheck, LoggedEntries, LoggedTables, TableLog
from quire.hypervisor.shadow_mmu import ShadowMmu
from quire.paging import Context

if TYPE_CHECKING:
    from quire.hypervisor.hypervisor import Hypervisor

__all__ = ["check_flushes"]

_VCPU = "vCPU 0"


def check_flushes(hypervisor: "Hypervisor") -> FlushCheck:
    """Return the check of `hypervisor`'s vCPU; writes of tables that hardware walks are logged from now on."""
    mmu, config = hypervisor.mmu, hypervisor.config
    machine = config.kind == "machine"
    log = TableLog()

    def actor(kind: str) -> Actor:
        """Who acts; without a name, who executes an invalidation: the guest's kernel, which Quire may play."""
        rip = hypervisor.guest_rip
        cpl = 3 if mmu.context[Context.USER] and kind == "guest" else 0
        return Actor(kind or ("guest" if machine else "kernel"), _VCPU, rip, cpl, mmu.pcid)

    if isinstance(mmu, ShadowMmu):
        shadow = mmu.shadow.tables
        shadow.memory = LoggedEntries(shadow.memory, log, lambda: actor("hypervisor"))
    elif not machine:
        mmu.tables.memory = LoggedTables(mmu.tables.memory, mmu.entry_hpa, log, lambda: actor("kernel"))
    if isinstance(mmu, EptMmu):
        memory_map = mmu.memory_map
        memory_map.memory = LoggedTables(memory_map.memory, int, log, lambda: actor("hypervisor"))
    retain = config.caching is CachingMode.RETAIN
    watches = machine and not isinstance(mmu, ShadowMmu)
    return FlushCheck(mmu, log, actor, vcpu=_VCPU, retain=retain, watches=watches)
