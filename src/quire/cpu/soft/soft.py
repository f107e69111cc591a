"""The soft Cpu itself: arrays for the hooks, the run loop, and the translation of hook results into stops."""

import ctypes
import random
import time
from collections.abc import Callable
from functools import partial
from threading import RLock, get_ident

import numpy as np
import numpy.typing as npt
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86

from quire.arch import WORD, ExitReason, Vector
from quire.cpu.detail import Detail
from quire.cpu.soft import _kernels, _kernels_start
from quire.cpu.soft.answered import AnsweredFills, FillSource
from quire.cpu.soft.counting import make_counts
from quire.cpu.soft.counts import NO_PRIVILEGE
from quire.cpu.soft.decode import read_code
from quire.cpu.soft.engine import Engine
from quire.cpu.soft.engine_caches import EngineCaches
from quire.cpu.soft.failed_walk import FailedWalk
from quire.cpu.soft.fill_budget import FillBudget
from quire.cpu.soft.places import Places
from quire.cpu.soft.registers import SoftRegisters
from quire.cpu.soft.slices import Slices
from quire.cpu.soft.state import EVENTS, RECENT_SLOTS, Pointer, Recent, SoftState, StopCode
from quire.memory import HostMemory
from quire.paging import MEMO_WORDS, RESULT_WORDS, Result
from quire.tlb import Tlb, TlbState
from quire.tlb.nodes import NodeReferences
from quire.tlb.walker import PATH_WORDS
from quire.vcpu import Exit, Interrupted, Stop, Syscall, Trap, TrapKind

__all__ = ["SoftCpu"]

_NOWHERE = WORD
_UC_ERR_INSN_INVALID = uc.UC_ERR_INSN_INVALID
_CPUID_LENGTH = 2
# Members of an enumeration are looked up by a slow path, and a stop needs a dozen: their numbers are kept.
_STOP, _PASS_ALIASES = int(SoftState.STOP), int(SoftState.PASS_ALIASES)
_IMPLICIT_PAGE, _UNPLACED = int(SoftState.IMPLICIT_PAGE), int(SoftState.UNPLACED)
_END, _COUNT, _TLB_FULL = int(SoftState.END), int(SoftState.COUNT), int(TlbState.FULL)
_INTERRUPT, _RUNNING = int(SoftState.INTERRUPT), int(SoftState.RUNNING)
#: Between two tries to stop an engine that may not have started yet.
_RETRY_SECONDS = 0.0001
_VECTOR = int(SoftState.VECTOR)
_SYSCALL, _FAULT, _TRAP = int(StopCode.SYSCALL), int(StopCode.FAULT), int(StopCode.TRAP)
_EXCEPTION_TRAP = TrapKind.EXCEPTION


class SoftCpu:
    """Executes the guest whose tables `context` points to, in `memory`; counts as `detail` says.

    `on_exit` deals with exits that need not leave the instruction loop (CPUID): it sees the registers and sets
    them, but for RIP, which passes the instruction by itself. With `fills`, that says what the guest gets of each page,
    not the walk. With `evictions`, translations go at moments and in numbers that it chooses. With `nodes`, references
    are counted there by node. `by_hooks`: the slow way to count. One vCPU.
    """

    name = "soft"
    slowed: str | None = None
    _privilege = NO_PRIVILEGE  # of a program there is one
    _zero_is_code = False  # whether a guest may execute at address 0, where the engine ends a run of itself

    def __init__(
        self,
        memory: HostMemory,
        context: npt.NDArray[np.uint64],
        tlb: Tlb,
        detail: Detail,
        on_exit: Callable[[Exit], None],
        *,
        fills: FillSource | None = None,
        evictions: random.Random | None = None,
        nodes: NodeReferences | None = None,
        by_hooks: bool = False,
    ) -> None:
        self.detail = detail
        self._memory = memory
        self._context = context
        self._controls = memoryview(context)  # type: ignore[arg-type]
        self._tlb = tlb
        self._on_exit = on_exit
        self._state: npt.NDArray[np.uint64] = np.zeros(len(SoftState), np.uint64)
        self._scalars = memoryview(self._state)  # type: ignore[arg-type] # the same, without NumPy's scalars
        self._result: npt.NDArray[np.uint64] = np.zeros(RESULT_WORDS, np.uint64)
        self._code_result = self._result.copy()  # of walks beside the guest's
        self._engine = Engine(memory.address, memory.size)
        self._failed = FailedWalk(memory, context, self._state, self._result, self._engine)
        self._registers = self._make_registers()
        self._memo: npt.NDArray[np.uint64] = np.zeros(MEMO_WORDS, np.uint64)
        self._path: npt.NDArray[np.uint64] = np.zeros(PATH_WORDS, np.uint64)
        self._recent = np.full((3, RECENT_SLOTS, len(Recent)), _NOWHERE, np.uint64)
        self._tlb_state = memoryview(tlb.state)  # type: ignore[arg-type]
        self._runner = 0  # the thread that runs the engine
        # Held by who tells the engine to stop, or has an instruction begin to run alone.
        self._telling = RLock()
        self._alone_at: int | None = None  # of an instruction that is to run alone, for what it touches
        self._then: Callable[[], None] | None = None
        self._state[SoftState.DETAIL] = detail
        self._state[SoftState.MEMORY_WORDS] = memory.words.size
        self._state[SoftState.SKIP_SYNC_OFFSET] = self._engine.sync_offset
        self._answered = None if fills is None else AnsweredFills(fills, self._state, self._result)
        self._budget = FillBudget(self._scalars, tlb, evictions)
        self.caches = EngineCaches(self._engine, memory.frame_count, self._budget)
        self._nodes = nodes
        self._state[SoftState.NODES] = nodes is not None
        self._pointers = self._point()
        self._user = ctypes.c_void_p(self._pointers.ctypes.data)
        self._start = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(int(_kernels_start.run.address or 0))
        self.places = Places(self._engine, self._scalars, self._pointers, self._change_places)
        self.counts = make_counts(
            self._engine,
            self._pointers,
            self._state,
            tlb,
            self._code,
            self._privilege,
            evicted=evictions is not None,
            by_hooks=by_hooks,
        )
        self.instructions = self.counts.instructions
        self.walks = partial(self._scalars.__getitem__, int(SoftState.WALKS))
        self._slices = Slices(self._engine, self.counts, self._scalars, self._pointers)
        if not self.counts.limits_fills:
            self._budget.lift()
        self._stops_at_blocks = self.counts.stops_at_blocks
        self._add_hooks()

    @property
    def registers(self) -> SoftRegisters:
        """The guest's registers; valid while the Cpu does not run."""
        return self._registers

    def run(self) -> Stop:
        """Execute guest instructions until a fault, an exit, a system call or an interruption."""
        self._runner = get_ident()
        self._scalars[_RUNNING] = 1  # before anybody looks for an interruption: who asks later finds this run
        try:
            return self._run()
        finally:
            self._scalars[_RUNNING] = 0

    def _run(self) -> Stop:
        state, registers = self._scalars, self._registers
        kept = registers.pointers.values
        while True:
            if self._take_interruption():
                return Interrupted()
            if not registers.fresh:
                registers.refresh()
            rip = kept[0]
            alone = self._alone_at is not None and self._begin_alone(rip)
            self.caches.settle()
            if not rip:
                # The engine cannot be told to end nowhere; it looks the end up before it starts, as if to fetch.
                state[_END] = self._zero_is_code
            registers.fresh = False
            if self._stops_at_blocks:
                self._engine.end_at_blocks(not alone)
            self.counts.begin()
            error = self._start(self._user)
            registers.fresh = True
            code = state[_STOP]
            if alone:
                self.caches.end_alone(kept[0], state[_IMPLICIT_PAGE])
                state[_IMPLICIT_PAGE] = 0
            if self.places.counting:
                self.places.take_back(self._registers.read("rip"))
            if state[_UNPLACED]:
                self._place_stop()
            self.counts.end(kept[0], alone)
            if self.counts.wants_room:
                self._engine.drop_code()
                self.counts.make_room()
            if alone and not code and not error:
                self._end_alone()
            if code == _SYSCALL:
                return Syscall()
            if self._tlb_state[_TLB_FULL]:
                self._grow_tlb()
            stop = self._fault() if code == _FAULT else self._other_stop(rip, code, error)
            if stop is not None:
                return stop

    def _other_stop(self, rip: int, code: int, error: int) -> Stop | None:
        """Return what a run from `rip` stopped for but a system call or a fault; None if it goes on after all."""
        if code == _TRAP:
            return self._exception()
        if code == StopCode.TLB_FULL:
            self.caches.forget_translations()
            self._budget.stuck = self._registers.read("rip") == rip
        elif code == StopCode.HELD:
            self._held()
        elif code in (StopCode.ALIAS, StopCode.CODE_ALIAS):
            self._settle_aliases(rip, code)
        elif code in (StopCode.BLOCKS_FULL, StopCode.TLB_GROWS, StopCode.RECORDS_FULL):
            pass  # room was made
        elif code in (StopCode.SLICE_ENDS, StopCode.AT_ADDRESS, StopCode.INTERRUPTED):
            if code == StopCode.INTERRUPTED:
                self._take_interruption()
            return Interrupted()
        elif error == _UC_ERR_INSN_INVALID:
            return self._undefined()
        elif error:
            self._engine.check(error, f"execute at {self._registers.read('rip'):#x}")
        elif not self._zero_is_code and self._registers.read("rip") == 0:
            # The engine takes address 0 for the end of the run; for a guest it is a jump through a null pointer.
            return self._failed.fetch_at_zero()
        return None

    def _fault(self) -> Stop | None:
        """Return what a failed translation comes to; None if the run goes on after all."""
        return self._failed.stop()

    def _exception(self) -> Trap:
        """Return the exception that the engine raised."""
        self._engine.last_exception.forget()
        return Trap(_EXCEPTION_TRAP, self._scalars[_VECTOR])

    def _undefined(self) -> Trap:
        """Return what an instruction comes to that the engine does not know."""
        return Trap(_EXCEPTION_TRAP, Vector.UD)

    def interrupt(self) -> None:
        """End this :meth:`run`, or the next if none is on, before its second block from now. Any thread may call.

        Returns when the engine has been told, which may have to be tried again while it starts. It is not told while
        an instruction runs alone: that ends of itself, and would stop between its read and its write.
        """
        state = self._scalars
        state[_INTERRUPT] = 1
        while self._stops_at_blocks and state[_RUNNING] and state[_INTERRUPT]:
            with self._telling:
                if not state[_COUNT]:
                    self._engine.stop()
            if get_ident() == self._runner:  # a hook asks: the engine has started
                break
            time.sleep(_RETRY_SECONDS)

    def _take_interruption(self) -> bool:
        """Return whether an interruption was asked for, which this answers."""
        asked, self._scalars[_INTERRUPT] = self._scalars[_INTERRUPT], 0
        return bool(asked)

    def begin_slice(self, blocks: int) -> None:
        """Have :meth:`run` return Interrupted after so many blocks of instructions."""
        self._slices.begin(blocks, self.caches.forget_code)

    @property
    def slice_over(self) -> bool:
        """Whether all blocks of :meth:`begin_slice` have run."""
        return self._slices.over

    def step(self, then: Callable[[], None]) -> None:
        """Have the instruction at RIP run alone, and call `then` when it has passed, or before another runs."""
        self._alone_at = self._registers.read("rip")
        self._then = then

    def forget(self, gva: int | None) -> None:
        """Drop cached translations before the next instruction: of the page at `gva`, or all."""
        if gva is None:
            self.caches.forget_translations()
        else:
            self.caches.forget_page(gva)

    def forget_code(self, hpa: int, length: int) -> None:
        """Drop code that was compiled from frames of these bytes."""
        if self.caches.forget_bytes(hpa, length):
            self.counts.code_changes()

    def record(self, into: Callable[[npt.NDArray[np.void]], None]) -> bool:
        """Have `into` called with all accesses since, as RECORDED, whenever the engine stops; see Recording."""
        return self.counts.record(into)

    def events(self) -> dict[str, int]:
        """Return what was counted; `instructions` only in full detail."""
        return {event.name.lower(): int(self._state[event]) for event in EVENTS} | self.counts.events()

    def close(self) -> None:
        """Free the engine."""
        self.counts.close()
        self._engine.close()

    def _begin_alone(self, rip: int) -> bool:
        """Return whether the instruction at `rip` is the one that is to run alone; if not, that one is over.

        What somebody waits for runs alone until it has passed, however many faults it meets on the way.
        """
        alone = rip == self._alone_at
        if not alone:
            self._end_alone()  # event delivery went elsewhere
        elif self._then is None:
            self._alone_at = None
        count = self.caches.begin_alone(rip) if alone else 0
        with self._telling:
            self._scalars[_PASS_ALIASES], self._scalars[_COUNT] = alone, count
        return alone

    def _end_alone(self) -> None:
        """The instruction has passed, or will not: tell who asked for it to run alone."""
        then, self._then, self._alone_at = self._then, None, None
        if then is not None:
            then()

    def _make_registers(self) -> SoftRegisters:
        return SoftRegisters(self._engine)

    def _point(self) -> npt.NDArray[np.uint64]:
        arrays: dict[Pointer, npt.NDArray[np.generic]] = {
            Pointer.STATE: self._state,
            Pointer.MEMORY: self._memory.words,
            Pointer.CONTEXT: self._context,
            Pointer.RESULT: self._result,
            Pointer.FRAMES: self.caches.cells,
            Pointer.TLB_ENTRIES: self._tlb.entries,
            Pointer.TLB_STATE: self._tlb.state,
            Pointer.TLB_SHAPES: self._tlb.shapes,
            Pointer.RECENT_FETCH: self._recent[0],
            Pointer.RECENT_LOAD: self._recent[1],
            Pointer.RECENT_STORE: self._recent[2],
            Pointer.MEMO: self._memo,
            Pointer.PATH: self._path,
        }
        if self._nodes is not None:
            counter = self._nodes.counter
            arrays[Pointer.NODE_TABLE], arrays[Pointer.NODE_COUNTS] = counter.nodes, counter.counts
            arrays[Pointer.LINES] = counter.lines
        addresses = {pointer: array.ctypes.data for pointer, array in arrays.items()}
        batch = self._registers.pointers
        addresses[Pointer.ENVIRONMENT] = self._engine.state_address
        addresses[Pointer.ENGINE] = self._engine.handle.value or 0
        addresses[Pointer.REGISTER_NUMBERS] = ctypes.addressof(batch.numbers)
        addresses[Pointer.REGISTER_CELLS] = ctypes.addressof(batch.pointers)
        addresses[Pointer.REGISTER_VALUES] = ctypes.addressof(batch.values)
        return np.array([addresses.get(pointer, 0) for pointer in Pointer], np.uint64)

    def _add_hooks(self) -> None:
        user, hook = self._pointers.ctypes.data, self._engine.hook
        self._add_fill_hooks()
        hook(uc.UC_HOOK_INSN, _kernels.on_syscall.address, user, x86.UC_X86_INS_SYSCALL)
        hook(uc.UC_HOOK_INTR, _kernels.on_interrupt.address, user)
        self._cpuid = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._on_cpuid)
        address = ctypes.cast(self._cpuid, ctypes.c_void_p).value or 0
        hook(uc.UC_HOOK_INSN, address, 0, x86.UC_X86_INS_CPUID)
        self.counts.add_hooks()

    def _change_places(self) -> None:
        if self._stops_at_blocks:  # it has to look for stops within blocks again, and a hook for requests
            self._stops_at_blocks = False
            self._engine.end_at_blocks(False)
            self._engine.hook(uc.UC_HOOK_BLOCK, _kernels_start.on_block.address, self._pointers.ctypes.data)
        self.caches.forget_code()  # what is compiled already does not ask

    def _add_fill_hooks(self) -> None:
        user = self._pointers.ctypes.data
        if self._answered is not None:
            self._engine.hook(uc.UC_HOOK_TLB_FILL, self._answered.address, user)
        self._engine.hook(uc.UC_HOOK_TLB_FILL, _kernels.on_fill.address, user)

    def _on_cpuid(self, _handle: int, _user: int) -> int:
        self._registers.fresh = False  # the engine has gone on since they were read
        self._on_exit(Exit(ExitReason.CPUID, instruction_length=_CPUID_LENGTH, passes=True))
        self._registers.fresh = False
        return 1

    def _held(self) -> None:
        """Let who answers fills go on with what it held an instruction back for."""
        assert self._answered is not None
        self._answered.raise_kept()
        source, exact = self._answered.source, self._engine.fault_address()
        gva = int(self._result[Result.GVA]) if exact is None else exact
        if source.held(gva, self._registers.read("rip")):
            self.step(source.passed)

    def _grow_tlb(self) -> None:
        """Give the modelled TLB without bound more room; where pages were found in it is no longer true."""
        self.counts.tlb_moves()
        self._tlb.grow()
        self._pointers[Pointer.TLB_ENTRIES] = self._tlb.entries.ctypes.data
        self._recent.fill(_NOWHERE)
        self.counts.tlb_moved()

    def _settle_aliases(self, rip: int, code: int) -> None:
        """Flush for an alias; an instruction that touches two pages of a frame itself must pass next time."""
        self.caches.forget_translations()
        if code == StopCode.CODE_ALIAS:
            self.caches.forget_code()
        if self._registers.read("rip") == rip:
            self._alone_at = rip

    def _place_stop(self) -> None:
        """Set RIP, which the engine did not compute at a refused I/O instruction."""

    def _code(self, gva: int, length: int) -> bytes:
        """Return code bytes as a fetch would see them, without side effects; short when a page is missing."""
        return read_code(self._memory, self._context, self._code_result, gva, length)
