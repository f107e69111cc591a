"""Executes one run that somebody else described: ``python -m quire.guest.worker SPEC REPORT``.

The record of the run is written to REPORT as JSON. Standard streams are the guest's; the exit status is its own, or a
shell's for a program that cannot be started. What a person should know is said on stderr, as `quire run` says it. The
process ends with the one that started it.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from quire.errors import CANNOT_SET_UP, BackendError, FormatError, MisuseError
from quire.guest.own_process import claim_process, end_with_parent, few_threads, prepare_process
from quire.guest.own_streams import own_streams
from quire.own_descriptors import move_high
from quire.report.shown import shown_lines
from quire.version import __version__

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec

__all__ = ["main"]


def main(spec: str, report: str) -> int:
    """Execute the run described in the file `spec`, and write its record to `report`; return its exit status."""
    end_with_parent()  # before its files are opened: had it ended already, they would not be there
    few_threads()
    from quire.guest.load.launch import LaunchError
    from quire.guest.run_spec import RunSpec
    from quire.report.crash import crash_line

    with own_streams():
        try:
            return _execute(RunSpec.read(Path(spec)), report)
        except LaunchError as error:
            _say(f"quire run: {error}")
            return error.status
        except (BackendError, FormatError, MisuseError) as error:
            _say(f"quire run: {error}")
        except Exception as error:
            _say(f"quire run: {crash_line(error, __version__, sys.argv[:1])}")
        return CANNOT_SET_UP


def _execute(wanted: "RunSpec", report: str) -> int:
    from quire.guest.session import open_session
    from quire.kernels import before_compiling
    from quire.report import render_json

    environ = prepare_process(wanted.config.memory)
    # Opened before the program runs, which may leave no descriptor.
    opened = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    sink = os.fdopen(move_high(opened), "w", encoding="utf-8")
    before_compiling(lambda line: _say(f"quire: {line}"))
    session = open_session(wanted, environ, say=lambda line: _say(f"quire run: {line}"))
    status = session.run()
    if session.death_text is not None:
        _say(f"quire run: {session.death_text}")
    with sink:
        sink.write(render_json(session.record))
    return status


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(shown_lines(text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    claim_process()
    sys.exit(main(*sys.argv[1:]))
