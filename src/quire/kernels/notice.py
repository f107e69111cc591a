"""What a person is told when kernels are compiled, who would take the wait for a hang."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ["about_to_compile", "before_compiling", "compiling"]

#: Shows a bar with a title and a number of steps, and gives what is called with a name for each.
Bar = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]

_say: Callable[[str], None] | None = None
_bar: Bar | None = None
#: Why no stored code is used, where none is.
reason = ""


def before_compiling(say: Callable[[str], None], bar: Bar | None = None) -> None:
    """Have `say` called once, with one line, before kernels are next compiled, and `bar` while many are."""
    global _say, _bar
    _say, _bar = say, bar


def about_to_compile(line: str) -> None:
    """Say `line` if nothing was said yet."""
    global _say
    say, _say = _say, None
    if say is not None:
        say(line)


@contextmanager
def compiling(line: str, count: int) -> Iterator[Callable[[str], None]]:
    """Say `line` and show a bar of `count` steps; yield what is called with a name for each that is done."""
    about_to_compile(line)
    if _bar is None:
        yield lambda _: None
    else:
        with _bar("compiling", count) as advance:
            yield advance
