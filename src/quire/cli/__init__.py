"""The command line: one verb a file, each imported only when it is used, so that ``quire --help`` stays quick.

Contract: data goes to stdout, words and reports to stderr; an error is one line that says what, why and what to do,
never a traceback.
"""

from quire.cli.entry import command_line, main

__all__ = ["command_line", "main"]
