"""Quire's own streams: small writes that never block, whatever became of the descriptor, and copies out of reach."""

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from limits import PATIENCE

from quire.guest.own_streams import OwnFile

_SMALL = (
    0.01  # seconds of patience: no test waits for more of them than it takes a full pipe to be found full
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def fill(writer: int) -> int:
    """Fill a pipe; return how many bytes it took. The descriptor is left as it was."""
    os.set_blocking(writer, False)
    taken = 0
    try:
        while True:
            taken += os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    return taken


def test_words_for_a_full_pipe_are_given_up_and_later_ones_get_through(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    file = OwnFile(writer, _SMALL)
    taken = fill(writer)
    assert file.write(b"lost") == 4 and file.failure is None
    while taken:
        taken -= len(os.read(reader, taken))
    assert file.write(b"read") == 4
    assert os.read(reader, 100) == b"read"


def test_an_answer_waits_for_its_reader(pipe: tuple[int, int]) -> None:
    """More than a pipe holds, through a descriptor that somebody left non-blocking: all of it, in order."""
    reader, writer = pipe
    os.set_blocking(writer, False)
    answer = os.urandom(300_000)
    found: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 1 << 16):
            found.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    assert OwnFile(writer, None).write(answer) == len(answer)
    assert not os.get_blocking(writer), "the description is shared: its flags are not Quire's to change"
    os.close(writer)
    thread.join(PATIENCE)
    assert b"".join(found) == answer


@pytest.mark.parametrize("patience", [None, _SMALL])
def test_a_failure_is_raised_for_answers_alone(patience: float | None) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    file = OwnFile(full, patience)
    try:
        if patience is None:
            with pytest.raises(OSError, match="No space left"):
                file.write(b"answer")
        else:
            assert file.write(b"words") == 5
        assert file.failure is not None and file.failure.errno == errno.ENOSPC
        assert file.write(b"more") == 4, "what failed once is not tried again"
    finally:
        os.close(full)


def test_a_reader_that_left_is_told_apart(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        OwnFile(writer, None).write(b"answer")


_HIDDEN = """
import os, sys
from quire.own_descriptors import FIRST_OWN
from quire.guest.own_process import prepare_process
from quire.guest.own_streams import own_streams
with own_streams():
    prepare_process(0)
    os.close(1), os.close(2)
    print("an answer: \\u00a7"), print("words", file=sys.stderr)
    sys.stdout.flush()
    os.write(sys.stdout.fileno(), b"%d\\n" % (sys.stdout.fileno() >= FIRST_OWN <= sys.stderr.fileno()))
"""


def test_what_a_guest_closes_is_not_what_quire_writes_to() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HIDDEN],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"an answer: \\xa7\n1\n", b"words\n")


@pytest.mark.parametrize("limit", [40, 255])
def test_too_few_descriptors_are_refused_by_the_limits_name(limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quire", "run", "--", "true"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        f"quire run: the limit on open files is {limit} (ulimit -Hn), and Quire needs 128 beside the guest's: "
        "raise it to 256 or more\n"
    )


def test_too_little_address_space_is_refused_by_the_limits_name() -> None:
    """Too little for a run, and too little to load the libraries of one."""
    run = ["run", "--memory", "64M", "--", "true"]
    for words, limit, said in (
        (
            run,
            2000,
            "and the engine ends the process where it finds none: "
            "raise it to 2880 MiB or more, or give less --memory",
        ),
        (
            ["lint", "--vmcs", "/dev/null"],
            60,
            "too little for what Quire loads: raise it to 2816 MiB or more",
        ),
    ):
        bound = limit << 20
        done = subprocess.run(
            [sys.executable, "-m", "quire", *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            preexec_fn=lambda bound=bound: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)),
            check=False,
        )
        line = f"quire {words[0]}: the limit on address space is {limit} MiB (ulimit -v), {said}\n"
        assert (done.returncode, done.stdout, done.stderr) == (125, "", line)
