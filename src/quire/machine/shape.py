"""How guests of each kind are made under each Mmu, by (kind, Mmu): the one place that knows both by name.

Whoever wants to know what a guest may have asks its :class:`Shape`; nobody compares names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quire.arch import CpuProfile, cpuid, machine_cpuid
from quire.errors import MisuseError
from quire.memory.numa import Topology
from quire.mmu.backed import EptMmu
from quire.mmu.host import Host
from quire.mmu.own_memory import MachineEptMmu, MachineNativeMmu, MachineShadowMmu, machine_host
from quire.mmu.paged import NativeMmu, PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.shadow import ShadowMmu, ShadowOptions
from quire.paging import Tables
from quire.vcpu import VmxState

__all__ = ["KINDS", "MMUS", "MmuParts", "Shape", "shape_of"]

#: Every kind of guest: one whose kernel Quire plays, one that brings its own.
KINDS = ("process", "machine")
#: Every Mmu by name, the baseline first.
MMUS = ("native", "ept", "shadow")


@dataclass(frozen=True, slots=True)
class MmuParts:
    """What an Mmu is made of. `memory_map` is there under an Mmu that has one; sizes are in bytes."""

    host: Host
    vmx: VmxState
    guest_bytes: int
    host_page: int
    memory_map: Tables | None
    shadow: ShadowOptions
    placement: Placement

    @property
    def map(self) -> Tables:
        """The memory map, of a guest that has one."""
        assert self.memory_map is not None
        return self.memory_map


def _host(guest_bytes: int, page: int, topology: Topology | None) -> Host:
    return Host.for_guest(guest_bytes, page, topology)


def _low_host(guest_bytes: int, page: int, topology: Topology | None) -> Host:
    del page, topology
    return machine_host(guest_bytes)


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of guest under one Mmu. `make_host` gets guest memory, the page that backs it, and nodes or None."""

    make_mmu: Callable[[MmuParts], PagedMmu]
    has_map: bool  #: from guest-physical to host-physical memory, which regions, logs and migration need
    own_kernel: bool  #: the guest brings its kernel, so its processor's system registers are modelled
    shadows: bool = False  #: hardware walks tables that are kept equal to the guest's
    shares_host: bool = True  #: several such guests may live in one host's memory
    several_vcpus: bool = False
    make_host: Callable[[int, int, Topology | None], Host] = _host

    @property
    def hardware_walks_map(self) -> bool:
        """Whether hardware walks the map, and so keeps accessed and dirty flags in it."""
        return self.has_map and not self.shadows

    @property
    def cpuid(self) -> Callable[[CpuProfile, int, int], tuple[int, int, int, int]]:
        """What CPUID answers such a guest."""
        return machine_cpuid if self.own_kernel else cpuid


def _plain(mmu: Callable[[Host, VmxState, int, Placement], PagedMmu]) -> Callable[[MmuParts], PagedMmu]:
    return lambda parts: mmu(parts.host, parts.vmx, parts.guest_bytes, parts.placement)


def _ept(
    mmu: Callable[[Host, VmxState, int, int, Tables, Placement], PagedMmu],
) -> Callable[[MmuParts], PagedMmu]:
    return lambda parts: mmu(
        parts.host, parts.vmx, parts.guest_bytes, parts.host_page, parts.map, parts.placement
    )


def _shadow(
    mmu: Callable[[Host, VmxState, int, int, Tables, ShadowOptions, Placement], PagedMmu],
) -> Callable[[MmuParts], PagedMmu]:
    return lambda parts: mmu(
        parts.host,
        parts.vmx,
        parts.guest_bytes,
        parts.host_page,
        parts.map,
        parts.shadow,
        parts.placement,
    )


_SHAPES: Mapping[tuple[str, str], Shape] = MappingProxyType(
    {
        ("process", "native"): Shape(_plain(NativeMmu), has_map=False, own_kernel=False, several_vcpus=True),
        ("process", "ept"): Shape(_ept(EptMmu), has_map=True, own_kernel=False, several_vcpus=True),
        ("process", "shadow"): Shape(
            _shadow(ShadowMmu), has_map=True, own_kernel=False, shadows=True, several_vcpus=True
        ),
        ("machine", "native"): Shape(
            _plain(MachineNativeMmu),
            has_map=False,
            own_kernel=True,
            shares_host=False,
            several_vcpus=True,
            make_host=_low_host,
        ),
        ("machine", "ept"): Shape(_ept(MachineEptMmu), has_map=True, own_kernel=True, several_vcpus=True),
        ("machine", "shadow"): Shape(_shadow(MachineShadowMmu), has_map=True, own_kernel=True, shadows=True),
    }
)


def shape_of(kind: str, mmu: str) -> Shape:
    """Return the shape of guests of `kind` under `mmu`. Raises MisuseError for a name that is neither's."""
    if kind not in KINDS:
        raise MisuseError(f"No guest is of kind {kind!r}: give process or machine")
    if mmu not in MMUS:
        raise MisuseError(f"No Mmu is called {mmu!r}: give {' or '.join(MMUS)}")
    return _SHAPES[kind, mmu]
