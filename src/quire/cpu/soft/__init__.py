"""The soft Cpu: Unicorn executes, and every translation that it needs is a walk through Quire's own tables.

Contract: no privilege is needed, a fault leaves the guest exactly before the instruction, and same input gives the
same counts. Unicorn is GPL-2; this room is the only one that imports it. Not modelled: AVX (CPUID does not claim
it), alignment faults of SSE operands, self-modifying code through two linear addresses of one frame.
"""

from unicorn.unicorn_py3.unicorn import uclib

from quire.cpu.soft.soft import SoftCpu
from quire.cpu.soft.state import SoftState
from quire.kernels.place import call_into

__all__ = ["SoftCpu", "SoftState"]

call_into(uclib)  # hooks call the engine's functions by name
