"""Machines: a guest's hardware made in named steps, its vCPUs, and the loop that runs them.

Contract: a machine that could not be made leaves nothing behind; every VM exit goes through one table of handlers
that users may change; a guest sees the same results under each Mmu.
"""

from quire.machine.caching import CachingMode
from quire.machine.config import MOST_VCPUS, GuestConfig
from quire.machine.guest_kernel import GuestKernel
from quire.machine.machine import STEPS, Machine
from quire.machine.protection import protect_memory
from quire.machine.reclaim import reclaim
from quire.machine.shape import KINDS, MMUS, shape_of
from quire.machine.vcpu import MakeCpu, Vcpu

__all__ = [
    "KINDS",
    "MMUS",
    "MOST_VCPUS",
    "STEPS",
    "CachingMode",
    "GuestConfig",
    "GuestKernel",
    "Machine",
    "MakeCpu",
    "Vcpu",
    "protect_memory",
    "reclaim",
    "shape_of",
]
