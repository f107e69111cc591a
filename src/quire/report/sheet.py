"""A sheet: titles, tables and sentences one below the other, at most 110 columns wide in a file.

Colours only on a terminal that wants them. Lines end without blanks.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Literal, cast

from quire.report.page import PAGE_WIDTH, open_console
from quire.report.shown import shown, shown_lines

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Sheet", "open_sheet"]


class Sheet:
    """What is written appears when the sheet is closed."""

    def __init__(self, console: "Console") -> None:
        self._console = console

    def title(self, text: str) -> None:
        """Write a title."""
        self._console.print(shown(text), style="bold", markup=False)

    def text(self, text: str) -> None:
        """Write a sentence."""
        self._console.print(shown_lines(text), markup=False)

    def highlight(self, text: str) -> None:
        """Write the sentence that matters."""
        self._console.print(shown(text), style="bold green", markup=False)

    def alarm(self, text: str) -> None:
        """Write what must not be overlooked."""
        self._console.print(shown(text), style="bold red", markup=False)

    def bullets(self, sentences: Iterable[str]) -> None:
        """Write one sentence a line, the rest of a long one indented."""
        from rich.padding import Padding
        from rich.table import Table

        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for sentence in sentences:
            table.add_row("-", _plain(sentence))
        self._console.print(Padding(table, (0, 0, 0, 2)))

    def table(
        self,
        columns: Sequence[tuple[str, str]],
        rows: Iterable[Sequence[str]],
        marked: Set[int] = frozenset(),
    ) -> None:
        """Write `rows` below `columns`, names with left or right; the rows numbered in `marked` stand out."""
        from rich.padding import Padding
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for number, (name, side) in enumerate(columns):
            justify = cast('Literal["left", "right"]', side)
            table.add_column(name, justify=justify, no_wrap=side == "right" or not number, overflow="fold")
        for number, row in enumerate(rows):
            table.add_row(*map(_plain, row), style="green" if number in marked else None)
        self._console.print(Padding(table, (0, 0, 0, 2)))


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(shown(text))


@contextmanager
def open_sheet(file: IO[str]) -> Iterator[Sheet]:
    """Give a sheet that is written to `file` at the end."""
    console = open_console(file, PAGE_WIDTH)
    with console.capture() as captured:
        yield Sheet(console)
    file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())
