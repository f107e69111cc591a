"""What a machine asks of a Cpu, the engine that executes its guest: the consumer's side.

Every engine is a :class:`Cpu`. What some can do besides is a protocol of its own, and who needs it asks for it:
:func:`sliced`, :func:`breaking`, :func:`counting` give the engine as one that can, or raise MisuseError by its name.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from quire.errors import MisuseError
from quire.vcpu.stop import Stop

__all__ = [
    "Breakpoints",
    "Counting",
    "Cpu",
    "Places",
    "Registers",
    "Sliced",
    "Slowed",
    "TimeStamps",
    "breaking",
    "counting",
    "sliced",
    "time_stamps",
    "why_slow",
]


class Registers(Protocol):
    """The vCPU's registers, by the manual's lower-case names."""

    def read(self, name: str) -> int:
        """Return one register, unsigned."""
        ...

    def write(self, name: str, value: int) -> None:
        """Set one register, modulo its width."""
        ...

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        """Return several registers."""
        ...

    def write_many(self, values: dict[str, int]) -> None:
        """Set several registers."""
        ...

    def save(self, into: Any = None) -> object:
        """Return all that a program has in registers, for :meth:`load`: in what was returned before, if it is given."""
        ...

    def load(self, saved: Any) -> None:
        """Set all registers to what they were when `saved` was returned."""
        ...

    def save_fpu(self) -> bytes:
        """Return x87 and SSE state as a 512-byte FXSAVE64 image."""
        ...

    def load_fpu(self, image: bytes) -> None:
        """Set x87 and SSE state from such an image."""
        ...


class Cpu(Protocol):
    """What executes instructions. Translation is the Mmu's; a Cpu asks for it and may cache the answer."""

    @property
    def name(self) -> str:
        """What the engine is called, in its registry and in messages."""
        ...

    @property
    def registers(self) -> Registers:
        """The guest's registers; valid while the Cpu does not run."""
        ...

    def run(self) -> Stop:
        """Execute guest instructions until something must be dealt with."""
        ...

    def step(self, then: Callable[[], None]) -> None:
        """Have the next instruction run alone, and call `then` when it has passed, or before another runs."""
        ...

    def interrupt(self) -> None:
        """End this :meth:`run`, or the next if none is on, before its second block from now, with Interrupted.

        Once is enough. The one method that another thread may call.
        """
        ...

    def forget(self, gva: int | None) -> None:
        """Drop what is cached of the translation of the page at `gva`, or of all pages."""
        ...

    def forget_code(self, hpa: int, length: int) -> None:
        """Drop what was compiled from these bytes of host memory: they change or leave the guest."""
        ...

    def close(self) -> None:
        """Give the engine back. The Cpu cannot run any more."""
        ...


@runtime_checkable
class Sliced(Protocol):
    """An engine whose vCPU takes turns with others."""

    def begin_slice(self, blocks: int) -> None:
        """Have :meth:`Cpu.run` return Interrupted after so many blocks of instructions."""
        ...

    @property
    def slice_over(self) -> bool:
        """Whether all blocks of :meth:`begin_slice` have run."""
        ...


class Places(Protocol):
    """Where an engine is to end its runs: then :meth:`Cpu.run` returns Interrupted."""

    def at(self, gva: int) -> None:
        """Stop whenever the instruction at `gva` is next."""
        ...

    def after(self, instructions: int) -> None:
        """Stop when so many instructions have been executed, counted from the first call on."""
        ...

    @property
    def left(self) -> int:
        """How many are left of :meth:`after`; 0 or less when it has stopped for that."""
        ...

    def forget(self) -> None:
        """Stop nowhere."""
        ...


@runtime_checkable
class Breakpoints(Protocol):
    """An engine that can stop in front of an instruction."""

    @property
    def places(self) -> Places:
        """The places to stop at."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An engine that counts what its guest does."""

    def events(self) -> Mapping[str, int]:
        """Return what was counted so far, by name: walks and their references; accesses in full detail."""
        ...

    def instructions(self) -> int:
        """Return how many instructions were executed, 0 where nobody counts them."""
        ...

    def walks(self) -> int:
        """Return how many walks were made."""
        ...


@runtime_checkable
class TimeStamps(Protocol):
    """An engine by whose instructions time passes, and which reads the time-stamp counter itself.

    Times are in ticks, which are nanoseconds.
    """

    def instructions(self) -> int:
        """Return how many instructions were executed."""
        ...

    def set_tsc(self, value: int, share: int, aux: int) -> None:
        """From `value` on, have it grow by one with each `share` instructions; RDTSCP reads `aux` too."""
        ...

    def tsc_time(self) -> int:
        """Return the time that the reads took which it has answered."""
        ...


@runtime_checkable
class Slowed(Protocol):
    """An engine that has a faster way to count, which it cannot always take."""

    slowed: str | None  #: why it does not take it; None if it does


def why_slow(cpu: Cpu) -> str | None:
    """Return why `cpu` counts more slowly than it could, None if it does not."""
    return cpu.slowed if isinstance(cpu, Slowed) else None


def sliced(cpu: Cpu) -> Sliced:
    """Return `cpu` as one that runs in slices. Raises MisuseError if it cannot."""
    if not isinstance(cpu, Sliced):
        raise MisuseError(
            f"The {cpu.name} engine cannot stop after a number of blocks, by which several vCPUs take turns: "
            "give the guest one vCPU, or another engine"
        )
    return cpu


def breaking(cpu: Cpu) -> Places:
    """Return where `cpu` is to stop in front of an instruction. Raises MisuseError if it cannot."""
    if not isinstance(cpu, Breakpoints):
        raise MisuseError(
            f"The {cpu.name} engine cannot stop in front of an instruction: name a system call, or another engine"
        )
    return cpu.places


def time_stamps(cpu: Cpu) -> TimeStamps:
    """Return `cpu` as one by whose instructions time passes. Raises MisuseError if it cannot."""
    if not isinstance(cpu, TimeStamps):
        raise MisuseError(
            f"The {cpu.name} engine counts no instructions, by which a machine with devices tells the time: "
            "take another engine"
        )
    return cpu


def counting(cpu: Cpu) -> Counting:
    """Return `cpu` as one that counts. Raises MisuseError if it does not."""
    if not isinstance(cpu, Counting):
        raise MisuseError(
            f"The {cpu.name} engine counts no events: ask for no report of them, or another engine"
        )
    return cpu
