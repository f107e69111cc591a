"""The soft Cpu of process guests: what a program at CPL 3 meets that the engine does not raise, or not as a processor.

The engine executes IN and OUT for everybody, gives a software interrupt as the exception of its vector, takes INT1 and
RDPMC for undefined, and reads descriptors with the rights of the program. Limits, all of them the engine's: INS has
written zeros, or met its page fault, before it is refused; REP OUTS with a count of zero is not; RIP of a refused
software interrupt with prefixes is behind them; RFLAGS' status flags at a refused IN or OUT in full detail are those of
an instruction before.
"""

from unicorn import unicorn_const as uc
from unicorn import x86_const as x86

from quire.arch import DR6, PAGE_SHIFT, PF_ERROR, Vector
from quire.cpu.soft import _kernels_process as kernels
from quire.cpu.soft.decode import MAX_LENGTH, decode
from quire.cpu.soft.descriptors import TABLE, Descriptors
from quire.cpu.soft.soft import SoftCpu
from quire.cpu.soft.state import SoftState
from quire.vcpu import Stop, Trap, TrapKind

__all__ = ["ProcessCpu"]

_EXCEPTION, _PAGE_FAULT = TrapKind.EXCEPTION, TrapKind.PAGE_FAULT
_IMPLICIT_PAGE, _UNPLACED = int(SoftState.IMPLICIT_PAGE), int(SoftState.UNPLACED)
_LAST_BLOCK, _LAST_SIZE = int(SoftState.LAST_BLOCK), int(SoftState.LAST_BLOCK_SIZE)
_TABLE_PAGE = TABLE >> PAGE_SHIFT
_FETCH = PF_ERROR.mask("ID")
_PORT_INSTRUCTIONS = frozenset(("in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"))
#: Vectors whose exceptions push an error code (SDM 3A table 6-1), but #PF, of which the walk knows.
_CODED = frozenset((Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.AC))
_SINGLE_STEP = DR6.mask("BS")


class ProcessCpu(SoftCpu):
    """Executes a program at CPL 3."""

    def _add_fill_hooks(self) -> None:
        self._descriptors = Descriptors(self._engine)
        user = self._pointers.ctypes.data
        self._engine.hook(uc.UC_HOOK_TLB_FILL, kernels.on_fill_table.address, user)
        super()._add_fill_hooks()
        self._engine.hook(uc.UC_HOOK_INSN, kernels.on_in.address, user, x86.UC_X86_INS_IN)
        self._engine.hook(uc.UC_HOOK_INSN, kernels.on_out.address, user, x86.UC_X86_INS_OUT)

    def _place_stop(self) -> None:
        self._scalars[_UNPLACED] = 0
        self._registers.write("rip", self._port_instruction())

    def _port_instruction(self) -> int:
        """Return where the first I/O instruction of the last block is: each one before would have been refused."""
        rip, end = self._scalars[_LAST_BLOCK], self._scalars[_LAST_BLOCK] + self._scalars[_LAST_SIZE]
        code = self._code(rip, end - rip)
        while code:
            found = decode(code)
            if found is None or found.name in _PORT_INSTRUCTIONS:
                break
            rip, code = rip + found.length, code[found.length :]
        return rip

    def _fault(self) -> Stop | None:
        stop = super()._fault()
        if isinstance(stop, Trap) and stop.gva >> PAGE_SHIFT == _TABLE_PAGE and self._may_read_table(stop):
            self._scalars[_IMPLICIT_PAGE] = _TABLE_PAGE + 1
            self._alone_at = self._registers.read("rip")
            return None
        return stop

    def _may_read_table(self, stop: Trap) -> bool:
        """Whether the instruction at RIP met a fault in the descriptor table because it reads a descriptor there."""
        if stop.kind is not _PAGE_FAULT or stop.error_code & _FETCH:
            return False
        found = decode(self._code(self._registers.read("rip"), MAX_LENGTH))
        return found is not None and found.reads_descriptor and not found.touches(stop.gva, self._registers)

    def _exception(self) -> Trap:
        last, vector = self._engine.last_exception, super()._exception().vector
        if last.software:
            return Trap(TrapKind.SOFTWARE_INTERRUPT, vector)
        if vector == Vector.DB:
            return Trap(_EXCEPTION, vector, _SINGLE_STEP)
        return Trap(_EXCEPTION, vector, last.error_code & 0xFFFF if vector in _CODED else 0)

    def _undefined(self) -> Trap:
        rip = self._registers.read("rip")
        found = decode(self._code(rip, MAX_LENGTH))
        name = "" if found is None else found.name
        if found is not None and name in ("int", "int1"):  # the engine takes INT 6, too, for undefined
            self._registers.write("rip", rip + found.length)
            return (
                Trap(TrapKind.SOFTWARE_INTERRUPT, Vector.UD) if name == "int" else Trap(_EXCEPTION, Vector.DB)
            )
        return Trap(_EXCEPTION, Vector.GP) if name == "rdpmc" else super()._undefined()
