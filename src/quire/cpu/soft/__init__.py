"""The soft Cpu: Unicorn executes, and every translation that it needs is a walk through Quire's own tables.

Contract: no privilege is needed, a fault leaves the guest exactly before the instruction, and same input gives the
same counts. Unicorn is GPL-2; this room is the only one that imports it. Not modelled: AVX (CPUID does not claim
it), alignment faults of SSE operands, self-modifying code through two linear addresses of one frame.
"""

from llvmlite import binding

from quire.cpu.soft.engine import LIBRARY_PATH

binding.load_library_permanently(LIBRARY_PATH)  # the hooks call uc_emu_stop by name

from quire.cpu.soft.soft import SoftCpu  # noqa: E402 - its kernels resolve that name
from quire.cpu.soft.state import SoftState  # noqa: E402

__all__ = ["SoftCpu", "SoftState"]
