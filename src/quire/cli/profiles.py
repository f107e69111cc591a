"""``quire profiles``: the modelled processors, and where each number of theirs comes from."""

import sys

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs

__all__ = ["command"]

_CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_CONTEXT, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the modelled processors: their TLBs and walk caches, and where each number comes from.

    Without a subcommand, list them. Other verbs take one by name with --profile, or a TOML file of your own.

    \b
    Examples:
      quire profiles
      quire profiles show zen4
      quire profiles show my-processor.toml
      quire profiles list --json
      quire profiles show skylake-sp --json
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_profiles)


@command.command("list", context_settings=_CONTEXT)
@answer_options("stdout")
def list_profiles(as_json: bool, output: str | None) -> None:
    """Write one line for each profile that comes with Quire."""
    outputs = Outputs("profiles", {"--output": output})
    from quire.arch import profile_by_name, profile_names
    from quire.arch.profile_record import profile_record
    from quire.report.profiles import render_profiles

    records = [profile_record(profile_by_name(name)) for name in profile_names()]
    outputs.answer({"profiles": records}, render_profiles, as_json=as_json, default=sys.stdout)


@command.command("show", context_settings=_CONTEXT)
@click.argument("name", metavar="NAME|FILE")
@answer_options("stdout")
def show_profile(name: str, as_json: bool, output: str | None) -> None:
    """Write every TLB and walk cache of a profile, and the source of every number; a * marks assumptions."""
    from quire.arch import profile_by_name
    from quire.arch.profile_record import profile_record
    from quire.errors import FormatError, MisuseError

    try:
        record = profile_record(profile_by_name(name))
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    outputs = Outputs("profiles show", {"--output": output})
    from quire.report.profiles import render_profile

    outputs.answer(record, render_profile, as_json=as_json, default=sys.stdout)
