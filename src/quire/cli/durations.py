"""Times on the command line: a number with its unit, as 100ms or 2s."""

import re

import click

__all__ = ["DurationType"]

_UNITS = {"ms": 1e-3, "s": 1.0}
_LEAST, _MOST = 1e-3, 3600.0


class DurationType(click.ParamType[float]):
    """A time in seconds, from 1 ms to an hour."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return `value` in seconds; refuse what is no time or out of bounds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", str(value))
        if found is None:
            self.fail(f"{value!r} is no time: give a number with ms or s, as in 100ms", param, ctx)
        seconds = float(found[1]) * _UNITS[found[2]]
        if not _LEAST <= seconds <= _MOST:
            self.fail(f"{value} is out of bounds: give 1ms to 3600s", param, ctx)
        return seconds
