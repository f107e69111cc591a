"""Caching modes and the flush check, joined to a hypervisor: who answers fills, and who writes tables."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from quire.machine.caching import CachingMode
from quire.mmu.backed import EptMmu
from quire.mmu.kept_fills import KeptFills
from quire.mmu.replicated_tables import ReplicatedTables
from quire.mmu.shadow import ShadowMmu
from quire.observe.flushes import Actor, FlushCheck, LoggedEntries, LoggedTables, TableLog, Watched
from quire.paging import Context

if TYPE_CHECKING:
    from quire.machine.hypervisor import Hypervisor

__all__ = ["choose_fills"]


def choose_fills(hypervisor: "Hypervisor") -> None:
    """Make what the vCPU of `hypervisor` needs besides walks, by its configuration."""
    config, number = hypervisor.config, len(hypervisor.vcpus)
    retain = config.caching is CachingMode.RETAIN
    hypervisor.flush_check = _check(hypervisor, f"vCPU {number}") if config.check_flushes else None
    if retain or config.check_flushes:
        hypervisor.fills = KeptFills(hypervisor.mmu, retain=retain, check=hypervisor.flush_check)
        hypervisor.tlb.observers.append(hypervisor.fills.observe)
    if config.caching is CachingMode.EVICT:
        hypervisor.evictions = random.Random(config.seed + number)


def _check(hypervisor: "Hypervisor", vcpu: str) -> FlushCheck:
    """Return the check of one vCPU; the log and the watched frames are those of the first."""
    mmu, config = hypervisor.mmu, hypervisor.config
    machine = config.kind == "machine"

    def actor(kind: str) -> Actor:
        """Who acts; without a name, who executes an invalidation: the guest's kernel, which Quire may play."""
        cpl = 3 if mmu.context[Context.USER] and kind == "guest" else 0
        kind = kind or ("guest" if machine else "kernel")
        return Actor(kind, vcpu, hypervisor.guest_rip, cpl, mmu.pcid)

    first = hypervisor.vcpus[0].flush_check if hypervisor.vcpus else None
    watches = machine and not isinstance(mmu, ShadowMmu)
    if first is None:
        log, watched = TableLog(), Watched() if watches else None
        _log_tables(hypervisor, log, actor)
    else:
        log, watched = first.log, first.watched
    retain = config.caching is CachingMode.RETAIN
    return FlushCheck(mmu, log, actor, vcpu=vcpu, retain=retain, watched=watched)


def _log_tables(hypervisor: "Hypervisor", log: TableLog, actor: Callable[[str], Actor]) -> None:
    """Have writes of tables that hardware walks noted from now on."""
    mmu = hypervisor.mmu
    if isinstance(mmu, ShadowMmu):
        shadow = mmu.shadow.tables
        if not _log_copies(shadow.memory, log, actor):
            shadow.memory = LoggedEntries(shadow.memory, log, lambda: actor("hypervisor"))
    elif hypervisor.config.kind == "process":
        mmu.tables.memory = LoggedTables(mmu.tables.memory, mmu.entry_hpa, log, lambda: actor("kernel"))
    if isinstance(mmu, EptMmu):
        memory_map = mmu.memory_map
        if not _log_copies(memory_map.memory, log, actor):
            memory_map.memory = LoggedTables(memory_map.memory, int, log, lambda: actor("hypervisor"))


def _log_copies(memory: object, log: TableLog, actor: Callable[[str], Actor]) -> bool:
    """Have writes of each copy noted where that lies, if `memory` is of tables with copies; return whether it is."""
    if not isinstance(memory, ReplicatedTables):
        return False
    memory.entries = LoggedEntries(memory.entries, log, lambda: actor("hypervisor"))
    return True
