"""``quire warm``: compiles what is missing of Quire's kernels, in parallel, once."""

import sys

import click

from quire.cli.answer import answer_options
from quire.cli.outputs import Outputs

__all__ = ["command"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@answer_options("stdout")
def command(as_json: bool, output: str | None) -> int:
    """Compile the kernels that are missing, in parallel, into the user's cache; a wheel has them all.

    The first command that needs one does the same. Sources that stay as they are are never compiled twice. The cache is
    ~/.cache/quire, or what QUIRE_CACHE_DIR or XDG_CACHE_HOME name. Exit status: 0, or 125 when nothing can be stored.

    \b
    Examples:
      quire warm
    """
    from quire.cli.notices import say_if_compiling
    from quire.errors import BackendError
    from quire.kernels.store import cache_folder
    from quire.kernels.warm import WarmError, warm
    from quire.report.warm import render_warm, warm_record

    outputs = Outputs("warm", {"--output": output})
    say_if_compiling()
    try:
        record = warm_record(warm(), str(cache_folder()))
    except WarmError as error:
        raise BackendError(str(error)) from error
    outputs.answer(record, render_warm, as_json=as_json, default=sys.stdout)
    return 0
