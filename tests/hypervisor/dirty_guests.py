"""Guests whose writes are logged, driven without a Cpu: what Quire's own kernel and user accesses do."""

import numpy as np

from quire.arch import Access
from quire.guest.kernel.virtual_machine import VirtualMachine
from quire.machine import GuestConfig, Hypervisor
from quire.mmu import BackedMmu


class NoCpu:
    """A Cpu that never runs."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.registers = self

    def read(self, name: str) -> int:
        return 0

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [2 if name == "rflags" else 0 for name in names]

    def forget(self, gva: int | None) -> None: ...

    def forget_code(self, hpa: int, length: int) -> None: ...

    def close(self) -> None: ...


def make(mmu: str = "ept", **options) -> Hypervisor:
    return Hypervisor(GuestConfig(mmu=mmu, memory=8 << 20, **options), NoCpu)  # type: ignore[arg-type]


def machine_of(hypervisor: Hypervisor) -> VirtualMachine:
    return VirtualMachine(hypervisor)


def write_user(machine: VirtualMachine, gva: int, data: bytes) -> None:
    view = machine.user(gva, len(data), Access.WRITE)
    assert isinstance(view, memoryview), view
    view[:] = data


def snapshot(hypervisor: Hypervisor) -> dict[int, bytes]:
    """Return every backed guest frame's contents."""
    mmu, memory = hypervisor.mmu, hypervisor.host.memory
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


def tables_of(hypervisor: Hypervisor) -> set[int]:
    """Return the guest frames that hold the guest's tables."""
    return {table >> 12 for table in hypervisor.mmu.tables._present}


def as_set(frames: np.ndarray) -> set[int]:
    return set(frames.tolist())
