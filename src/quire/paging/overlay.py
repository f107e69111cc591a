"""Memory that a walk may write while the memory below stays as it is: what a walk without side effects walks."""

from typing import Any, Protocol

__all__ = ["Overlay", "ReadableWords"]


class ReadableWords(Protocol):
    """8-byte words by number; IndexError where there is none."""

    def __getitem__(self, index: int, /) -> Any: ...


class Overlay:
    """The words of `below`, but for those that were written here, which are in `written`."""

    def __init__(self, below: ReadableWords) -> None:
        self.written: dict[int, int] = {}
        self._below = below

    def __getitem__(self, index: int) -> int:
        found = self.written.get(index)
        return int(self._below[index]) if found is None else found

    def __setitem__(self, index: int, value: int) -> None:
        self.written[index] = value
