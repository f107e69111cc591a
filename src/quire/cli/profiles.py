"""``quire profiles``: the modelled processors, and where each number of theirs comes from."""

import click

from quire.cli.output import write_answer
from quire.cli.outputs import Outputs

__all__ = ["command"]

_CONTEXT = {"help_option_names": ["-h", "--help"]}
_JSON_HELP = "Write the record there as JSON; - is stdout, without the table."


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
      quire profiles list --json profiles.json
      quire profiles show skylake-sp --json -
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_profiles)


@command.command("list", context_settings=_CONTEXT)
@click.option("--json", metavar="FILE", help=_JSON_HELP)
def list_profiles(json: str | None) -> None:
    """Write one line for each profile that comes with Quire."""
    outputs = Outputs("profiles list", {"--json": json})
    from quire.arch import profile_by_name, profile_names
    from quire.arch.profile_record import profile_record
    from quire.report import render_json
    from quire.report.profiles import render_profiles

    records = [profile_record(profile_by_name(name)) for name in profile_names()]
    if json != "-":
        write_answer("profiles", lambda file: render_profiles(records, file))
    if "--json" in outputs:
        outputs.write("--json", render_json({"profiles": records}))


@command.command("show", context_settings=_CONTEXT)
@click.argument("name", metavar="NAME|FILE")
@click.option("--json", metavar="FILE", help=_JSON_HELP)
def show_profile(name: str, json: str | None) -> None:
    """Write every TLB and walk cache of a profile, and the source of every number; a * marks assumptions."""
    from quire.arch import profile_by_name
    from quire.arch.profile_record import profile_record
    from quire.errors import FormatError, MisuseError

    try:
        record = profile_record(profile_by_name(name))
    except (MisuseError, FormatError) as error:
        raise click.UsageError(str(error)) from None
    outputs = Outputs("profiles show", {"--json": json})
    from quire.report import render_json
    from quire.report.profiles import render_profile

    if json != "-":
        write_answer("profiles show", lambda file: render_profile(record, file))
    if "--json" in outputs:
        outputs.write("--json", render_json(record))
