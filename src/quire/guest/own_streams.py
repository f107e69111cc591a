"""Quire's own standard output and error: what it says never goes through a descriptor that a guest can reach.

A guest closes its descriptors, puts files in their place, leaves them full or non-blocking. So :func:`own_streams`
writes through files of its own, and :func:`hide_streams`, before a guest runs, gives these copies of descriptors 1
and 2 that no guest may name. Words on stderr never fail and never wait for ever: Quire's exit status does not
depend on who reads them. Answers on stdout wait for their reader as those of every program do, and raise OSError.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from quire.own_descriptors import move_high

__all__ = ["OwnFile", "answer_failure", "hide_streams", "own_streams", "patient_stderr"]

#: Seconds without progress after which words for a reader that reads nothing are given up: a notice, a whole report.
_NOTICE_PATIENCE, _REPORT_PATIENCE = 5.0, 60.0


class OwnFile(io.RawIOBase):
    """Writes to a descriptor that others share, whose flags stay as they are.

    `patience` None: waits for the reader, raises what goes wrong. Else: the seconds for which it waits when nothing
    is read, and what goes wrong is dropped in silence. After a failure it takes everything and writes nothing.
    """

    def __init__(self, descriptor: int, patience: float | None) -> None:
        self.descriptor = descriptor
        self.failure: OSError | None = None  #: what it failed with
        self._patience = patience
        self._given_up = self._stalled = False

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self.descriptor

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def isatty(self) -> bool:
        """Whether a person looks at a terminal there."""
        return os.isatty(self.descriptor)

    def write(self, data: Any) -> int:
        """Write all of `data`; return its length. Raises OSError, BrokenPipeError when nobody reads on."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and not self._given_up:
                if not self._writable():
                    return size
                rest = rest[self._some(rest) :]
        except OSError as error:
            self._given_up, self.failure = True, error
            if self._patience is None:
                raise
        except BaseException:  # somebody interrupts: what is left is not written at the end either
            self._given_up = True
            raise
        return size

    def _writable(self) -> bool:
        """Wait until a small write does not block; return whether that came about before patience ended."""
        waiting = select.poll()
        waiting.register(self.descriptor, select.POLLOUT)
        if self._patience is None:
            return bool(waiting.poll())
        # Whoever read nothing for so long is not waited for again before a line got through.
        self._stalled = not waiting.poll(0 if self._stalled else self._patience * 1000)
        return not self._stalled

    def _some(self, data: memoryview) -> int:
        try:
            return os.write(self.descriptor, data[: select.PIPE_BUF])
        except BlockingIOError:  # a guest has left O_NONBLOCK behind, or wrote in between
            return 0


@contextmanager
def own_streams() -> Iterator[None]:
    """Have sys.stdout and sys.stderr written as Quire's own until the end, if they are the process's."""
    before = sys.stdout, sys.stderr
    for name, descriptor, patience in (("stdout", 1, None), ("stderr", 2, _NOTICE_PATIENCE)):
        found = getattr(sys, name)
        if _is_of(found, descriptor):
            found.flush()
            setattr(sys, name, _text(OwnFile(descriptor, patience), found.encoding, found.errors))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                _flush_last(stream)
        sys.stdout, sys.stderr = before


def hide_streams() -> None:
    """Give Quire's own streams copies of their descriptors, out of a guest's reach. Raises OSError."""
    for stream in (sys.stdout, sys.stderr):
        file = _own_file(stream)
        if file is not None:
            stream.flush()
            file.descriptor = move_high(file.descriptor, close=False)


def answer_failure() -> OSError | None:
    """Return what writing to stdout failed with, None if it did not."""
    file = _own_file(sys.stdout)
    return None if file is None else file.failure


def patient_stderr() -> IO[str]:
    """Return stderr for a whole report, which waits longer for its reader than a line does."""
    file = _own_file(sys.stderr)
    if file is None:
        return sys.stderr if sys.stderr is not None else io.StringIO()  # closed: nobody wants the report
    return _text(OwnFile(file.descriptor, _REPORT_PATIENCE), "utf-8", "backslashreplace")


def _own_file(stream: IO[str] | None) -> OwnFile | None:
    """Return the file under `stream` if it is one of Quire's own."""
    file = getattr(stream, "buffer", None)
    return file if isinstance(file, OwnFile) else None


def _is_of(stream: IO[str] | None, descriptor: int) -> bool:
    """Whether `stream` is the process's own for `descriptor`, not what a test or a notebook put in its place."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _text(file: OwnFile, encoding: str, errors: str) -> IO[str]:
    """Return `file` for text. What its encoding lacks is escaped, unless the user chose something else."""
    chosen = "backslashreplace" if errors in ("strict", "surrogateescape") else errors
    # A raw file takes the place of a buffered one: each write reaches it whole, and it keeps nothing back.
    return io.TextIOWrapper(cast("Any", file), encoding, chosen, line_buffering=True)


def _flush_last(stream: IO[str]) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        pass  # it was said, or nobody reads
