"""The soft Cpu that a vCPU of a machine needs: one for programs, one for guests with a kernel of their own."""

from quire.cpu.detail import Detail
from quire.cpu.soft import SoftCpu
from quire.cpu.soft.process import ProcessCpu
from quire.cpu.soft.proof import why_hooks
from quire.cpu.soft.ring0 import MachineCpu
from quire.cpu.soft.shared_frames import frames_of
from quire.machine import Vcpu

__all__ = ["make_soft", "make_soft_hooks"]


def make_soft(vcpu: Vcpu, detail: Detail) -> SoftCpu:
    """Return the engine of `vcpu`, counting as `detail` says, and by hooks where the engine's code is not proved."""
    why = why_hooks() if detail is Detail.FULL else None
    made = _make(vcpu, detail, by_hooks=why is not None)
    made.slowed = why
    return made


def make_soft_hooks(vcpu: Vcpu, detail: Detail) -> SoftCpu:
    """Return the engine of `vcpu` that counts by hooks alone."""
    return _make(vcpu, detail, by_hooks=True)


def _make(vcpu: Vcpu, detail: Detail, *, by_hooks: bool) -> SoftCpu:
    made = _make_alone(vcpu, detail, by_hooks=by_hooks)
    frames_of(vcpu.machine, vcpu.host.memory.frame_count).join(made.caches)
    return made


def _make_alone(vcpu: Vcpu, detail: Detail, *, by_hooks: bool) -> SoftCpu:
    config = vcpu.machine.config
    if config.shape.own_kernel:
        return MachineCpu(vcpu, detail, in_slices=config.vcpus > 1 or config.bus, by_hooks=by_hooks)
    return ProcessCpu(
        vcpu.host.memory,
        vcpu.mmu.context,
        vcpu.tlb,
        detail,
        vcpu.handle_exit,
        fills=vcpu.fills,
        evictions=vcpu.evictions,
        nodes=vcpu.node_references,
        by_hooks=by_hooks,
    )
