"""Numbers on the command line: ``0x7fff_f000``, ``0b101``, ``4096``; unsigned, up to 64 bits."""

import click

__all__ = ["NumberType"]


class NumberType(click.ParamType[int]):
    """An unsigned number of at most `bits` bits."""

    name = "number"

    def __init__(self, bits: int = 64) -> None:
        self._bits = bits

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Fails with a usage error that names the value and the bound."""
        from quire.errors import MisuseError
        from quire.paging.settings import parse_number

        if isinstance(value, int):
            return value
        try:
            number = parse_number(str(value))
        except MisuseError as error:
            self.fail(str(error), param, ctx)
        if number >> self._bits:
            self.fail(
                f"{value!r} has more than {self._bits} bits: give at most {(1 << self._bits) - 1:#x}",
                param,
                ctx,
            )
        return number
