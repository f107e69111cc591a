"""Runs one program once for each configuration, each in a process of its own, and collects records and output.

The first run comes alone. Its standard input is ours, read as the program asks for it and kept; its output is shown
as it comes. The others get the input that was kept, and their output is only compared. A terminal is not read: the
program gets an empty input. Fails with RunFailed when a run left no record.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

from quire.errors import BackendError
from quire.guest.run_spec import RunSpec

__all__ = ["RunFailed", "Running", "Setting", "check_settings", "run_all"]

_CHUNK = 1 << 16
#: The module that reads the description of a run, executes it, and writes its record.
_WORKER = "quire.guest.worker"
_ERRORS_SHOWN = 2000
#: Bytes that are kept of each run's output.
_STARTS = 200
#: What a run that is told to end may take for it.
_SECONDS_TO_END = 2.0

Take = Callable[[bytes], object]


class Setting(Protocol):
    """One way to run the program: a configuration of its guest."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def apply(self, spec: RunSpec) -> RunSpec:
        """Return the run that `spec` describes, made so. Raises MisuseError for what cannot be."""
        ...


class RunFailed(BackendError):
    """A run left no record; `status` is what its process ended with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Chosen = TypeVar("Chosen", bound=Setting)


@dataclass(frozen=True, slots=True)
class Running(Generic[Chosen]):
    """What one run left: its record, and its output as a length, a digest and how it begins."""

    configuration: Chosen
    record: dict[str, Any]
    stdout_bytes: int
    stdout_sha256: str
    stdout_start: bytes = b""


def run_all(
    spec: RunSpec,
    configurations: Sequence[Chosen],
    *,
    jobs: int = 1,
    source: int | None = None,
    show: Callable[[bytes], object] = lambda data: None,
    done: Callable[[Running[Chosen]], object] = lambda left: None,
) -> list[Running[Chosen]]:
    """Run `spec` under each configuration, `jobs` at a time after the first; return what each left, in order.

    `source` is a descriptor to read standard input from, None for none. `show` gets the first run's output, `done`
    what each run left when it has ended. Raises RunFailed for the first that failed. Nothing is left running, and no
    file has a name: not even when this process is killed.
    """
    with tempfile.TemporaryFile() as kept:
        runs = _Runs(spec, kept)
        try:
            first = runs.first(configurations[0], source, show)
            done(first)

            def other(configuration: Chosen) -> Running[Chosen]:
                left = runs.replay(configuration)
                done(left)
                return left

            with ThreadPoolExecutor(jobs) as pool:
                waiting = [pool.submit(other, one) for one in configurations[1:]]
                try:
                    return [first, *(one.result() for one in waiting)]
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    runs.stop()
                    raise
        finally:
            runs.stop()


def check_settings(spec: RunSpec, settings: Sequence[Setting]) -> None:
    """Raise MisuseError if `spec` cannot be run under one of them: before the first has run."""
    for one in settings:
        one.apply(spec)


class _Runs:
    """The processes of one comparison, and the input that the first of them was given."""

    def __init__(self, spec: RunSpec, kept: IO[bytes]) -> None:
        self._spec = spec
        self._kept = kept
        self._has_input = False
        self._lock = threading.Lock()
        self._stopped = False
        self._processes: list[subprocess.Popen[bytes]] = []

    def first(
        self, configuration: Chosen, source: int | None, show: Callable[[bytes], object]
    ) -> Running[Chosen]:
        """Run with `source` as input, of which what is read is kept, and show the output."""
        self._has_input = source is not None
        return self._run(configuration, source, self._kept.write, show, sys.stderr)

    def replay(self, configuration: Chosen) -> Running[Chosen]:
        """Run with the input that was kept; its output is only compared, its errors are shown if it fails."""
        with open(f"/proc/self/fd/{self._kept.fileno()}", "rb") as kept, tempfile.TemporaryFile() as errors:
            source = kept.fileno() if self._has_input else None
            try:
                return self._run(configuration, source, _ignore, _ignore, errors)
            except RunFailed as failure:
                errors.seek(0)
                said = errors.read(_ERRORS_SHOWN).decode(errors="replace").strip()
                raise RunFailed(failure.status, f"{failure}; it said: {said}") from None

    def stop(self) -> None:
        """End what still runs: as a person would, and in the end so that no program can ignore it."""
        with self._lock:
            self._stopped = True
            running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()

    def _run(
        self, configuration: Chosen, source: int | None, keep: Take, show: Take, errors: IO[Any]
    ) -> Running[Chosen]:
        with tempfile.TemporaryFile() as spec, tempfile.TemporaryFile() as report:
            configuration.apply(self._spec).write(_path_of(spec))
            process = self._start(configuration.name, (spec, report), source is not None, errors)
            if source is None:
                return _finish(configuration, process, report, show)
            ended, end = os.pipe()
            feeder = threading.Thread(target=_feed, args=(source, ended, process, keep), daemon=True)
            feeder.start()
            try:
                return _finish(configuration, process, report, show)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)  # else the feeder may wait for it for ever
                os.close(end)
                feeder.join()
                os.close(ended)
                self._kept.flush()

    def _start(
        self, name: str, files: Sequence[IO[bytes]], has_input: bool, errors: IO[Any]
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise RunFailed(0, f"{name} was not run")
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _WORKER, *(str(_path_of(file)) for file in files)],
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=_real(errors),
            )
            self._processes.append(process)
            return process


def _path_of(file: IO[bytes]) -> Path:
    """Return where another process finds a file that has no name, while this one has it open."""
    return Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


def _finish(
    configuration: Chosen, process: subprocess.Popen[bytes], report: IO[bytes], show: Take
) -> Running[Chosen]:
    """Return what the process leaves when it has ended; `show` gets its output."""
    assert process.stdout is not None
    length, digest, start = 0, hashlib.sha256(), b""
    while data := os.read(process.stdout.fileno(), _CHUNK):
        length += len(data)
        digest.update(data)
        start += data[: _STARTS - len(start)]
        show(data)
    process.stdout.close()
    status = process.wait()
    try:
        record = json.loads(report.read())
    except ValueError:
        raise RunFailed(
            status, f"{configuration.name} could not be run: status {status} and no record"
        ) from None
    return Running(configuration, record, length, digest.hexdigest(), start)


def _feed(source: int, ended: int, process: subprocess.Popen[bytes], keep: Take) -> None:
    """Copy `source` to the process until either ends; `keep` gets what was copied."""
    assert process.stdin is not None
    sink = process.stdin.fileno()
    try:
        while True:
            ready, _, _ = select.select([source, ended], [], [])
            if source not in ready:
                break
            data = os.read(source, _CHUNK)
            if not data:
                break
            keep(data)
            while data:
                data = data[os.write(sink, data) :]
    except BrokenPipeError:
        pass  # the program reads no more
    finally:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass


def _ignore(data: bytes) -> None:
    """Take output that is only compared."""


def _real(file: IO[Any]) -> IO[Any] | int:
    """Return `file` if a process can have it, else nothing to write to: tests put other objects in its place."""
    try:
        file.fileno()
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL
    return file
