"""The table of system calls: each one is declared once, with its number, name, arguments and properties.

Two ways to declare: :func:`passes` for a call that the host makes for the guest as it stands, and the
decorator :func:`syscall` for one that has a handler here. :func:`absent` names the calls that are not there,
so that they can be counted. Everything else (dispatch, names, the sandbox, restarts) derives from the table.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from quire.errors import InternalError
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import HostCall, Kind
from quire.guest.syscalls.state import admit, creating, group_state

__all__ = [
    "AGAIN",
    "NO_RESULT",
    "RESTART",
    "SYSCALLS",
    "Effect",
    "Result",
    "Special",
    "Syscall",
    "absent",
    "passes",
    "syscall",
]


class Special(Enum):
    """What the process does with the result register when the call has no number to put there."""

    #: The registers are final already: rt_sigreturn restored them, exit needs none.
    NO_RESULT = "no result"
    #: A signal interrupted a call that Linux restarts (ERESTARTSYS): the process restarts it or answers
    #: EINTR, as SA_RESTART of the handler that runs says.
    RESTART = "restart"
    #: The process has another seat from now on: the call is made again as a whole there.
    AGAIN = "again"


NO_RESULT = Special.NO_RESULT
RESTART = Special.RESTART
AGAIN = Special.AGAIN

#: What a system call returns: a number for RAX (negative: -errno) or a :class:`Special`.
Result = int | Special

Handler = Callable[..., Result]
_H = TypeVar("_H", bound=Handler)


@dataclass(frozen=True, slots=True)
class Syscall:
    """One system call. `run` takes the process and the six registers; None is a call that is not there."""

    number: int
    name: str
    kinds: tuple[Kind, ...]
    run: Callable[[Task, tuple[int, ...]], Result] | None
    effect: Effect = Effect.UNKNOWN
    #: A signal restarts it (ERESTARTSYS); otherwise it answers EINTR.
    restart: bool = False
    #: A signal that the guest does not see leaves it waiting; otherwise the handler minds that itself.
    retries: bool = True
    #: Why it is not there, for the report of unimplemented calls.
    note: str = ""
    #: Programs ask for it as a matter of course, and do without it: nobody need hear that it is not there.
    ordinary: bool = False


SYSCALLS: dict[int, Syscall] = {}


def _declare(entry: Syscall) -> None:
    if entry.number in SYSCALLS:
        raise InternalError(f"system call {entry.number} is declared twice: {entry.name}")
    SYSCALLS[entry.number] = entry


def syscall(
    number: int,
    name: str,
    *kinds: Kind,
    effect: Effect = Effect.UNKNOWN,
    restart: bool = False,
    retries: bool = True,
) -> Callable[[_H], _H]:
    """Declare the decorated function as the handler of a call.

    It is called with the process and one checked value for each kind. It returns a result or -errno, or
    raises OSError(errno) or BadAddress (EFAULT).
    """

    def declare(handler: _H) -> _H:
        takers = [kind.value for kind in kinds]

        def run(task: Task, arguments: tuple[int, ...]) -> Result:
            return handler(task, *[take(task, raw) for take, raw in zip(takers, arguments, strict=False)])

        _declare(Syscall(number, name, kinds, run, effect, restart, retries))
        return handler

    return declare


def passes(
    number: int,
    name: str,
    *kinds: Kind,
    effect: Effect = Effect.UNKNOWN,
    restart: bool = False,
    opens: bool = False,
    owned: bool = False,
    creates: bool = False,
) -> None:
    """Declare a call that the host makes as it stands, with bounce buffers for its pointers.

    `opens`: the result is a new descriptor, which must lie below the guest's limit (EMFILE). `owned`: a
    sandboxed guest may write to it. `creates`: it makes a file, with the guest's umask.
    """

    # Buffers last: one whose size is over the limit lowers the word of that size, an earlier or later one.
    order = sorted(enumerate(kinds), key=lambda pair: pair[1].sized)

    def run(task: Task, arguments: tuple[int, ...]) -> Result:
        call = HostCall(task, arguments, list(arguments[: len(kinds)]))
        for index, kind in order:
            kind.lower(call, index)
        with creating(task) if creates else nullcontext():
            result = host.call(number, *call.values)
        if result < 0:
            return result
        for index, kind in enumerate(kinds):
            kind.finish(call, index, result)
        if opens:
            result = admit(task, result)
            if owned and result >= 0:
                group_state(task).own(result)
        return result

    _declare(Syscall(number, name, kinds, run, effect, restart))


def absent(number: int, name: str, note: str = "", *, ordinary: bool = False) -> None:
    """Declare a call that answers ENOSYS and is counted as unimplemented, under its name and `note`.

    The user hears of the first of each name, unless the call is `ordinary`.
    """
    _declare(Syscall(number, name, (), None, note=note, ordinary=ordinary))
