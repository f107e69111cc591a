"""A walk as a grid: a row for each guest-physical address that is translated, a column for each level of EPT.

The last column has the guest's own entries, and in the last row the page. Without EPT that column is all there is. A
walk that ends early, and a page that is mapped higher up, leave cells without a reference: they are there and say so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

from quire.report.quantity import format_size

__all__ = ["Cell", "CellState", "Grid", "Row", "walk_grid"]


class CellState(Enum):
    """What a cell of the grid is; the value says it to a reader."""

    READ = "read"
    TO_BLAME = "to blame"
    STOPPED = "the walk ends here"
    NOT_READABLE = "the walk ends here: no entry to read"
    NOT_REACHED = "not reached"
    LEFT_OUT = "left out: a page is mapped higher up"
    PAGE = "the page"


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry: its name, its reference if it was read, why it is to blame, and what it is."""

    name: str
    state: CellState
    reference: Mapping[str, Any] | None = None
    words: str = ""

    @property
    def ends(self) -> bool:
        """Whether the walk ended here."""
        return self.state in (CellState.STOPPED, CellState.NOT_READABLE)


@dataclass(frozen=True, slots=True)
class Row:
    """What one row translates, and its cells from left to right: EPT's, then the guest's entry or the page."""

    name: str
    address: str | None
    host: tuple[Cell, ...]
    guest: Cell

    @property
    def left_out(self) -> bool:
        """Whether the whole row is left out, for the page is mapped higher up."""
        return self.guest.state is CellState.LEFT_OUT


@dataclass(frozen=True, slots=True)
class Grid:
    """The names of EPT's columns, none without EPT, and the rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def cells(self) -> Iterator[tuple[int, int, Cell]]:
        """Yield row, column and cell in the order of the walk; the guest's column is the last."""
        for number, row in enumerate(self.rows):
            yield from ((number, column, cell) for column, cell in enumerate(row.host))
            yield number, len(self.columns), row.guest

    def steps(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Return the pairs of cells, each as row and column, that the walk goes from and to."""
        passed = (CellState.PAGE, CellState.NOT_READABLE)
        return list(
            pairwise(
                (row, column)
                for row, column, cell in self.cells()
                if cell.reference is not None or cell.state in passed
            )
        )


def walk_grid(walk: Mapping[str, Any]) -> Grid:
    """Return the grid of a walk, of which docs/reference/walk.md has the fields."""
    return _Layout(walk).grid()


class _Layout:
    """One grid in the making: the references cut into rows, then what was not reached or is left out."""

    def __init__(self, walk: Mapping[str, Any]) -> None:
        self.walk = walk
        self.columns: list[Mapping[str, Any]] = walk["ept_split"]["parts"] if walk["ept_split"] else []
        self.blame: dict[int, str] = {}
        for one in walk["culprits"]:
            known = self.blame.get(one["number"])
            self.blame[one["number"]] = one["words"] if known is None else f"{known}, {one['words']}"
        #: Whether the cell after the last one that was read is where the walk ended.
        fault = walk["fault"]
        self.ends_next = fault is not None and walk["ended_at"] is None and fault["table"] is not None

    def grid(self) -> Grid:
        """Return the rows in order: read, then left out and not reached, then the page."""
        rows, left = self._read()
        last = rows[-1].guest.reference if rows else None
        below = [part for part in self._guest_parts() if last is None or part["level"] < last["level"]]
        if last is not None and last["page"] is not None:
            words = f"page of {format_size(last['page'])}"
            rows += [
                Row(part["table"], None, (), Cell(part["table"], CellState.LEFT_OUT, words=words))
                for part in below
            ]
            below = []
        for part in below:
            rows.append(self._open_row(part["table"], left))
            left = []
        rows.append(self._page_row(left))
        return Grid(tuple(part["table"] for part in self.columns), tuple(rows))

    def _guest_parts(self) -> Sequence[Mapping[str, Any]]:
        split = self.walk["split"]
        return split["parts"] if split and self.walk["gva"] is not None else []

    def _read(self) -> tuple[list[Row], list[Mapping[str, Any]]]:
        """Return the rows whose guest entry was read, and EPT's references after the last of them."""
        rows: list[Row] = []
        host: list[Mapping[str, Any]] = []
        for ref in self.walk["references"]:
            if ref["dimension"] == "ept":
                host.append(ref)
            else:
                rows.append(Row(ref["table"], ref["gpa"], self._host_cells(host), self._cell(ref)))
                host = []
        return rows, host

    def _cell(self, ref: Mapping[str, Any]) -> Cell:
        number = ref["number"]
        words = self.blame.get(number, "")
        if number == self.walk["ended_at"]:
            return Cell(ref["table"], CellState.STOPPED, ref, words)
        return Cell(ref["table"], CellState.TO_BLAME if words else CellState.READ, ref, words)

    def _host_cells(self, refs: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
        """Return a cell a column; those below a large page of EPT are left out, those after the end not reached."""
        cells = [self._cell(ref) for ref in refs]
        page = refs[-1]["page"] if refs else None
        for part in self.columns[len(cells) :]:
            if page is not None:
                cells.append(Cell(part["table"], CellState.LEFT_OUT, words=f"page of {format_size(page)}"))
            else:
                cells.append(Cell(part["table"], self._next_state()))
        return tuple(cells)

    def _next_state(self) -> CellState:
        """Return what a cell is that was not read: the first such one may be where the walk ended."""
        if self.ends_next:
            self.ends_next = False
            return CellState.NOT_READABLE
        return CellState.NOT_REACHED

    def _open_row(self, name: str, host: Sequence[Mapping[str, Any]]) -> Row:
        """Return the row of a guest entry that was not read."""
        cells = self._host_cells(host)
        return Row(name, self._sought(cells), cells, Cell(name, self._next_state()))

    def _page_row(self, host: Sequence[Mapping[str, Any]]) -> Row:
        """Return the last row, of the page."""
        cells, result = self._host_cells(host), self.walk["result"]
        if result is None:
            return Row("page", self._sought(cells), cells, Cell("page", self._next_state()))
        return Row("page", result["gpa"], cells, Cell("page", CellState.PAGE))

    def _sought(self, cells: Sequence[Cell]) -> str | None:
        """Return the guest-physical address that a row was to translate when the walk ended in it."""
        fault = self.walk["fault"]
        return fault["gpa"] if fault is not None and any(cell.ends for cell in cells) else None
