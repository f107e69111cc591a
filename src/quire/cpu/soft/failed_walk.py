"""What a translation that failed comes to: a page fault for the guest's kernel, another exception, or a VM exit."""

import numpy as np
import numpy.typing as npt

from quire.arch import EPT_VIOLATION_QUALIFICATION, Access, Vector
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.state import SoftState
from quire.errors import InternalError
from quire.memory import HostMemory
from quire.paging import Context, Result, Status
from quire.paging._kernels import walk
from quire.vcpu import Stop, Trap, TrapKind, exit_of_walk

__all__ = ["FailedWalk"]

# Members of an enumeration are looked up by a slow path: the numbers of those that every fault needs are kept.
_STATUS, _ERROR = int(Result.STATUS), int(Result.ERROR)
_PAGE_FAULT, _PF, _PAGE_FAULT_TRAP = int(Status.PAGE_FAULT), Vector.PF, TrapKind.PAGE_FAULT
_VE_GLA, _VE_GPA = 16, 24  # offsets in the virtualization-exception information area


class FailedWalk:
    """Reads `result`, where the hook that refused a translation left its walk; `engine` knows the exact address."""

    def __init__(
        self,
        memory: HostMemory,
        context: npt.NDArray[np.uint64],
        state: npt.NDArray[np.uint64],
        result: npt.NDArray[np.uint64],
        engine: Engine,
    ) -> None:
        self._memory, self._context, self._state, self._engine = memory, context, state, engine
        self._result = result
        self._found = memoryview(result)  # type: ignore[arg-type] # the same, without NumPy's scalars

    def stop(self) -> Stop:
        """Return why the guest stopped."""
        exact = self._engine.fault_address()
        if exact is None:
            raise InternalError(
                "The address of a failed translation is not known. This is a bug in Quire: please report it."
            )
        found = self._found
        code = found[_STATUS]
        if code == _PAGE_FAULT:
            return Trap(_PAGE_FAULT_TRAP, _PF, found[_ERROR], exact)
        stop = exit_of_walk(found, exact)
        return self._exception(Status(code), exact) if stop is None else stop

    def fetch_at_zero(self) -> Stop:
        """Return what a fetch at address 0 meets, which the engine does not try."""
        self._state[SoftState.FAULT_ACCESS] = Access.FETCH
        status = walk(self._memory.words, self._context, np.uint64(0), np.uint64(Access.FETCH), self._result)
        if status == Status.PAGE_FAULT:
            return Trap(TrapKind.PAGE_FAULT, Vector.PF, int(self._result[Result.ERROR]), 0)
        stop = exit_of_walk(self._found, 0)
        return Trap(TrapKind.EXCEPTION, Vector.GP) if stop is None else stop

    def _exception(self, status: Status, exact: int) -> Stop:
        """Return the exception of a failed walk that is neither a page fault nor an exit."""
        if status is Status.NON_CANONICAL:
            return Trap(TrapKind.EXCEPTION, Vector.GP, gva=exact)
        if status is Status.BUS_ERROR:
            return Trap(TrapKind.EXCEPTION, Vector.MC, gva=exact)
        if status is Status.VIRTUALIZATION_EXCEPTION:
            # The fill hook knows the page; the information area is to hold the address (SDM 3C §25.5.7.2).
            area = int(self._context[Context.VE_INFO])
            self._memory.store(area + _VE_GLA, exact)
            gpa = int(self._result[Result.FAULT_GPA])
            final = int(self._result[Result.ERROR]) & EPT_VIOLATION_QUALIFICATION.mask("final")
            self._memory.store(area + _VE_GPA, gpa | (exact & 0xFFF if final else 0))
            return Trap(TrapKind.EXCEPTION, Vector.VE)
        raise InternalError(f"A walk ended with {status!r}. This is a bug in Quire: please report it.")
