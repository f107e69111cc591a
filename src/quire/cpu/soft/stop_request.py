"""A request to stop at the next block that loses nothing, made in the engine's CPU state.

Between a call of the library's own ``uc_emu_stop`` and the end of the running block no hook is called: a system call, a
page fill, an exit in the rest of the block vanish without a trace. So the request is made as the engine's own devices
make it, by three cells of the CPU state that its loop looks at between blocks: what the loop returns, whether to leave
it, and last the word that compiled code looks at. Two offsets are read from functions that the library exports, the
third is what ``uc_emu_stop`` itself changes; and all is tried out once in an engine of its own, or not used.
"""

import ctypes
import re
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from unicorn.unicorn_py3.unicorn import uclib

from quire.cpu.soft.exit_flag import find_exit_flag
from quire.cpu.soft.trial import CODE_AT, Trial, trial

__all__ = ["HALTED", "NOW", "StopCells", "find_stop_cells"]

#: mov r8, [rdi + where the CPU state's address is]; mov eax, [r8 + the word that compiled code looks at]; test eax, eax
_CHECK = re.compile(rb"\x4c\x8b\x87(.{4})\x41\x8b\x80(.{4})\x85\xc0", re.DOTALL)
#: mov dword [rbx + what the loop returns], "interrupted"
_RETURN = re.compile(rb"\xc7\x83(.{4})\x00\x00\x01\x00", re.DOTALL)
_CHECK_LENGTH, _LOOP_LENGTH = 64, 4096
_FIRST_FIELDS = 64
#: What the cells are set to: the loop returns that the processor halts, by which a run ends without an error.
HALTED, NOW = 0x10001, 0xFFFF

#: mov edx, 16; then a block that goes on to itself: mov rax, [rdi]; inc rcx; mov rbx, [rdi]; dec edx; jnz
_CODE = bytes.fromhex("ba10000000 488b07 48ffc1 488b1f ffca 75f3")
_BLOCK = CODE_AT + 5
#: First reads of a pass: of one that the loop looks behind, and of one that goes on to the next without that.
_ASKS_AT = (1, 9)


class StopCells(NamedTuple):
    """Offsets: of the CPU state's address in an engine's structure, and of three cells in the CPU state."""

    state: int
    returns: int
    leave: int
    looked_at: int

    def addresses(self, handle: ctypes.c_void_p) -> tuple[int, int, int]:
        """Return where the three cells of the engine with `handle` are, in the order in which they are set."""
        state = ctypes.c_uint64.from_address((handle.value or 0) + self.state).value
        return state + self.returns, state + self.leave, state + self.looked_at

    def ask(self, handle: ctypes.c_void_p) -> None:
        """Have the running engine end at its next block; any thread may call. One that does not run forgets it."""
        returns, leave, looked_at = self.addresses(handle)
        ctypes.c_uint32.from_address(returns).value = HALTED
        ctypes.c_uint8.from_address(leave).value = 1
        ctypes.c_uint16.from_address(looked_at).value = NOW


@cache
def find_stop_cells() -> StopCells | None:
    """Return where a request to stop is made, None if it is not clear or does not work."""
    flag, state = find_exit_flag(), _CHECK.search(_code_of("helper_check_exit_request_x86_64", _CHECK_LENGTH))
    returns = set(_RETURN.findall(_code_of("cpu_exec_x86_64", _LOOP_LENGTH)))
    if not flag or state is None or len(returns) != 1:
        return None
    at, word, result = (int.from_bytes(octets, "little") for octets in (*state.groups(), *returns))
    with trial(_CODE) as engine:
        if at + 8 > engine.octets.size:
            return None
        leave = _what_a_stop_changes(engine, at)
        cells = StopCells(at, result, leave, word + 2)
        engine.octets[flag] = 1
        return cells if leave and _works(engine, cells) else None


def _code_of(name: str, length: int) -> bytes:
    """Return the first octets of a function that the library exports, none if it does not."""
    function = getattr(uclib, name, None)
    address = 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0
    return ctypes.string_at(address, length) if address else b""


def _what_a_stop_changes(engine: Trial, at: int) -> int:
    """Return the offset of the one of the first octets of the CPU state that the library's stop raises, or 0."""
    changed: list[npt.NDArray[np.intp]] = []

    def look() -> None:
        if not changed:
            pointer = ctypes.c_uint64.from_buffer(engine.octets, at).value  # type: ignore[arg-type]
            cells = np.ctypeslib.as_array(
                ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint8)), (_FIRST_FIELDS,)
            )
            before = cells.copy()
            engine.stop()
            changed.append(np.flatnonzero((before == 0) & (cells == 1)))

    engine.on_read = look
    engine.run()
    return int(changed[0][0]) if changed and changed[0].size == 1 else 0


def _works(engine: Trial, cells: StopCells) -> bool:
    """Whether a run ends at the block after a request, all hooks till then called; one between runs is forgotten."""
    if not all(_ends_at_block(engine, cells, asks_at) for asks_at in _ASKS_AT):
        return False
    cells.ask(engine.handle)
    return engine.run() == (0, CODE_AT + len(_CODE))


def _ends_at_block(engine: Trial, cells: StopCells, asks_at: int) -> bool:
    reads = 0

    def ask_once() -> None:
        nonlocal reads
        reads += 1
        if reads == asks_at:
            cells.ask(engine.handle)

    engine.on_read = ask_once
    return engine.run() == (0, _BLOCK) and reads == asks_at + 1
