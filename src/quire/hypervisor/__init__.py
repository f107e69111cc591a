"""The hypervisor: its life in named steps, its Mmus, the exit handlers, and the loop that runs a guest.

Contract: a hypervisor that could not be made leaves nothing behind; every VM exit goes through one table of handlers
that users may change; a guest sees the same results under each Mmu.
"""

from quire.hypervisor.handlers import DEFAULT_HANDLERS, GuestStopped, Handler
from quire.hypervisor.host import Host
from quire.hypervisor.hypervisor import STEPS, GuestConfig, GuestKernel, Hypervisor
from quire.hypervisor.mmu import EptMmu, NativeMmu, PagedMmu

__all__ = [
    "DEFAULT_HANDLERS",
    "STEPS",
    "EptMmu",
    "GuestConfig",
    "GuestKernel",
    "GuestStopped",
    "Handler",
    "Host",
    "Hypervisor",
    "NativeMmu",
    "PagedMmu",
]
