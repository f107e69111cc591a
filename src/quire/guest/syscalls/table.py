"""The table of system calls: each one is declared once, with its number, name, arguments and properties.

Two ways to declare: :func:`passes` for a call that the host makes for the guest as it stands, and the
decorator :func:`syscall` for one that has a handler here. :func:`absent` names the calls that are not there,
so that they can be counted. Everything else (dispatch, names, the sandbox, restarts) derives from the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from quire.errors import InternalError
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import HostCall, Kind
from quire.guest.syscalls.special import Result
from quire.guest.syscalls.state import admit, state_of

if TYPE_CHECKING:
    from quire.guest.process import ProcessGuest

__all__ = ["SYSCALLS", "Effect", "Syscall", "absent", "passes", "syscall"]

Handler = Callable[..., Result]
_H = TypeVar("_H", bound=Handler)


class Effect(Enum):
    """What a call may change outside the guest: what `--sandbox` refuses."""

    #: Nothing, or the handler itself looks closer (open's flags, kill's target).
    NONE = "none"
    #: Names and attributes in the file system: EACCES in a sandbox.
    FILES = "files"
    #: What the descriptor in argument 0 (or 1, or 2) names: EACCES unless the guest may write there.
    OUTPUT = "output"
    OUTPUT_1 = "output of argument 1"
    OUTPUT_2 = "output of argument 2"
    #: The network and other processes: EPERM in a sandbox.
    OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Syscall:
    """One system call. `run` takes the process and the six registers; None is a call that is not there."""

    number: int
    name: str
    kinds: tuple[Kind, ...]
    run: Callable[["ProcessGuest", tuple[int, ...]], Result] | None
    effect: Effect = Effect.NONE
    #: A signal restarts it (ERESTARTSYS); otherwise it answers EINTR.
    restart: bool = False
    #: A signal that the guest does not see leaves it waiting; otherwise the handler minds that itself.
    retries: bool = True
    #: Why it is not there, for the report of unimplemented calls.
    note: str = ""


SYSCALLS: dict[int, Syscall] = {}


def _declare(entry: Syscall) -> None:
    if entry.number in SYSCALLS:
        raise InternalError(f"system call {entry.number} is declared twice: {entry.name}")
    SYSCALLS[entry.number] = entry


def syscall(
    number: int,
    name: str,
    *kinds: Kind,
    effect: Effect = Effect.NONE,
    restart: bool = False,
    retries: bool = True,
) -> Callable[[_H], _H]:
    """Declare the decorated function as the handler of a call.

    It is called with the process and one checked value for each kind. It returns a result or -errno, or
    raises OSError(errno) or BadAddress (EFAULT).
    """

    def declare(handler: _H) -> _H:
        def run(process: "ProcessGuest", arguments: tuple[int, ...]) -> Result:
            values: list[Any] = [
                kind.value(process, raw) for kind, raw in zip(kinds, arguments, strict=False)
            ]
            return handler(process, *values)

        _declare(Syscall(number, name, kinds, run, effect, restart, retries))
        return handler

    return declare


def passes(
    number: int,
    name: str,
    *kinds: Kind,
    effect: Effect = Effect.NONE,
    restart: bool = False,
    opens: bool = False,
    owned: bool = False,
) -> None:
    """Declare a call that the host makes as it stands, with bounce buffers for its pointers.

    `opens`: the result is a new descriptor, which must lie below the guest's limit (EMFILE). `owned`: a
    sandboxed guest may write to it.
    """

    def run(process: "ProcessGuest", arguments: tuple[int, ...]) -> Result:
        call = HostCall(process, arguments, list(arguments[: len(kinds)]))
        # Buffers last: one whose size is over the limit lowers the word of that size, an earlier or later
        # one.
        for index, kind in sorted(enumerate(kinds), key=lambda pair: pair[1].sized):
            kind.lower(call, index)
        result = host.call(number, *call.values)
        if result < 0:
            return result
        for index, kind in enumerate(kinds):
            kind.finish(call, index, result)
        if opens:
            result = admit(process, result)
            if owned and result >= 0:
                state_of(process).own(result)
        return result

    _declare(Syscall(number, name, kinds, run, effect, restart))


def absent(number: int, name: str, note: str = "") -> None:
    """Declare a call that answers ENOSYS and is counted as unimplemented, under its name and `note`."""
    _declare(Syscall(number, name, (), None, note=note))
