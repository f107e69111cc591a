"""The registers of a Cpu in ring 0: those of the soft Cpu, and two that the engine keeps to itself."""

from quire.cpu.soft.engine import Engine
from quire.cpu.soft.registers import SoftRegisters
from quire.cpu.soft.ring0.environment import Environment

__all__ = ["MachineRegisters"]


class MachineRegisters(SoftRegisters):
    """Adds `star` and `kernel_gs_base`, which SYSRET and SWAPGS use inside the engine."""

    def __init__(self, engine: Engine, environment: Environment) -> None:
        super().__init__(engine)
        self._environment = environment

    def read(self, name: str) -> int:
        """Return one register, unsigned."""
        if name == "star":
            return self._environment.star
        if name == "kernel_gs_base":
            return self._environment.kernel_gs_base
        return super().read(name)

    def write(self, name: str, value: int) -> None:
        """Set one register, modulo 2**64."""
        if name == "star":
            self._environment.star = value
        elif name == "kernel_gs_base":
            self._environment.kernel_gs_base = value
        else:
            super().write(name, value)
