"""What surrounds the tests and must be as before after each of them: devices, limits, folder, environment, processes.

A guest's calls are made by the host, so a test that gives them wild numbers can reach what is not its own: root's
``fchmod(0, 0)`` closes /dev/null for the whole machine.
"""

import os
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["children", "differences", "files", "put_back", "surroundings"]

ROOT = Path(__file__).parent.parent
DEVICES = tuple(
    f"/dev/{name}" for name in ("null", "zero", "full", "tty", "random", "urandom", "ptmx", "kvm")
)
LIMITS = {getattr(resource, name): name for name in dir(resource) if name.startswith("RLIMIT_")}
#: Written by pytest itself, before each phase of a test.
PYTESTS_OWN = "PYTEST_CURRENT_TEST"
#: Folders of caches, which tools fill at any time.
CACHES = {".git", ".venv", "__pycache__", "build", "dist"}
#: Processes that serve a whole session and end with it.
SERVERS = (b"fork_server.py", b"multiprocessing.resource_tracker")


def surroundings() -> dict[str, object]:
    """Return what a test could change of the process that it runs in, and of the machine, by name."""
    mask = os.umask(0o077)
    os.umask(mask)
    found: dict[str, object] = {
        "umask": f"{mask:#o}",
        "working directory": os.getcwd(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "processors": tuple(sorted(os.sched_getaffinity(0))),
        "user": (os.getresuid(), os.getresgid()),
        "session": (os.getsid(0), os.getpgid(0)),
        "real timer": signal.getitimer(signal.ITIMER_REAL),
    }
    found |= {name: resource.getrlimit(number) for number, name in LIMITS.items()}
    found |= {
        f"handler of {signal.Signals(number).name}": signal.getsignal(number) for number in range(1, 32)
    }
    found |= {f"environment: {name}": text for name, text in os.environ.items() if name != PYTESTS_OWN}
    for name in DEVICES:
        if os.path.exists(name):
            status = os.stat(name)
            found[name] = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"
    return found


def put_back(before: dict[str, object], after: dict[str, object]) -> None:
    """Give devices the modes and owners that they had, if that is any use: they are the machine's, others need them."""
    for name in DEVICES:
        if name in before and before[name] != after.get(name):
            mode, owner = str(before[name]).removeprefix("mode ").split(", owner ")
            if not int(mode, 8):
                continue  # somebody mended it meanwhile
            os.chown(name, *map(int, owner.split(":")))
            os.chmod(name, int(mode, 8))


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return a line for each thing that changed."""
    return [
        f"{name}: {before.get(name, 'absent')} before, {after.get(name, 'absent')} after"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def files() -> set[str]:
    """Return the paths of the repository's files, caches left out."""
    found = set()
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            one for one in folders if one not in CACHES and not one.endswith(("_cache", ".egg-info"))
        ]
        folders[:] = [one for one in folders if one not in (".hypothesis", ".benchmarks")]
        found |= {os.path.relpath(os.path.join(folder, name), ROOT) for name in names}
    return found


def children() -> Iterator[str]:
    """Yield the command of each process that this one started and that is still there, but for servers."""
    for task in Path("/proc/self/task").iterdir():
        for number in (task / "children").read_text().split():
            try:
                command = Path(f"/proc/{number}/cmdline").read_bytes()
            except OSError:
                continue
            if not any(name in command for name in SERVERS):
                words = command.replace(bytes(1), b" ").decode(errors="replace")
                yield f"{number} {words or '(ended, but nobody waited for it)'}"
