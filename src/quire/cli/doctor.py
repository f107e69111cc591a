"""``quire doctor``: what this machine has of what Quire needs."""

import click

from quire.cli.output import write_answer

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout instead of the table.")
def command(as_json: bool) -> int:
    """Show versions, kernel cache, KVM, NUMA nodes, limits and walls of this machine, and what to do about each.

    Nothing is compiled and nothing is changed. Exit status: 0 when guests can run here, 1 when something that they
    need is missing.

    \b
    Examples:
      quire doctor
      quire doctor --json
    """
    from quire.cli.facts import machine_facts
    from quire.report import render_json
    from quire.report.doctor import doctor_record, render_doctor

    record = doctor_record(machine_facts())
    write_answer(
        "doctor",
        lambda file: file.write(render_json(record)) if as_json else render_doctor(record, file),
    )
    return 0 if record["ready"] else 1
