"""``python -m quire``."""

from quire.cli import command_line

command_line()
