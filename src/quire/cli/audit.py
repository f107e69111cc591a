"""``quire audit``: a program runs as a guest, and who owns each frame of its host is proved meanwhile."""

from typing import TYPE_CHECKING, Any

import click

from quire.cli.answer import answer_options
from quire.cli.guest_files import open_report, write_file
from quire.cli.notices import say, say_if_compiling, teller
from quire.cli.numa_options import numa_config, numa_options
from quire.cli.run_options import guest_config, guest_options, run_spec

if TYPE_CHECKING:
    from quire.guest.session import Session

__all__ = ["command"]

_ORDERS = {0: "4K", 9: "2M", 18: "1G"}


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@guest_options
@numa_options
@click.option("--every", type=click.IntRange(1), default=100, show_default=True, metavar="N",
              help="Audit after every N system calls, and at the end.")  # fmt: skip
@answer_options("stderr")
def command(**options: Any) -> int:
    """Run PROGRAM as a guest and prove, from the records and tables of its host, that each frame has one owner.

    No frame both free and used, none mapped but by the machine that has it, every table reached from exactly one root.
    Exit status: the program's, 1 for a breach; quire's own failures are 125, 126 and 127.

    \b
    Examples:
      quire audit -- true
      quire audit --mmu shadow --every 1 -- ls /
      quire audit --numa 2x4G --replicate-tables --json -o audit.json -- sort /etc/passwd
    """
    config = guest_config(options, vpids=True, numa=numa_config(options))
    from quire.guest.own_process import prepare_process

    environ = prepare_process(config.memory)
    # Opened before the program runs: it may close stdout and stderr, which it shares.
    sink = open_report(options["output"])
    say_if_compiling()
    from quire.guest.load.launch import LaunchError
    from quire.guest.session import open_session
    from quire.report import render_json
    from quire.report.audit import render_audit

    wanted = run_spec(options, config, "exits", audit_every=options["every"])
    try:
        session = open_session(wanted, environ, say=teller("audit"))
        status = session.run()
    except LaunchError as error:
        say(f"quire audit: {error}")
        return error.status
    if session.death_text is not None:
        say(f"quire audit: {session.death_text}")
    record = audit_record(session, options["every"])
    write_file(
        sink,
        "report",
        lambda file: file.write(render_json(record)) if options["as_json"] else render_audit(record, file),
    )
    return 1 if record["breaches"] else status


def audit_record(session: "Session", every: int) -> dict[str, Any]:
    """Return what the audits of a run came to, as a plain record: the last one's counts, every one's breaches."""
    from quire.memory import OwnerKind

    last = session.audits[-1]
    statistics = last.statistics
    config = session.record["config"]
    return {
        "schema": 1,
        "program": session.record["program"],
        "config": {name: config[name] for name in ("mmu", "guest_page", "host_page", "memory")},
        "outcome": session.record["outcome"],
        "audits": len(session.audits),
        "every": every,
        "frames": {
            "total": statistics.frames_total,
            "peak": statistics.frames_peak,
            "by_owner": {kind.name.lower(): statistics.frames_by_kind[kind] for kind in OwnerKind},
        },
        "tables": last.tables,
        "leaves": last.leaves,
        "pages": last.pages,
        "contiguity": {
            "largest_free": statistics.largest_free_frames,
            "unusable": {name: round(statistics.unusable[order], 6) for order, name in _ORDERS.items()},
        },
        "breaches": [text for audit in session.audits for text in audit.breaches],
    }
