"""Cpus: what executes guest instructions. Each fulfils the Cpu protocol of the vcpu room.

Contract: an engine says what it can do, and is chosen by name; whoever needs what it lacks is refused by name.
``soft`` (Unicorn; no privilege needed) is the one that there is; a new one is entered in :mod:`quire.cpu.registry`.
"""

from quire.cpu.detail import Detail
from quire.cpu.registry import Engine, engines, make_cpu, register

__all__ = ["Detail", "Engine", "engines", "make_cpu", "register"]
