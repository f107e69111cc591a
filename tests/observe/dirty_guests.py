"""Guests whose writes are logged, driven without a Cpu: what Quire's own kernel and user accesses do."""

import numpy as np

from quire.arch import Access
from quire.guest.kernel.processors import Processors
from quire.guest.kernel.virtual_machine import VirtualMachine
from quire.machine import GuestConfig, Machine
from quire.mmu import BackedMmu


class NoCpu:
    """A Cpu that never runs."""

    def __init__(self, machine: Machine) -> None:
        self.registers = self

    def read(self, name: str) -> int:
        return 0

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [2 if name == "rflags" else 0 for name in names]

    def forget(self, gva: int | None) -> None: ...

    def forget_code(self, hpa: int, length: int) -> None: ...

    def close(self) -> None: ...


def make(mmu: str = "ept", **options) -> Machine:
    return Machine(GuestConfig(mmu=mmu, memory=8 << 20, **options), NoCpu)  # type: ignore[arg-type]


def machine_of(machine: Machine) -> VirtualMachine:
    return VirtualMachine(Processors(machine.vcpus))


def write_user(kernel_view: VirtualMachine, gva: int, data: bytes) -> None:
    view = kernel_view.user(gva, len(data), Access.WRITE)
    assert isinstance(view, memoryview), view
    view[:] = data


def snapshot(machine: Machine) -> dict[int, bytes]:
    """Return every backed guest frame's contents."""
    mmu, memory = machine.vcpu.mmu, machine.host.memory
    assert isinstance(mmu, BackedMmu)
    found = mmu.memory_map.leaves(0, 1 << 48)
    pages = {}
    for start, target, level in zip(
        found.starts.tolist(), found.targets.tolist(), found.levels.tolist(), strict=True
    ):
        for n in range(512 ** (level - 1)):
            pages[(start >> 12) + n] = memory.read(target + 4096 * n, 4096)
    return pages


def changed(before: dict[int, bytes], after: dict[int, bytes]) -> set[int]:
    """Return the frames whose contents differ; one that was not there read as zero."""
    zero = bytes(4096)
    return {frame for frame, data in after.items() if data != before.get(frame, zero)}


def tables_of(machine: Machine) -> set[int]:
    """Return the guest frames that hold the guest's tables."""
    return {table >> 12 for table in machine.vcpu.mmu.tables._present}


def as_set(frames: np.ndarray) -> set[int]:
    return set(frames.tolist())
