"""The stack that a program starts on: its arguments, its environment and the auxiliary vector.

Models what Linux x86-64 builds in execve (fs/exec.c, fs/binfmt_elf.c, System V psABI §3.4.1), from the file
name at the very top down to argc at the stack pointer. There is no AT_SYSINFO_EHDR: Quire has no vDSO, so the
C library makes system calls for the time. Fails with LaunchError 126 when the arguments are too long.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from quire.errors import NOT_EXECUTABLE
from quire.guest.kernel.rseq import RSEQ_ALIGN, RSEQ_FEATURES
from quire.guest.load.launch import LaunchError
from quire.guest.mm.linux import PAGE_4K

__all__ = ["AuxValues", "StackImage", "build_stack"]

#: MAX_ARG_STRLEN: one string, with its NUL.
_MAX_STRING = 131072
#: A quarter of RLIMIT_STACK, which is what Linux gives arguments and environment together.
_STACK_SHARE = 4
_PLATFORM = b"x86_64\0"

_AT_NULL, _AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_FLAGS, _AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_PLATFORM, _AT_HWCAP, _AT_CLKTCK, _AT_SECURE = (
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    23,
)
_AT_RANDOM, _AT_HWCAP2, _AT_EXECFN, _AT_MINSIGSTKSZ = 25, 26, 31, 51
_AT_RSEQ_FEATURE_SIZE, _AT_RSEQ_ALIGN = 27, 28
_CLOCK_TICKS = 100


@dataclass(frozen=True, slots=True)
class AuxValues:
    """What the auxiliary vector says: loaded addresses, identity, CPUID.1:EDX, the smallest signal stack."""

    phdr: int
    phent: int
    phnum: int
    base: int
    entry: int
    uid: int
    euid: int
    gid: int
    egid: int
    hwcap: int
    minimum_signal_stack: int


@dataclass(frozen=True, slots=True)
class StackImage:
    """The bytes `data` from the first stack pointer `rsp` up to the top of the stack."""

    rsp: int
    data: bytes


def build_stack(
    top: int,
    argv: Sequence[bytes],
    envp: Sequence[bytes],
    execfn: bytes,
    aux: AuxValues,
    random_bytes: bytes,
    stack_limit: int,
) -> StackImage:
    """Return the stack for a program whose stack ends at `top`. `random_bytes` are AT_RANDOM's 16.

    Raises LaunchError 126 when a string or all of them are longer than Linux allows for `stack_limit` bytes.
    """
    _check_sizes(argv, envp, stack_limit)
    strings = bytearray()
    addresses: list[int] = []
    block = b"".join(word + b"\0" for word in (*argv, *envp))
    name = execfn + b"\0"
    # Eight zero bytes end the stack, below them the file name, the environment, the arguments.
    execfn_at = top - 8 - len(name)
    position = start = execfn_at - len(block)
    for word in (*argv, *envp):
        addresses.append(position)
        position += len(word) + 1
    strings += block + name + bytes(8)
    platform_at = (start - len(_PLATFORM)) & ~0xF
    random_at = platform_at - 16
    words = [len(argv), *addresses[: len(argv)], 0, *addresses[len(argv) :], 0]
    words += _auxiliary(aux, random_at, execfn_at, platform_at)
    rsp = (random_at - 8 * len(words)) & ~0xF
    data = bytearray(top - rsp)
    struct.pack_into(f"<{len(words)}Q", data, 0, *words)
    for address, content in ((random_at, random_bytes), (platform_at, _PLATFORM), (start, strings)):
        data[address - rsp : address - rsp + len(content)] = content
    return StackImage(rsp, bytes(data))


def _auxiliary(aux: AuxValues, random_at: int, execfn_at: int, platform_at: int) -> list[int]:
    """Return the auxiliary vector's words in the kernel's order."""
    pairs = (
        (_AT_MINSIGSTKSZ, aux.minimum_signal_stack),
        (_AT_HWCAP, aux.hwcap),
        (_AT_PAGESZ, PAGE_4K),
        (_AT_CLKTCK, _CLOCK_TICKS),
        (_AT_PHDR, aux.phdr),
        (_AT_PHENT, aux.phent),
        (_AT_PHNUM, aux.phnum),
        (_AT_BASE, aux.base),
        (_AT_FLAGS, 0),
        (_AT_ENTRY, aux.entry),
        (_AT_UID, aux.uid),
        (_AT_EUID, aux.euid),
        (_AT_GID, aux.gid),
        (_AT_EGID, aux.egid),
        (_AT_SECURE, 0),
        (_AT_RANDOM, random_at),
        (_AT_HWCAP2, 0),
        (_AT_EXECFN, execfn_at),
        (_AT_PLATFORM, platform_at),
        (_AT_RSEQ_FEATURE_SIZE, RSEQ_FEATURES),
        (_AT_RSEQ_ALIGN, RSEQ_ALIGN),
        (_AT_NULL, 0),
    )
    return [word for pair in pairs for word in pair]


def _check_sizes(argv: Sequence[bytes], envp: Sequence[bytes], stack_limit: int) -> None:
    longest = max((len(word) + 1 for word in (*argv, *envp)), default=0)
    if longest > _MAX_STRING:
        raise LaunchError(
            NOT_EXECUTABLE,
            f"argument list too long: a string has {longest} bytes, the limit is {_MAX_STRING}: shorten it",
        )
    total, limit = sum(len(word) + 9 for word in (*argv, *envp)), stack_limit // _STACK_SHARE
    if total > limit:
        raise LaunchError(
            NOT_EXECUTABLE,
            f"argument list too long: arguments and environment have {total} bytes, the limit is {limit}: "
            "pass less",
        )
