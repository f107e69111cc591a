"""Runs a program as a session in this process, and tells what this process was like before and after it.

The program is probes/hoststate.c, with descriptors as it wants them; the answer goes to descriptor 1, as JSON.
"""

import ctypes
import fcntl
import json
import os
import signal
import termios
from pathlib import Path

from surroundings import surroundings

from quire.cpu import Detail
from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
from quire.machine import GuestConfig
from quire.own_descriptors import FIRST_OWN

__all__ = ["run_apart"]

#: What prctl says of a process, by its number there.
_PRCTLS = {
    "dumpable": 3,
    "keeps capabilities": 7,
    "securebits": 27,
    "timer slack": 30,
    "no new privileges": 39,
}
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_LIBRARY = ctypes.CDLL(None)


def _descriptor(number: int) -> dict[str, str]:
    found = {
        "names": os.readlink(f"/proc/self/fd/{number}"),
        "flags": str(fcntl.fcntl(number, fcntl.F_GETFL)),
        "closes on exec": str(fcntl.fcntl(number, fcntl.F_GETFD)),
        "owner": str(fcntl.fcntl(number, 16, bytes(8))),
        "signal": str(fcntl.fcntl(number, fcntl.F_GETSIG)),
    }
    if os.isatty(number):
        found["modes"] = str(termios.tcgetattr(number))
        found["window"] = str(fcntl.ioctl(number, termios.TIOCGWINSZ, bytes(8)))
    return {f"descriptor {number}: {what}": seen for what, seen in found.items()}


def state() -> dict[str, str]:
    """Return all that a guest could change of this process, by name."""
    found = {name: str(seen) for name, seen in surroundings().items()}
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    for number in sorted(numbers):
        if number < FIRST_OWN and os.path.exists(f"/proc/self/fd/{number}"):
            found |= _descriptor(number)
    status = Path("/proc/self/status").read_text().splitlines()
    kept = (
        "Name",
        "Uid",
        "Gid",
        "Groups",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Cap",
        "NoNewPrivs",
        "Seccomp",
        "VmLck",
    )
    found |= {f"status {line.split(':')[0]}": line for line in status if line.startswith(kept)}
    found |= {name: str(_LIBRARY.prctl(number, 0, 0, 0, 0)) for name, number in _PRCTLS.items()}
    death = ctypes.c_int(0)
    _LIBRARY.prctl(_PR_GET_PDEATHSIG, ctypes.byref(death), 0, 0, 0)
    found["signal at the parent's death"] = str(death.value)
    for which in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        found[f"interval timer {which}"] = str(signal.getitimer(which))
    found["timers"] = Path("/proc/self/timers").read_text()
    found["policy"] = str(os.sched_getscheduler(0))
    locks = Path("/proc/locks").read_text().splitlines()
    found["locks"] = str([line for line in locks if f" {os.getpid()} " in line])
    return found


def run_apart(program: str) -> None:
    """Run the program at this path, without a sandbox."""
    session = open_session(RunSpec((program,), GuestConfig(memory=64 << 20), Detail.EXITS), dict(os.environb))
    answer = os.dup2(1, 300)
    _LIBRARY.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)  # what ids that change take away
    before = state()
    status = session.run()
    after = state()
    os.write(answer, json.dumps({"status": status, "before": before, "after": after}).encode())
