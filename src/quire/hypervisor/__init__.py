"""The hypervisor: its life in named steps, its Mmus, the exit handlers, and the loop that runs a guest.

Contract: a hypervisor that could not be made leaves nothing behind; every VM exit goes through one table of handlers
that users may change; a guest sees the same results under each Mmu.
"""

from quire.hypervisor.access_tracking import AccessTracker, WorkingSet
from quire.hypervisor.audit import HostAudit, audit_host
from quire.hypervisor.backed_mmu import BackedMmu, EptMmu
from quire.hypervisor.caching import CachingMode
from quire.hypervisor.config import MMUS, GuestConfig
from quire.hypervisor.dirty import DirtyLog, DirtyPages, DirtyRing, DirtyRingFull, DirtyWay
from quire.hypervisor.handlers import DEFAULT_HANDLERS, GuestStopped, Handler
from quire.hypervisor.host import Host
from quire.hypervisor.hypervisor import STEPS, GuestKernel, Hypervisor
from quire.hypervisor.linear_memory import WalkedMemory
from quire.hypervisor.local_apic import LocalApic
from quire.hypervisor.machine_handlers import MACHINE_HANDLERS
from quire.hypervisor.machine_mmu import MachineEptMmu, MachineNativeMmu, MachineShadowMmu
from quire.hypervisor.mmu import NativeMmu, PagedMmu
from quire.hypervisor.msrs import Msr
from quire.hypervisor.numa import NumaConfig
from quire.hypervisor.ports import DEBUG_PORT, EXIT_PORT, DebugConsole, ExitPort, Port, Ports
from quire.hypervisor.processor import GENERAL, Processor
from quire.hypervisor.processor_exits import CrAccess, CrExit
from quire.hypervisor.regions import MemoryRegions, Region, RegionKind
from quire.hypervisor.regions.protection import protect_memory
from quire.hypervisor.shadow_mmu import ShadowMmu, ShadowOptions

__all__ = [
    "DEBUG_PORT",
    "DEFAULT_HANDLERS",
    "EXIT_PORT",
    "GENERAL",
    "MACHINE_HANDLERS",
    "MMUS",
    "STEPS",
    "AccessTracker",
    "BackedMmu",
    "CachingMode",
    "CrAccess",
    "CrExit",
    "DebugConsole",
    "DirtyLog",
    "DirtyPages",
    "DirtyRing",
    "DirtyRingFull",
    "DirtyWay",
    "EptMmu",
    "ExitPort",
    "GuestConfig",
    "GuestKernel",
    "GuestStopped",
    "Handler",
    "Host",
    "HostAudit",
    "Hypervisor",
    "LocalApic",
    "MachineEptMmu",
    "MachineNativeMmu",
    "MachineShadowMmu",
    "MemoryRegions",
    "Msr",
    "NativeMmu",
    "NumaConfig",
    "PagedMmu",
    "Port",
    "Ports",
    "Processor",
    "Region",
    "RegionKind",
    "ShadowMmu",
    "ShadowOptions",
    "WalkedMemory",
    "WorkingSet",
    "audit_host",
    "protect_memory",
]
