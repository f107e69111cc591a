"""Calls of a guest made in a process of their own, with streams and a folder of its own: they may change it, or end it.

A guest's calls are the host's, made by the process that plays its kernel. With wild numbers they reach what that
process shares with others: its first descriptors, which are /dev/null or the test run's output.
"""

import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from syscall_fakes import FakeProcess

from quire.own_descriptors import FIRST_OWN

__all__ = ["results_apart"]

Call = tuple[int, tuple[int, ...]]


def results_apart(calls: Sequence[Call], folder: Path) -> Iterator[tuple[Call, object]]:
    """Make each call in the same child, as a guest of its own; yield it with its result.

    A result that is no number is yielded as text, with the class of what was raised before it. Of the call that ends
    the child the result is how it ended, and none comes after it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _make(calls, folder, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        results = [json.loads(line) for line in stream]
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    yield from zip(calls, results, strict=False)
    if len(results) < len(calls):
        yield calls[len(results)], f"the process ended with {ended}"


def _make(calls: Sequence[Call], folder: Path, report: int) -> None:
    """Write the result of each call as a line to a descriptor that no guest can name."""
    high = os.dup2(report, FIRST_OWN + 100)
    for number, arguments in calls:
        _own_surroundings(folder)
        try:
            result: object = FakeProcess().call(number, *arguments)
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        text = json.dumps(result if isinstance(result, int) else f"no number: {result}")
        os.write(high, text.encode() + b"\n")


def _own_surroundings(folder: Path) -> None:
    """Give this process three files as its streams, a folder, and no alarm."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.chdir(folder)
    for number in range(3):
        stream = folder / f"stream-{number}"
        stream.unlink(missing_ok=True)  # the last call may have taken its rights
        file = os.open(stream, os.O_RDWR | os.O_CREAT, 0o600)
        if file != number:
            os.dup2(file, number)
            os.close(file)
