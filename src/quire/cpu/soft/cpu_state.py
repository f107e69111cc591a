"""The engine's CPU state in this process's memory: where it lies, and what it says of the last exception.

Facts, found by experiment with Unicorn 2.1.4 and checked again whenever an engine is made: the sixteen general
registers lie together, in the order of their encodings, RIP behind them, in one of the objects that the engine's
structure points to: the CPU state begins there. In it are, one behind the other, the error code of the last exception,
whether INT n or INT3 raised it, and for these the address behind the instruction; further on, the vector of an
exception that has not been delivered yet, which makes the next a double fault.
"""

import ctypes
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import GENERAL, LOW32, Vector
from quire.cpu.soft.objects import engine_objects
from quire.errors import BackendError

__all__ = ["STATE_BYTES", "Experiments", "LastException", "different_layout", "find_cpu_state"]

#: Of the state, up to the fields of exceptions and a little more: all of it within the engine's object.
STATE_BYTES = 0x1600
_GENERAL, _CANONICAL = len(GENERAL), (1 << 47) - 1
_NONE = LOW32  # no exception waits


class Experiments(Protocol):
    """What an engine lets be tried out on it."""

    def structure(self) -> npt.NDArray[np.uint64]:
        """Return the engine's own structure as words: its pointers lead to its objects."""
        ...

    def write_general(self, values: list[int], rip: int = 0) -> None:
        """Set the sixteen general registers, in the order of their encodings, and RIP."""
        ...

    def start(self, rip: int) -> int:
        """Run from `rip` until an exception ends it."""
        ...


def different_layout(what: str) -> BackendError:
    """Return the error for an engine that is not laid out as this room found it."""
    return BackendError(
        f"Unicorn keeps {what} elsewhere than expected: Quire needs unicorn 2.1.4, install that version"
    )


def find_cpu_state(engine: Experiments) -> int:
    """Return the address of RAX in the one place where all sixteen values, and RIP behind them, lie in a row."""
    found: set[int] | None = None
    # Memory of engines that are gone may hold values of the first round still, but not those of the second.
    for first in (0x5A5A0000_00000001, 0x6B6B0000_00000001):
        wanted = np.arange(_GENERAL, dtype=np.uint64) * np.uint64(0x1111) + np.uint64(first)
        rip = first & _CANONICAL
        engine.write_general([int(value) for value in wanted], rip)
        here = set()
        for address, words in engine_objects(engine.structure()):
            for n in np.flatnonzero(words[:-_GENERAL] == wanted[0]):
                # RIP behind them tells the registers from copies of the values in memory of Python's.
                if np.array_equal(words[n : n + _GENERAL], wanted) and words[n + _GENERAL] == rip:
                    here.add(address + 8 * int(n))
        found = here if found is None else found & here
    engine.write_general([0] * _GENERAL)
    if not found or len(found) != 1:
        raise different_layout("the general registers")
    return found.pop()


class LastException:
    """What the engine notes of an exception, in its CPU state at `address`. Each of `provoking` is code that meets one.

    They are, by the address at which it is: a division by zero, HLT at CPL 3, INT 0x81, and a load of the selector in
    AX, which the GDT does not have. Raises BackendError if the notes are not found.
    """

    def __init__(self, engine: Experiments, address: int, provoking: dict[str, int]) -> None:
        octets = (ctypes.c_uint8 * STATE_BYTES).from_address(address)
        self._halves = halves = memoryview(octets).cast("B").cast("I")
        words = memoryview(octets).cast("B").cast("Q")
        self._waiting = self._find_waiting(engine, provoking)
        engine.start(provoking["int"])
        behind = provoking["int"] + 2
        places = [n for n, word in enumerate(words) if word == behind and halves[2 * n - 1] == 1]
        if len(places) != 1:
            raise different_layout("software interrupts")
        self.error_code_index = 2 * places[0] - 2
        for selector in (0x1230, 0x4560):
            engine.write_general([selector] + [0] * (_GENERAL - 1))
            engine.start(provoking["selector"])
            if self.error_code != selector or self.software:
                raise different_layout("error codes")
            self.forget()

    @property
    def error_code(self) -> int:
        """The error code."""
        return self._halves[self.error_code_index]

    @property
    def software(self) -> bool:
        """Whether INT n or INT3 raised it: RIP is behind the instruction then."""
        return bool(self._halves[self.error_code_index + 1])

    def forget(self) -> None:
        """Let the next exception be a first one: the engine takes it for raised in delivery of the last (#DF)."""
        self._halves[self._waiting] = _NONE

    def _find_waiting(self, engine: Experiments, provoking: dict[str, int]) -> int:
        """Return where the vector of the exception is that waits: none, then that of each of two exceptions."""
        found: set[int] | None = None
        for name, vector in (("divide", Vector.DE), ("halt", Vector.GP)):
            before = np.frombuffer(self._halves, np.uint32).copy()
            engine.start(provoking[name])
            after = np.frombuffer(self._halves, np.uint32)
            here = {int(n) for n in np.flatnonzero((before == _NONE) & (after == vector))}
            found = here if found is None else found & here
            for n in here:
                self._halves[n] = _NONE
        if not found or len(found) != 1:
            raise different_layout("the exception that waits")
        return found.pop()
