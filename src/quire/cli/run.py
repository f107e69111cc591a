"""``quire run``: one program as a guest, then its report."""

from typing import Any

import click

from quire.arch import WORD
from quire.cli.durations import DurationType
from quire.cli.guest_files import open_image, open_report, write_file
from quire.cli.notices import say, say_if_compiling, teller
from quire.cli.numa_options import numa_config, numa_options
from quire.cli.run_options import guest_config, guest_options, run_spec
from quire.cli.schedules import explore

__all__ = ["checked_status", "command"]


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] [--]",
)
@guest_options
@numa_options
@click.option("--vpid/--no-vpid", default=True, show_default=True,
              help="Without, every VM entry and exit flushes the guest's translations.")  # fmt: skip
@click.option("--detail", type=click.Choice(["exits", "full"]), default="exits", show_default=True,
              help="full: every access goes through the modelled TLB.")  # fmt: skip
@click.option("--report", "kind", type=click.Choice(["table", "json", "none"]), default="table",
              show_default=True, help="What to write when the guest has ended.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --report json.")
@click.option("-o", "--output", metavar="FILE", help="Write the report there, not to stderr; - is stdout.")
@click.option("--save-image", metavar="FILE",
              help="Save the guest's memory there when it ends, as an ELF core: see quire walk.")  # fmt: skip
@click.option("--with-ept", is_flag=True,
              help="Save both dimensions: host-physical memory with EPT, and where EPT begins.")  # fmt: skip
@click.option("--check-flushes", is_flag=True,
              help="Report stale translations, flushes that are missing, flushes not needed.")  # fmt: skip
@click.option("--working-set", type=DurationType(), metavar="TIME",
              help="Sample every TIME, 100ms say, how much memory the guest used since.")  # fmt: skip
@click.option("--clock", type=click.Choice(["virtual", "host"]), default="virtual", show_default=True,
              help="virtual: the guest's time passes with its instructions, and jumps where all wait.")  # fmt: skip
@click.option("--schedules", type=click.IntRange(1, 1_000_000), metavar="N",
              help="Run under N schedules, whose turns end at any instruction, and tell the outcomes; "
              "the exit status is 1 if there are several.")  # fmt: skip
@click.option("--schedule", type=click.IntRange(0, WORD), metavar="K", help="Run under schedule K of those.")
@click.option("--error-exitcode", type=click.IntRange(1, 255), is_flag=False, flag_value=1, metavar="[N]",
              help="Exit with N (1 if left out) if --check-flushes finds a stale translation.")  # fmt: skip
def command(**options: Any) -> int:
    """Run PROGRAM as a guest: any x86-64 Linux ELF, or a script, found on PATH as a shell would.

    The guest has your files, directory, environment and rights. Its exit status is quire's, 128 + N when signal N
    killed it; quire's own failures are 125 (cannot set up), 126 (not executable) and 127 (not found).

    \b
    Examples:
      quire run -- true
      quire run --mmu native -- ls -l /
      quire run --detail full --report json -o report.json -- sort /etc/passwd
      quire run --guest-page 2M --host-page 1G --report none -- gzip -c /etc/services
      quire run --save-image true.core --with-ept -- true
      quire run --mmu shadow --shadow-prefetch 8 -- ls /
      quire run --caching retain -- ls /
      quire run --mmu shadow --check-flushes --error-exitcode 9 -- sort /etc/passwd
      quire run --working-set 100ms -- sort /etc/services
      quire run --profile zen4 --detail full -- ls /
      quire run --numa 2x4G --numa-policy interleave --detail full -- ls /
      quire run --detail full --no-walk-caches --tlb-replacement plru -- ls /
      quire run --clock host -- date
      quire run --vcpus 2 -- sh -c 'true | true'
      quire run --schedules 3 -- sh -c 'true & wait'
    """
    _check(options)
    config = guest_config(
        options, options["vpid"], check_flushes=options["check_flushes"], numa=numa_config(options)
    )
    if options["schedules"] is not None:
        spec = run_spec(options, config, options["detail"], clock=options["clock"])
        return explore(
            spec,
            options["schedules"],
            options["output"],
            as_json=options["as_json"] or options["kind"] == "json",
        )
    from quire.guest.own_process import prepare_process

    environ = prepare_process(config.memory)
    kind, saved = "json" if options["as_json"] else options["kind"], options["save_image"]
    sink = None if kind == "none" else open_report(options["output"])
    image = None if saved is None else open_image(saved)
    say_if_compiling()
    from quire.guest.load.launch import LaunchError
    from quire.guest.session import open_session

    try:
        wanted = run_spec(
            options,
            config,
            options["detail"],
            working_set=options["working_set"],
            clock=options["clock"],
            schedule=options["schedule"],
        )
        session = open_session(wanted, environ, image=image, with_ept=options["with_ept"], say=teller("run"))
        status = session.run()
    except LaunchError as error:
        say(f"quire run: {error}")
        return error.status
    if session.death_text is not None:
        say(f"quire run: {session.death_text}")
    if session.image_error is not None:
        say(f"quire run: the image could not be written: {session.image_error}")
    if sink is not None:
        from quire.report import render_json, render_table

        record = session.record
        write_file(
            sink,
            "report",
            lambda file: file.write(render_json(record)) if kind == "json" else render_table(record, file),
        )
    return checked_status(session.record, kind, options["error_exitcode"], status)


def _check(options: dict[str, Any]) -> None:
    """Raise UsageError for options that say nothing together, or contradict each other."""
    from quire.machine import shape_of

    given = [
        name
        for name in ("schedule", "save_image", "working_set", "error_exitcode")
        if options[name] is not None
    ]
    if options["schedules"] is not None and given:
        option = "--" + given[0].replace("_", "-")
        raise click.UsageError(f"{option} is of one run, --schedules of many: leave one of them out")
    if options["error_exitcode"] is not None and not options["check_flushes"]:
        raise click.UsageError("--error-exitcode says nothing without --check-flushes: give both, or neither")
    if options["working_set"] is not None and not shape_of("process", options["mmu"]).hardware_walks_map:
        raise click.UsageError(
            f"--working-set reads accessed flags of guest memory, which --mmu {options['mmu']} does not keep: "
            "give --mmu ept, or leave it out"
        )
    if options["no_argv"] and options["save_image"] is not None:
        raise click.UsageError(
            "--save-image saves the guest's memory, which has its arguments and environment in it: leave out "
            "--no-argv, or the image"
        )
    has_ept = shape_of("process", options["mmu"]).hardware_walks_map
    if options["with_ept"] and not (options["save_image"] and has_ept):
        raise click.UsageError(
            "--with-ept keeps EPT in the image of a guest under --mmu ept: "
            "give --save-image FILE and --mmu ept as well, or leave it out"
        )


def checked_status(record: dict[str, Any], kind: str, error_status: int | None, status: int) -> int:
    """Say what a check of flushes found, if no report does; return the exit status that it leaves."""
    flushes = record.get("flushes")
    if flushes is None or not flushes["findings"]:
        return status
    if kind == "none":
        from quire.report import render_findings

        say(render_findings(flushes["findings"]).rstrip("\n"))
    return status if error_status is None else error_status
