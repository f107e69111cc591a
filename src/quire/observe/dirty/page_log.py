"""The page-modification logs of a guest's vCPUs: a page each, which the processor fills downwards.

SDM 3C §28.3.6: the address of a page whose dirty flag is set is stored at the log's index, 511 first, which then goes
down; an index beyond 511 is a VM exit (reason 62) before anything is set.
"""

from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SHIFT, PRIMARY_CONTROLS, SECONDARY_CONTROLS
from quire.memory import Fill, Owner, OwnerKind
from quire.observe.watched import WatchedVcpu
from quire.paging import Context

__all__ = ["PageLog"]

_LOG = Owner(OwnerKind.HYPERVISOR, "page-modification log")
_FIRST = 511


class PageLog:
    """The log of `vcpu`, on until what `undo` gets is done."""

    def __init__(self, vcpu: WatchedVcpu, undo: ExitStack) -> None:
        self._vcpu = vcpu
        pool = vcpu.host.pool
        self._frame = pool.allocate(0, _LOG, Fill.ZERO)
        undo.callback(pool.free, self._frame, 0, _LOG)
        vmcs = vcpu.vmcs
        names = (
            "primary_processor_based_controls",
            "secondary_processor_based_controls",
            "pml_address",
            "pml_index",
        )
        before = {name: vmcs.read(name) for name in names}
        undo.callback(self._set, before)
        primary, secondary = before[names[0]], before[names[1]]
        self._set(
            {
                names[0]: primary | PRIMARY_CONTROLS.mask("activate_secondary_controls"),
                names[1]: secondary | SECONDARY_CONTROLS.mask("enable_pml"),
                "pml_address": self._frame << PAGE_SHIFT,
                "pml_index": _FIRST,
            }
        )

    def drain(self) -> npt.NDArray[np.int64]:
        """Return the guest frames logged, in order, and begin anew."""
        vcpu = self._vcpu
        index = int(vcpu.mmu.context[Context.PML_INDEX])
        first = 0 if index > _FIRST else index + 1
        page = vcpu.host.memory.frames[self._frame]
        found: npt.NDArray[np.int64] = (page[first:][::-1] >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        vcpu.set_log_index(_FIRST)
        return found

    def _set(self, fields: dict[str, int]) -> None:
        self._vcpu.vmcs.write_many(**fields)
        self._vcpu.follow_controls()
