"""Makes what is missing of stored code, in parallel, in the user's cache; never twice for the same sources."""

import contextlib
import fcntl
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quire.kernels import notice
from quire.kernels.processor import LEAST, levels
from quire.kernels.sources import reached
from quire.kernels.store import cache_folder, file_name, find, modules_with_code, put, unfit

__all__ = ["WarmError", "keep", "make", "warm"]

#: Of the images of one module, made from different sources, so many stay.
_KEPT = 4
_MOST_PROCESSES = 4
#: These sources, not what is installed: a wheel may be built beside an older one.
_WORKER = """
import sys
from pathlib import Path
from typing import Any
sys.path.insert(0, sys.argv[1])
from quire.kernels.build import serve
serve(Path(sys.argv[2]), sys.argv[3:])
"""


class WarmError(Exception):
    """Code could not be made, or not be stored."""


def warm() -> list[str]:
    """Make what is missing, unless somebody else does: then wait. Return the modules whose images were made."""
    doubt = unfit()
    if doubt is not None:
        raise WarmError(doubt)
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(folder):
            missing = [one for one in modules_with_code() if find(one).image is None]
            if missing:
                _make_all(missing, folder)
                for module in missing:
                    _forget_old(module, folder)
            return missing
    except OSError as error:
        raise WarmError(f"nothing can be stored in {folder}: {error.strerror}") from error


def keep(names: Sequence[str], folder: Path) -> None:
    """Put the images in `folder` of modules `names`, which are imported, into the user's cache, if that can be.

    So whoever builds a wheel does not compile the same sources again for an editable install.
    """
    to, level = cache_folder(), levels()[:1]
    with contextlib.suppress(OSError):
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names if level else ():
            image = (folder / f"{name}.{level[0]}.image").read_bytes()
            put(to / f"{file_name(name)}.{level[0]}.image", image)


def _make_all(missing: list[str], folder: Path) -> None:
    line = "compiling kernels (once, up to a minute)"
    with notice.compiling(line, len(missing)) as advance:
        make({module: file_name(module) for module in missing}, folder, levels()[:1], advance)


def make(
    names: dict[str, str],
    folder: Path,
    wanted: Sequence[str],
    advance: Callable[[str], None] = lambda _: None,
) -> None:
    """Make the images of each module of `names`, for all levels `wanted`, in `folder`; `advance` hears of each module.

    File names begin with what `names` says, and end with the level.
    """
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)), len(names))
    # First those that most modules are compiled into: what is left at the end is short.
    todo = sorted(names, key=lambda module: (-len(reached(module)), module))
    with _workers(folder, wanted, processes) as workers, selectors.DefaultSelector() as waiting:
        for worker in workers:
            waiting.register(worker.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        idle, busy = list(workers), 0
        while todo or busy:
            while todo and idle:
                _order(idle.pop(), todo[0], names[todo.pop(0)])
                busy += 1
            for key, _ in waiting.select():
                worker = key.data
                module = worker.stdout.readline().strip()
                if not module:
                    raise WarmError(f"compiling kernels failed: {_last_line(worker)}")
                advance(module)
                idle.append(worker)
                busy -= 1


def _order(worker: "subprocess.Popen[str]", module: str, name: str) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(f"{module} {name}\n")
        worker.stdin.flush()
    except BrokenPipeError as error:
        raise WarmError(f"compiling kernels failed: {_last_line(worker)}") from error


def _last_line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stderr is not None
    return (worker.stderr.read().strip().splitlines() or ["the compiling process ended"])[-1]


@contextmanager
def _workers(folder: Path, wanted: Sequence[str], count: int) -> "Iterator[list[subprocess.Popen[str]]]":
    """Yield processes that make images; at the end they have ended."""
    command = [sys.executable, "-c", _WORKER, str(Path(__file__).parents[2]), str(folder), *wanted]
    options: dict[str, Any] = {"text": True, "env": _surroundings()} | dict.fromkeys(
        ("stdin", "stdout", "stderr"), subprocess.PIPE
    )
    workers = [subprocess.Popen(command, **options) for _ in range(count)]
    try:
        yield workers
        for worker in workers:
            worker.communicate()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            for stream in (worker.stdin, worker.stdout, worker.stderr):
                assert stream is not None
                stream.close()


def _surroundings() -> dict[str, str]:
    """Return the environment of processes that make images: settings of Numba's are not those of a person."""
    chosen = {"NUMBA_CPU_NAME": LEAST, "NUMBA_CPU_FEATURES": "", "NUMBA_DISABLE_JIT": "0"}
    return {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")} | chosen


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes code in `folder`, and keep others waiting."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _forget_old(module: str, folder: Path) -> None:
    """Remove all but the newest images of `module`."""
    images = sorted(folder.glob(f"{module}-*.image"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in images[_KEPT:]:
        old.unlink(missing_ok=True)
