"""Machines: a guest's hardware made in named steps, its vCPUs, and the loop that runs them.

Contract: a machine that could not be made leaves nothing behind; every VM exit goes through one table of handlers
that users may change; a guest sees the same results under each Mmu.
"""

from quire.machine.caching import CachingMode
from quire.machine.config import MMUS, GuestConfig
from quire.machine.hypervisor import STEPS, GuestKernel, Hypervisor
from quire.machine.protection import protect_memory

__all__ = [
    "MMUS",
    "STEPS",
    "CachingMode",
    "GuestConfig",
    "GuestKernel",
    "Hypervisor",
    "protect_memory",
]
