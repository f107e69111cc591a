"""``quire walk --at POINT -- PROGRAM``: one access of a program that runs, in both dimensions, where it stands then."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from quire.cli.notices import say_if_compiling, teller
from quire.cli.run_options import guest_config, guest_parameters, run_spec

if TYPE_CHECKING:
    from quire.guest.kernel.process import ProcessGuest
    from quire.guest.session import Session
    from quire.machine import Vcpu

__all__ = ["live_options", "live_record", "tables_alone"]

_OF_TABLES = ("image", "tables", "base", "vcpu", "cr3", "eptp", "mode", "settings")


def live_options(command: click.Command) -> click.Command:
    """Add what :func:`live_record` takes to `command`: point, place, and a guest's options, which help leaves out."""
    known = {name for one in command.params for name in one.opts}
    hidden = []
    for one in guest_parameters():
        if isinstance(one, click.Option) and not known & {*one.opts}:
            one.hidden = True
            hidden.append(one)
    options = [
        click.Option(["--at"], metavar="POINT",
                     help="Run a program up to there: main+8, an address, 100sys, 5000i, 20ms.  [default: its end]"),
        click.Option(["--address", "place"], metavar="SYMBOL[+N]|ADDRESS",
                     help="The address to walk in a program that runs; rip, rsp or another register too."),
    ]  # fmt: skip
    command.params[:0] = [*options, *hidden]
    return command


def tables_alone(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say where tables lie. Raises click.UsageError if any was given that a guest has."""
    names = (*_OF_TABLES, "profile")
    context = click.get_current_context()
    for name in options:
        if name not in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} is of a program that runs: give --at or --address as well"
            )
    return {name: options[name] for name in names}


def live_record(
    words: tuple[str, ...],
    place: str | None,
    at: str | None,
    walk: Callable[["Vcpu", int], dict[str, Any]],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Run the program up to the point and return the record of `walk` there.

    Raises click.UsageError for options that contradict each other, LaunchError for a program that cannot be run,
    ClickException for one that never comes there.
    """
    if place is None:
        raise click.UsageError("--at runs a program: say with --address what to walk there")
    if not words:
        raise click.UsageError("--address is of a program that runs: give it after --")
    stray = [f"--{name}" for name in _OF_TABLES if options[name]]
    if stray:
        raise click.UsageError(
            f"{stray[0]} says where tables lie, which a program that runs has: leave it out"
        )
    options["profile"] = options["profile"] or "skylake-x"
    options["program"], options["arguments"] = words[0], words[1:]
    config = guest_config(options, vpids=True)
    from quire.guest.own_process import prepare_process

    environ = prepare_process(config.memory)
    say_if_compiling()
    from quire.guest.session import open_session

    found: dict[str, Any] = {}

    def look(vcpu: "Vcpu", guest: "ProcessGuest") -> None:
        found.update(walk(vcpu, _address(place, guest)))

    wanted = run_spec(options, config, "exits", end=at)
    session = open_session(wanted, environ, look=look, say=teller("walk"))
    session.run()
    _check_reached(session)
    return {"source": f"{words[0]}, {_where(session)}", "profile": config.profile.name, "walk": found}


def _address(place: str, guest: "ProcessGuest") -> int:
    from quire.arch import GENERAL
    from quire.errors import MisuseError
    from quire.guest.point import place_of

    if place in (*GENERAL, "rip"):
        return guest.machine.registers.read(place)
    try:
        return place_of(place, guest.program).place(guest)
    except MisuseError as error:
        raise click.UsageError(f"--address: {error}") from None


def _check_reached(session: "Session") -> None:
    end = session.region.end
    if end is not None and not session.region.ended:
        raise click.ClickException(
            f"walk: the program ended with status {session.status} and was never {end.text}: give an earlier point"
        )


def _where(session: "Session") -> str:
    end = session.region.end
    return "at its end" if end is None else end.text
