"""Where every command begins and ends: streams and signals put in order, each failure made one line and a status."""

import resource
import sys
from collections.abc import Sequence

from quire.cli.interruption import Interrupted, leave, leaving_on_signals
from quire.errors import CANNOT_SET_UP, BackendError, FormatError, MisuseError
from quire.guest.own_process import ADDRESS_SPACE, claim_process
from quire.guest.own_streams import answer_failure, own_streams
from quire.version import __version__

__all__ = ["NO_ARGV", "command_line", "main"]

NO_ARGV = "--no-argv"  #: keeps a program's arguments out of everything that is written


def command_line() -> None:
    """Run the command line in a process that was started for it, and ends here."""
    claim_process()
    main()


def main() -> None:
    """Run the command line; the process exits here. What the user got wrong exits with 125, as in env and timeout."""
    try:
        with leaving_on_signals(), own_streams():
            status = _guarded(sys.argv[1:])
    except Interrupted as end:
        leave(end)
    sys.exit(status)


def _guarded(words: Sequence[str]) -> int:
    """Do what `words` ask for; return the exit status. Whatever fails is said in one line."""
    import click

    from quire.cli.verbs import invoke, named_verb

    try:
        status = invoke(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
        return 0
    except click.UsageError as error:
        verb = named_verb(error.ctx)
        return _say(f"{verb}: {error.format_message()} (see {verb} --help)")
    except click.ClickException as error:  # its message begins with the verb
        return _say(f"quire {error.format_message()}")
    except (MisuseError, FormatError, BackendError) as error:
        return _say(f"{_verb(words)}: {error}")
    except (OSError, ImportError, MemoryError) as error:
        limit = _narrow_limit()
        if limit is not None:
            return _say(f"{_verb(words)}: {limit}")
        if not isinstance(error, OSError) or error is not answer_failure():
            return _crashed(error, words)
        if isinstance(error, BrokenPipeError):
            return 0  # a reader that leaves is no error
        return _say(f"{_verb(words)}: the answer could not be written: {error.strerror}")
    except Exception as error:
        return _crashed(error, words)


def _narrow_limit() -> str | None:
    """Return what to say of a limit on address space that libraries cannot even be loaded in, None without one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft >= ADDRESS_SPACE:
        return None
    return (
        f"the limit on address space is {soft >> 20} MiB (ulimit -v), too little for what Quire loads: "
        f"raise it to {ADDRESS_SPACE >> 20} MiB or more"
    )


def _crashed(error: Exception, words: Sequence[str]) -> int:
    """Say what nobody foresaw, and where all about it is."""
    from quire.report.crash import crash_line

    shown = [*words[:1], f"(not shown: {NO_ARGV})"] if NO_ARGV in words else words
    return _say(f"{_verb(words)}: {crash_line(error, __version__, ['quire', *shown])}")


def _say(line: str) -> int:
    from quire.cli.notices import say

    say(line)
    return CANNOT_SET_UP


def _verb(words: Sequence[str]) -> str:
    """Return what a message of a failure begins with: the verb that the user gave."""
    return f"quire {words[0]}" if words and not words[0].startswith("-") else "quire"
