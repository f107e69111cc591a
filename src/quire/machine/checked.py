"""Caching modes and the flush check, joined to a vCPU: who answers fills, and who writes tables."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from quire.machine.caching import CachingMode
from quire.machine.config import GuestConfig
from quire.mmu.kept_fills import KeptFills
from quire.mmu.paged import PagedMmu
from quire.mmu.replicated_tables import ReplicatedTables
from quire.observe.flushes import Actor, FlushCheck, LoggedEntries, LoggedTables, TableLog, Watched
from quire.paging import Context

__all__ = ["Fills", "choose_fills"]


@dataclass(frozen=True, slots=True)
class Fills:
    """What a vCPU needs besides walks."""

    check: FlushCheck | None = None  #: of a checked run
    kept: KeptFills | None = None  #: who says what the guest gets of a page, None for the walk
    evictions: random.Random | None = None  #: what goes when, in evict mode


def choose_fills(
    mmu: PagedMmu, config: GuestConfig, number: int, rip: Callable[[], int], first: FlushCheck | None
) -> Fills:
    """Return what vCPU `number` needs; `rip` says where it stands, `first` is the check of the first vCPU."""
    retain = config.caching is CachingMode.RETAIN
    check = _check(mmu, config, f"vCPU {number}", rip, first) if config.check_flushes else None
    kept = KeptFills(mmu, retain=retain, check=check) if retain or check is not None else None
    evictions = random.Random(config.seed + number) if config.caching is CachingMode.EVICT else None
    return Fills(check, kept, evictions)


def _check(
    mmu: PagedMmu, config: GuestConfig, vcpu: str, rip: Callable[[], int], first: FlushCheck | None
) -> FlushCheck:
    """Return the check of one vCPU; the log and the watched frames are those of the first."""
    shape = config.shape

    def actor(kind: str) -> Actor:
        """Who acts; without a name, who executes an invalidation: the guest's kernel, which Quire may play."""
        cpl = 3 if mmu.context[Context.USER] and kind == "guest" else 0
        kind = kind or ("guest" if shape.own_kernel else "kernel")
        return Actor(kind, vcpu, rip(), cpl, mmu.pcid)

    if first is None:
        watches = shape.own_kernel and not shape.shadows
        log, watched = TableLog(actor), Watched() if watches else None
        _log_tables(mmu, log)
    else:
        log, watched = first.log, first.watched
        _log_shadow(mmu, log)
    retain = config.caching is CachingMode.RETAIN
    return FlushCheck(mmu, log, actor, vcpu=vcpu, retain=retain, watched=watched)


def _log_tables(mmu: PagedMmu, log: TableLog) -> None:
    """Have writes of tables that hardware walks noted from now on."""
    mapped = mmu.mapped
    if mmu.shadowed is not None:
        _log_shadow(mmu, log)
    elif mmu.builds_tables:
        mmu.logged = lambda tables: LoggedTables(tables, mmu.entry_hpa, log, lambda: log.acting("kernel"))
        mmu.tables.memory = mmu.logged(mmu.tables.memory)
    if mapped is not None and mapped.hardware_walks_map:
        memory_map = mapped.memory_map
        if not _log_copies(memory_map.memory, log):
            memory_map.memory = LoggedTables(memory_map.memory, int, log, lambda: log.acting("hypervisor"))


def _log_shadow(mmu: PagedMmu, log: TableLog) -> None:
    """Have writes of a vCPU's own shadow tables noted from now on, if it has some."""
    if mmu.shadowed is not None:
        shadow = mmu.shadowed.shadow.tables
        if not _log_copies(shadow.memory, log):
            shadow.memory = LoggedEntries(shadow.memory, log, lambda: log.acting("hypervisor"))


def _log_copies(memory: object, log: TableLog) -> bool:
    """Have writes of each copy noted where that lies, if `memory` is of tables with copies; return whether it is."""
    if not isinstance(memory, ReplicatedTables):
        return False
    memory.entries = LoggedEntries(memory.entries, log, lambda: log.acting("hypervisor"))
    return True
