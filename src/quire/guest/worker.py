"""Executes one run that somebody else described: ``python -m quire.guest.worker SPEC REPORT``.

The record of the run is written to REPORT as JSON. Standard streams are the guest's; the exit status is its own, or a
shell's for a program that cannot be started. What a person should know is said on stderr, as `quire run` says it.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from quire.guest.own_process import few_threads, move_high, prepare_process

if TYPE_CHECKING:
    from quire.guest.session import Session

__all__ = ["main"]


def main(spec: str, report: str) -> int:
    """Execute the run described in the file `spec`, and write its record to `report`; return its exit status."""
    few_threads()
    from quire.guest.load.launch import LaunchError
    from quire.guest.run_spec import RunSpec
    from quire.guest.session import open_session
    from quire.kernels import before_compiling
    from quire.report import render_json

    wanted = RunSpec.read(Path(spec))
    environ = prepare_process()
    # Opened before the program runs, which may leave no descriptor.
    opened = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    sink = os.fdopen(move_high(opened), "w", encoding="utf-8")
    before_compiling(lambda: _say("quire: compiling kernels (once, up to a minute)"))
    try:
        session = open_session(wanted, environ)
        status = session.run()
    except LaunchError as error:
        _say(f"quire run: {error}")
        return error.status
    _tell(session)
    with sink:
        sink.write(render_json(session.record))
    return status


def _tell(session: "Session") -> None:
    if session.death_text is not None:
        _say(f"quire run: {session.death_text}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
