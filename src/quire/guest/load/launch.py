"""Launching: from the words of a command to the files that the guest kernel loads.

Models a POSIX shell's search for a command and the part of execve that resolves ``#!`` lines and the program
interpreter. Nothing is mapped here. Fails with LaunchError, whose status and one line are what a shell would
report.
"""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from quire.errors import CANNOT_SET_UP, NOT_EXECUTABLE, NOT_FOUND, FormatError
from quire.guest.load.elf import ElfImage, read_elf
from quire.guest.load.root import under_root

__all__ = ["LaunchError", "Program", "find_program", "prepare", "prepare_file"]

_DEFAULT_PATH = "/bin:/usr/bin"
#: Bytes of a script's first line that the kernel looks at (BINPRM_BUF_SIZE).
_LINE_BYTES = 256
_MAX_SCRIPTS = 4
_NEITHER = "not an ELF program or a script with an interpreter line"
#: Who runs a script that names nobody.
_SHELL = "/bin/sh"

#: What execve answers, by the status of a shell.
_ERRNO = {NOT_FOUND: errno.ENOENT, NOT_EXECUTABLE: errno.ENOEXEC}


class LaunchError(Exception):
    """A program that cannot be started. `status` is the exit status of a shell: 125, 126 or 127.

    `number` is the errno by which execve refuses it; without one that of the status.
    """

    def __init__(self, status: int, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.errno = _ERRNO.get(status, errno.ENOMEM) if number is None else number

    def __reduce__(self) -> tuple[type["LaunchError"], tuple[int, str, int]]:
        return LaunchError, (self.status, str(self), self.errno)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: the ELF at `path` with `argv`. `execfn` is the name that was executed (AT_EXECFN).

    `scripts` are the files whose ``#!`` lines led there. `envp` is filled in by the process, as ``NAME=value``.
    """

    path: str
    argv: tuple[bytes, ...]
    execfn: bytes
    image: ElfImage
    interpreter: ElfImage | None = None
    scripts: tuple[bytes, ...] = ()
    envp: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where names are looked up: in directory `cwd`, and under `root` first, if there is one."""

    cwd: str
    root: str

    def of(self, name: str) -> str:
        return under_root(self.root, os.path.join(self.cwd, name))


def find_program(name: str, path_env: str | None, cwd: str, root: str = "") -> str:
    """Return the path that a shell in `cwd` executes for command `name`: searched in PATH if it has no slash.

    `path_env` None is a PATH that is not set. Raises LaunchError 127, or 126 if all that was found is not
    executable.
    """
    place = _Place(cwd, root)
    if not name:
        raise LaunchError(NOT_FOUND, "the command is empty: name a program")
    if "/" in name:
        _check_executable(place.of(name), name)
        return name
    refused: LaunchError | None = None
    for folder in (_DEFAULT_PATH if path_env is None else path_env).split(":"):
        found = os.path.join(folder, name)
        try:
            _check_executable(place.of(found), found)
        except LaunchError as error:
            # A directory of that name is no command; a file without permission is one that fails, unless
            # there is another further on.
            if error.status == NOT_EXECUTABLE and not os.path.isdir(place.of(found)):
                refused = refused or error
            continue
        return found
    raise refused or LaunchError(NOT_FOUND, f"{name}: command not found: it is in no directory of PATH")


def prepare(argv: Sequence[str | bytes], path_env: str | None, cwd: str, root: str = "") -> Program:
    """Return the program that command `argv` runs in directory `cwd`, as a shell would. Raises LaunchError."""
    if not argv:
        raise LaunchError(NOT_FOUND, "there is no command: name a program")
    words = [os.fsencode(word) for word in argv]
    if any(b"\0" in word for word in words):
        raise LaunchError(CANNOT_SET_UP, "an argument contains a NUL byte: no program can receive it")
    place = _Place(cwd, root)
    name = find_program(os.fsdecode(words[0]), path_env, cwd, root)
    if _is_bare_script(place.of(name)):
        words, name = [os.fsencode(_SHELL), os.fsencode(name), *words[1:]], _SHELL
        _check_executable(place.of(name), name)
    return _resolved(name, os.fsencode(name), words, place)


def prepare_file(
    path: str, execfn: bytes, words: list[bytes], envp: tuple[bytes, ...], root: str = ""
) -> Program:
    """Return the program that execve of the file at `path` runs, known to it as `execfn`. Raises LaunchError."""
    if not path:
        raise LaunchError(NOT_FOUND, "the path is empty: name a program")
    _check_executable(path, path)
    return replace(_resolved(path, execfn, words, _Place("", root)), envp=envp)


def _is_bare_script(path: str) -> bool:
    """Whether a shell would run the file at `path` itself: a text without ``#!``."""
    try:
        with open(path, "rb") as file:
            start = file.read(_LINE_BYTES)
    except OSError:
        return False  # who reads it next says why
    return not start.startswith((b"#!", b"\x7fELF")) and b"\0" not in start.partition(b"\n")[0]


def _resolved(name: str, execfn: bytes, words: list[bytes], place: _Place) -> Program:
    """Return the program that the file `name` is, or names in its first line. Raises LaunchError."""
    shown = execfn
    scripts: list[bytes] = []
    for _ in range(_MAX_SCRIPTS + 1):
        path = place.of(name)
        line = _interpreter_line(path, name)
        if line is None:
            return replace(_program(path, name, words, execfn, place), scripts=tuple(scripts))
        interpreter, argument = line
        scripts.append(shown)
        words = [interpreter, *argument, shown, *words[1:]]
        script, name, shown = name, os.fsdecode(interpreter), interpreter
        try:
            _check_executable(place.of(name), name)
        except LaunchError as error:
            raise LaunchError(error.status, f"{script}: interpreter {error}", error.errno) from None
    raise LaunchError(
        NOT_EXECUTABLE,
        f"{os.fsdecode(execfn)}: #! lines nest deeper than {_MAX_SCRIPTS}: name a program",
        errno.ELOOP,
    )


def _program(path: str, name: str, words: list[bytes], execfn: bytes, place: _Place) -> Program:
    image = _read(path, name)
    program = Program(path, tuple(words), execfn, image)
    if image.interpreter is None:
        return program
    where = place.of(image.interpreter)
    try:
        _check_executable(where, image.interpreter)
        loader = _read(where, image.interpreter)
    except LaunchError as error:
        raise LaunchError(error.status, f"{name}: program interpreter {error}") from None
    return replace(program, interpreter=loader)


def _read(path: str, name: str) -> ElfImage:
    try:
        return read_elf(path)
    except FormatError as error:
        text = str(error).replace("not an ELF program", _NEITHER)
        raise LaunchError(NOT_EXECUTABLE, f"{name}: {text}") from None
    except OSError as error:
        raise LaunchError(NOT_EXECUTABLE, f"{name}: cannot be read: {_why(error)}") from None


def _interpreter_line(path: str, name: str) -> tuple[bytes, list[bytes]] | None:
    """Return interpreter and optional argument of a script, None without a ``#!``."""
    try:
        with open(path, "rb") as file:
            start = file.read(_LINE_BYTES)
    except OSError as error:
        raise LaunchError(NOT_EXECUTABLE, f"{name}: cannot be read: {_why(error)}") from None
    if not start.startswith(b"#!"):
        return None
    line, newline, _ = start[2:].partition(b"\n")
    words = line.replace(b"\0", b"\n").split(b"\n")[0].strip(b" \t").split(None, 1)
    if not words:
        raise LaunchError(NOT_EXECUTABLE, f"{name}: its #! line names no interpreter")
    if not newline and len(start) == _LINE_BYTES and len(words) == 1:
        raise LaunchError(NOT_EXECUTABLE, f"{name}: its #! line is longer than {_LINE_BYTES} bytes")
    return words[0], words[1:]


def _check_executable(path: str, name: str) -> None:
    """Raise LaunchError unless `path` is a file that may be executed; `name` is what the message calls it."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise LaunchError(NOT_FOUND, f"{name!r}: no such file or directory") from None
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise LaunchError(
            NOT_FOUND if missing else NOT_EXECUTABLE, f"{name}: {_why(error)}", error.errno
        ) from None
    if stat.S_ISDIR(mode):
        raise LaunchError(NOT_EXECUTABLE, f"{name}: is a directory, not a program", errno.EACCES)
    if not stat.S_ISREG(mode):
        raise LaunchError(NOT_EXECUTABLE, f"{name}: is not a regular file", errno.EACCES)
    if not os.access(path, os.X_OK):
        raise LaunchError(
            NOT_EXECUTABLE, f"{name}: permission denied: it is not executable (chmod +x)", errno.EACCES
        )


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
