"""Where something begins or ends while a program runs: one grammar for every verb, ``main+8``, ``100sys``, ``5000i``.

A point is an instruction (a symbol of the program's own file, or an address), so many system calls done, so many
instructions executed, or so much time passed; beside them the N-th call of one name. A point is armed once and then
asked at each stop of the guest whether it is reached. Fails with MisuseError for what names no such place.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Timer
from typing import Protocol

from quire.arch import LOW32
from quire.errors import MisuseError, did_you_mean
from quire.guest.kernel.process import ProcessGuest
from quire.guest.load.launch import LaunchError, Program
from quire.guest.load.program_symbols import program_symbols
from quire.guest.run_spec import RunSpec
from quire.guest.syscalls import SYSCALLS, syscall_name
from quire.paging.settings import parse_number
from quire.vcpu import Cpu, breaking

__all__ = ["AfterInstructions", "AfterSyscalls", "AfterTime", "AtAddress", "AtSyscall", "Point", "check_points",
    "parse_point",
           "parse_syscall", "place_of"]  # fmt: skip

_COUNTED = re.compile(r"([0-9][0-9_]*)(sys|i)", re.ASCII)
_TIME = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)(us|ms|s)", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_MOST = 1 << 62  # of anything that is counted


class Point(Protocol):
    """A place in a run. `text` says it in words: ``before main``."""

    at_instruction: bool  #: whether an engine is to stop there by itself

    @property
    def text(self) -> str:
        """The place in words."""
        ...

    def check(self, cpu: Cpu) -> None:
        """Raise MisuseError if this engine cannot stop there."""
        ...

    def begin(self, cpu: Cpu) -> None:
        """Count from here: the guest is about to execute its first instruction."""
        ...

    def arm(self, guest: ProcessGuest, cpu: Cpu) -> None:
        """Have the guest stop there, from now on."""
        ...

    def at_syscall(self, guest: ProcessGuest) -> bool:
        """Return whether the point is reached in front of the system call that the guest asks for now."""
        ...

    def at_interruption(self, guest: ProcessGuest, cpu: Cpu) -> bool:
        """Return whether the point is reached where the guest was interrupted now."""
        ...

    def disarm(self, cpu: Cpu) -> None:
        """Have the guest stop there no more."""
        ...


class _Anywhere:
    """What a point does if it need not do more."""

    __slots__ = ()
    at_instruction = False

    def check(self, cpu: Cpu) -> None:
        pass

    def begin(self, cpu: Cpu) -> None:
        pass

    def arm(self, guest: ProcessGuest, cpu: Cpu) -> None:
        pass

    def at_syscall(self, guest: ProcessGuest) -> bool:
        return False

    def at_interruption(self, guest: ProcessGuest, cpu: Cpu) -> bool:
        return False

    def disarm(self, cpu: Cpu) -> None:
        pass


@dataclass(frozen=True, slots=True)
class AtAddress(_Anywhere):
    """Before the instruction at `address` runs for the first time. `in_file`: it moves with the program."""

    text: str
    address: int
    in_file: bool
    at_instruction = True

    def check(self, cpu: Cpu) -> None:
        breaking(cpu)

    def arm(self, guest: ProcessGuest, cpu: Cpu) -> None:
        breaking(cpu).at(self.place(guest))

    def place(self, guest: ProcessGuest) -> int:
        """Return the linear address in the running guest."""
        return self.address + (guest.bias if self.in_file else 0)

    def at_interruption(self, guest: ProcessGuest, cpu: Cpu) -> bool:
        return guest.machine.registers.read("rip") == self.place(guest)

    def disarm(self, cpu: Cpu) -> None:
        breaking(cpu).forget()


@dataclass(frozen=True, slots=True)
class AtSyscall(_Anywhere):
    """Before the guest's kernel does system call `name`, when it is asked for the `count`-th time."""

    text: str
    name: str
    count: int

    def at_syscall(self, guest: ProcessGuest) -> bool:
        name = syscall_name(guest.machine.registers.read("rax") & LOW32)
        return name == self.name and guest.syscall_counts.get(name, 0) + 1 == self.count


@dataclass(frozen=True, slots=True)
class AfterSyscalls(_Anywhere):
    """In front of the system call that follows `count` others: what the guest computes up to it is still in."""

    text: str
    count: int

    def at_syscall(self, guest: ProcessGuest) -> bool:
        return sum(guest.syscall_counts.values()) >= self.count


@dataclass(frozen=True, slots=True)
class AfterInstructions(_Anywhere):
    """When the guest has executed `count` instructions since its first; one that repeats counts once an iteration."""

    text: str
    count: int
    at_instruction = True

    def check(self, cpu: Cpu) -> None:
        breaking(cpu)

    def begin(self, cpu: Cpu) -> None:
        breaking(cpu).after(self.count)

    def arm(self, guest: ProcessGuest, cpu: Cpu) -> None:
        breaking(cpu).after(self.count)

    def at_interruption(self, guest: ProcessGuest, cpu: Cpu) -> bool:
        return breaking(cpu).left <= 0

    def disarm(self, cpu: Cpu) -> None:
        breaking(cpu).forget()


@dataclass(slots=True)
class AfterTime(_Anywhere):
    """When `seconds` have passed since the guest's first instruction, by the host's clock: no two runs are alike."""

    text: str
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _due: float = field(default=0.0, init=False)
    _timer: Timer | None = field(default=None, init=False)

    def begin(self, cpu: Cpu) -> None:
        self._due = self.clock() + self.seconds

    def arm(self, guest: ProcessGuest, cpu: Cpu) -> None:
        self._timer = Timer(max(0.0, self._due - self.clock()), cpu.interrupt)
        self._timer.daemon = True
        self._timer.start()

    def at_syscall(self, guest: ProcessGuest) -> bool:
        return self.clock() >= self._due

    def at_interruption(self, guest: ProcessGuest, cpu: Cpu) -> bool:
        return self.at_syscall(guest)

    def disarm(self, cpu: Cpu) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


def parse_point(text: str, program: Program) -> Point:
    """Return the point that `text` names: ``main+8``, ``0x401000``, ``100sys``, ``5000i``, ``20ms``."""
    counted, timed = _COUNTED.fullmatch(text), _TIME.fullmatch(text)
    if counted is not None:
        count = parse_number(str(int(counted[1])), "a point")
        if count > _MOST:
            raise MisuseError(f"{text!r} is beyond any run: give at most {_MOST}{counted[2]}")
        if counted[2] == "sys":
            return AfterSyscalls(f"after {count} system calls", count)
        return AfterInstructions(f"after {count} instructions", count)
    if timed is not None:
        return AfterTime(f"after {text}", float(timed[1]) * _SECONDS[timed[2]])
    return place_of(text, program)


def check_points(spec: RunSpec) -> None:
    """Raise MisuseError if a point of `spec` is none in its program; a program that is not there is left to the run."""
    texts = [text for text in (spec.start, spec.end) if text is not None]
    try:
        program = spec.program() if texts else None
    except (LaunchError, OSError):
        return
    for text in texts:
        if program is not None:
            parse_point(text, program)


def place_of(text: str, program: Program) -> AtAddress:
    """Return the place that `text` names: a linear address, or a symbol of the program's file, ``main+0x10``."""
    if text[:1].isdigit():
        return AtAddress(f"before {text}", parse_number(text), False)
    symbol, plus, offset = text.partition("+")
    values = program_symbols(program.path)
    if symbol not in values:
        why = did_you_mean(symbol, values) if values else ": it has none at all"
        raise MisuseError(
            f"{program.path} has no symbol {symbol!r}{why}; give one that it has, an address, 100sys, 5000i or 2ms"
        )
    beyond = parse_number(offset, f"{symbol}+N") if plus else 0
    return AtAddress(f"before {text}", values[symbol] + beyond, program.image.kind == "ET_DYN")


def parse_syscall(text: str) -> AtSyscall:
    """Return the place that `text` names: ``write``, or ``write:3`` for the third."""
    found = re.fullmatch(r"(\w+)(?::([1-9][0-9]{0,8}))?", text, re.ASCII)
    if found is None:
        raise MisuseError(
            f"{text!r} is no system call: give a name, or NAME:N for the N-th, write:3 for instance"
        )
    name, count = found[1], int(found[2] or 1)
    names = [call.name for call in SYSCALLS.values()]
    if name not in names:
        raise MisuseError(f"Linux has no system call {name!r}{did_you_mean(name, names)}")
    return AtSyscall(f"before {name}" + (f", call {count}" if found[2] else ""), name, count)
