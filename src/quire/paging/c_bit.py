"""Tables whose entries have AMD's C-bit: a walk reads them without it, and its record shows them as they are.

The C-bit says that a page is encrypted. It stands among the address bits and is none of them (APM 2 §7.10.1).
"""

from typing import Any

from quire.arch import PagingMode
from quire.errors import MisuseError
from quire.paging.context import Context, Words
from quire.paging.overlay import ReadableWords

__all__ = ["WithoutCBit", "without_c_bit"]


class WithoutCBit:
    """The words of `below` with one bit read as 0."""

    def __init__(self, below: ReadableWords, number: int) -> None:
        self._below = below
        self._number = number

    def __getitem__(self, index: int) -> int:
        return int(self._below[index]) & ~(1 << self._number)

    def show(self, walk: dict[str, Any]) -> None:
        """Put the bit back into the references of a walk's record, where an entry has it."""
        for ref in walk["references"]:
            whole = int(self._below[int(ref["hpa"], 16) >> 3])
            if whole >> self._number & 1:
                ref["entry"] = f"{int(ref['entry'], 16) | 1 << self._number:#018x}"
                ref["bits"] = f"{ref['bits']} C".lstrip()


def without_c_bit(context: Words, number: int) -> Words:
    """Return a copy of `context` whose roots have the bit as 0.

    Raises MisuseError in 32-bit paging, whose entries have none.
    """
    if context[Context.MODE] == PagingMode.BITS_32:
        raise MisuseError("Entries of 32-bit paging have no C-bit: leave --c-bit out, or give another --mode")
    found = context.copy()
    for root in (Context.CR3, Context.EPTP):
        found[root] = int(found[root]) & ~(1 << number)
    return found
