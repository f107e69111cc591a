"""``quire doctor``: what this machine has of what Quire needs."""

import sys

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@answer_options("stdout")
def command(as_json: bool, output: str | None) -> int:
    """Show versions, kernel cache, KVM, NUMA nodes, limits and walls of this machine, and what to do about each.

    Nothing is compiled and nothing is changed. Exit status: 0 when guests can run here, 1 when something that they
    need is missing.

    \b
    Examples:
      quire doctor
      quire doctor --json
    """
    from quire.cli.facts import machine_facts
    from quire.report.doctor import doctor_record, render_doctor

    outputs = Outputs("doctor", {"--output": output})
    record = doctor_record(machine_facts())
    outputs.answer(record, render_doctor, as_json=as_json, default=sys.stdout)
    return 0 if record["ready"] else 1
