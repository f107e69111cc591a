"""Sizes on the command line: ``4K``, ``2M``, ``1G``, ``64GiB``, ``0x1000``, ``4_096``."""

import re

import click

__all__ = ["SizeType"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LONGEST = 40  # digits
_SHAPE = re.compile(r"(0[xX][0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)([KMGTkmgt]?)(?:[iI]?[bB])?")


class SizeType(click.ParamType[int]):
    """A number of bytes with an optional unit of 1024."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes. Fails with a usage error that names the value."""
        if isinstance(value, int):
            return value
        found = _SHAPE.fullmatch(str(value).strip())
        if found is None:
            self.fail(
                f"{value!r} is not a size: give a number with K, M, G or T, for instance 512M", param, ctx
            )
        if len(found[1]) > _LONGEST:
            self.fail(f"a number of {len(found[1])} digits is no size: give one such as 512M", param, ctx)
        digits = found[1].replace("_", "")
        return int(digits, 16 if digits[1:2] in ("x", "X") else 10) * _UNITS[found[2].upper()]
