"""What may be done with a region: reading, writing, executing, and never the last two together (W^X).

Models: a policy as a value; what maps a region elsewhere asks it. Does not model: how a page table says it. Fails:
MisuseError for a page that would be writable and executable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from quire.errors import MisuseError

_LETTERS = "rwx"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a region's pages. MisuseError when they are both writable and executable."""

    read: bool = True
    write: bool = False
    execute: bool = False

    def __post_init__(self) -> None:
        if self.write and self.execute:
            raise MisuseError(
                f"no page may be both writable and executable, as {self} would be: "
                "write it first, then change its rights to 'r-x'"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rights that ``str`` shows as `text`: 'r', 'w', 'x' in their places, or '-'."""
        if len(text) != 3 or any(
            given not in (letter, "-") for given, letter in zip(text, _LETTERS, strict=True)
        ):
            raise MisuseError(f"{text!r} is no policy: give 'r', 'w', 'x' or '-' in each place, as in 'rw-'")
        return cls(*(given != "-" for given in text))

    def __str__(self) -> str:
        held = (self.read, self.write, self.execute)
        return "".join(letter if has else "-" for letter, has in zip(_LETTERS, held, strict=True))
