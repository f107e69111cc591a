"""Seccomp: the host's kernel refuses system calls of this process by itself, whatever Quire's table said.

The filter is made from the table of effects: calls that it refuses in every sandbox, and calls that Quire lacks, are
refused to the process as a whole, but for those that Quire's own runtime needs. Models linux/seccomp.h and the classic
BPF of linux/filter.h.
"""

import errno
import os
import struct
from dataclasses import dataclass

from quire.guest.syscalls import SYSCALLS, host
from quire.guest.syscalls.effects import KEPT_FROM_THE_HOST, Effect

__all__ = ["allowed_calls", "filter_program", "install", "seccomp_is_there"]

_SECCOMP = 317
_SET_FILTER, _ACTION_AVAILABLE = 1, 2
_TSYNC = 1
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_X86_64 = 0xC000003E
#: struct seccomp_data: number, architecture, instruction pointer, six arguments.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _EQUALS, _HAS_BITS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_INSTRUCTION = struct.Struct("<HBBI")
#: Numbers from here on are of the x32 interface.
_X32 = 0x40000000

_CLONE, _CLONE3, _FCNTL, _IOCTL, _TGKILL, _PRLIMIT64 = 56, 435, 72, 16, 234, 302
_UNSHARE, _SETAFFINITY = 272, 203
_CLONE_FS, _CLONE_FILES, _CLONE_THREAD = 0x200, 0x400, 0x10000
#: Calls of Python, Numba and the engine beside those that guests make: memory, threads, signals, the end.
_OF_THE_RUNTIME = frozenset((
    9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 39, 60, 61, 110, 131, 157, 186, 202, 204, 218, 231, 237, 270, 271,
    273, 281, 289, 302, 318, 319, 324, 327, 328, 334,
))  # fmt: skip
#: Calls whose handlers ask the host never, or only outside a sandbox: signals, priorities, processors of others, time.
_NOT_FROM_SANDBOXES = frozenset((
    62, 129, 141, 142, 144, 159, 160, 164, 200, 203, 227, 238, 251, 297, 305, 310, 311, 314,
))  # fmt: skip
#: Who gets signals of an open file and which one; leases; what changes in a directory.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
#: TIOCSTI, TIOCLINUX: typing in the user's place; TIOCEXCL, TIOCSCTTY, TIOCSPGRP, TIOCCONS, TIOCSETD: whose a terminal
#: is; FIOASYNC, FIOSETOWN, SIOCSPGRP: who gets signals.
_IOCTL_REFUSED = (0x5412, 0x541C, 0x540C, 0x540E, 0x5410, 0x541D, 0x5423, 0x5452, 0x8901, 0x8902)


def seccomp_is_there() -> bool:
    """Whether the kernel takes filters that answer with an error."""
    action = host.HostBuffer(4, struct.pack("<I", _ERRNO))
    return host.call(_SECCOMP, _ACTION_AVAILABLE, 0, action.address) == 0


def allowed_calls() -> frozenset[int]:
    """Return the numbers that a sandboxed process may use: what the table allows, and what the runtime needs."""
    table = (
        n
        for n, entry in SYSCALLS.items()
        if entry.run is not None and entry.effect not in KEPT_FROM_THE_HOST | {Effect.PLAYED}
    )
    return (frozenset(table) | _OF_THE_RUNTIME) - _NOT_FROM_SANDBOXES


@dataclass(frozen=True, slots=True)
class _Test:
    """A test of one argument of a call; what fails it, or passes it, is refused."""

    number: int
    argument: int
    operation: int
    values: tuple[int, ...]
    refuse_match: bool


def _tests() -> tuple[_Test, ...]:
    return (
        _Test(_CLONE, 0, _HAS_BITS, (_CLONE_THREAD,), refuse_match=False),
        _Test(_TGKILL, 0, _EQUALS, (os.getpid(),), refuse_match=False),
        _Test(_UNSHARE, 0, _EQUALS, (_CLONE_FS, _CLONE_FILES, _CLONE_FS | _CLONE_FILES), refuse_match=False),
        _Test(_SETAFFINITY, 0, _EQUALS, (0,), refuse_match=False),
        _Test(_PRLIMIT64, 0, _EQUALS, (0, os.getpid()), refuse_match=False),
        _Test(_FCNTL, 1, _EQUALS, _FCNTL_REFUSED, refuse_match=True),
        _Test(_IOCTL, 1, _EQUALS, _IOCTL_REFUSED, refuse_match=True),
    )


def filter_program() -> bytes:
    """Return the filter as instructions."""
    refuse = _step(_RETURN, _ERRNO | errno.EPERM)
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUALS, _X86_64, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    code += [_step(_AT_LEAST, _X32, 0, 1), refuse]
    # The C library tries clone3 first, whose flags lie in memory; told that it is missing, it takes clone.
    code += [_step(_EQUALS, _CLONE3, 0, 1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    tests = _tests()
    for test in tests:
        body = _test_body(test)
        code += [_step(_EQUALS, test.number, 0, len(body)), *body]
    for number in sorted(allowed_calls() - {test.number for test in tests}):
        code += [_step(_EQUALS, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*code, refuse])


def _test_body(test: _Test) -> list[bytes]:
    yes, no = _step(_RETURN, _ALLOW), _step(_RETURN, _ERRNO | errno.EPERM)
    matched, missed = (no, yes) if test.refuse_match else (yes, no)
    body = [_step(_LOAD, _FIRST_ARGUMENT + 8 * test.argument)]  # its low half: they are 32-bit numbers
    for value in test.values:
        body += [_step(test.operation, value, 0, 1), matched]
    return [*body, missed]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)


def install() -> bool:
    """Filter this process from now on, with all its threads; it cannot be taken back. Returns whether it stands."""
    program = filter_program()
    code = host.HostBuffer(len(program), program)
    head = struct.pack("<H6xQ", len(program) // _INSTRUCTION.size, code.address)
    described = host.HostBuffer(len(head), head)
    return host.call(_SECCOMP, _SET_FILTER, _TSYNC, described.address) == 0
