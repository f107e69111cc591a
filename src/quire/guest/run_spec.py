"""A run as a record: the command, the hardware it gets, how much is recorded. Whoever runs programs begins with one.

The command line parses into it, studies vary it, a worker reads it from a file and executes it. It holds values alone,
so that it can be written, compared and changed by `dataclasses.replace`.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quire.cpu import Detail
from quire.errors import FormatError
from quire.guest.load.launch import Program, prepare
from quire.machine import GuestConfig

__all__ = ["RunSpec"]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run and how: `command` is the program, searched in PATH as a shell would, with its arguments.

    `seed` is that of the guest's randomness, with `sandbox` writes are refused, and reads too outside `allow_read`
    if it names anything. `working_set` is the seconds between
    samples of what the guest accesses, `audit_every` the system calls between audits of the host, None for none of
    either. `engine` is the name of what executes it. Without `record_arguments` no record has the program's arguments.
    """

    command: tuple[str, ...]
    config: GuestConfig = field(default_factory=GuestConfig)
    detail: Detail = Detail.EXITS
    seed: int = 0
    sandbox: bool = False
    allow_read: tuple[str, ...] = ()
    working_set: float | None = None
    audit_every: int | None = None
    engine: str = "soft"
    root: str = ""  #: directory under which absolute names are looked up first
    environment: tuple[str, ...] = ()  #: of the guest, NAME=VALUE, beside that of the process which runs it
    clock: str = "virtual"  #: the guest's time: its own, or the host's
    thp: str | None = None  #: where the kernel maps pages of 2 MiB: always, madvise, never
    schedule: int | None = None  #: whose turns tasks take, None for the usual ones
    record_arguments: bool = True
    start: str | None = None  #: the point at which counting begins, as :mod:`quire.guest.point` reads it
    end: str | None = None  #: the point at which the run ends

    def environ(self, given: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the guest's environment, where `given` is that of the process which runs it."""
        pairs = (os.fsencode(one).partition(b"=") for one in self.environment)
        return {**given, **{name: value for name, _, value in pairs}}

    def program(self) -> Program:
        """Return the program that the command names. Raises LaunchError, OSError without a working directory."""
        path = self.environ(os.environb).get(b"PATH")
        return prepare(
            list(self.command), None if path is None else os.fsdecode(path), os.getcwd(), self.root
        )

    @property
    def readable(self) -> tuple[str, ...]:
        """What a sandbox lets the guest read, beside its program and libraries; all if that is nothing."""
        return (*self.allow_read, self.root) if self.allow_read and self.root else self.allow_read

    @property
    def recorded_command(self) -> list[str]:
        """Return the words of the command that records have: all, or the program's name alone."""
        return self.recorded(self.command)

    def recorded(self, words: Sequence[str | bytes]) -> list[str]:
        """Return those of the words of a command that records may have."""
        return [os.fsdecode(word) for word in (words if self.record_arguments else words[:1])]

    def write(self, path: Path) -> None:
        """Write the record to the file at `path`, for :meth:`read`."""
        path.write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, path: Path) -> "RunSpec":
        """Return the record that Quire wrote at `path`, which nobody else may have written: it is not checked.

        Raises FormatError for a file that is none.
        """
        try:
            found = pickle.loads(path.read_bytes())
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise FormatError(f"{str(path)!r} is no record of a run: {error}") from None
        if not isinstance(found, cls):
            raise FormatError(f"{str(path)!r} is no record of a run but {type(found).__name__}")
        return found
