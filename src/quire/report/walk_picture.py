"""A walk as a picture: the address in parts, the grid of references in the order of the walk, and how it ended.

What a cell is shows in its outline and its words, not in its colour alone: a line where an entry was read, a thick one
where it is to blame, a double one where the walk ended, dashes where it never came, none where there is nothing.
"""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quire.report.picture import ALARM, EPT_TINT, GUEST_TINT, INK, MUTED, draw, picture_style
from quire.report.quantity import format_size
from quire.report.shown import cleaned
from quire.report.walk import walk_circumstances, walk_facts, walk_title
from quire.report.walk_grid import Cell, CellState, Grid, Row, walk_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["walk_picture"]

# All lengths are inches, downwards from the top left corner.
_EDGE, _LABEL, _GAP, _BETWEEN = 0.2, 1.5, 0.26, 0.34
_WIDE, _NARROW, _HIGH, _LOW, _BAND = 5.2, 1.86, 1.24, 1.14, 0.34
_LINE, _TALL, _KEY, _ALONG = 0.2, 0.27, 0.75, 0.76
_PART = 0.62
_LETTER, _LARGE_LETTER = 0.075, 0.105  # of a line of text and of the title, on the safe side
_TINY, _SMALL, _USUAL, _LARGE = 7.0, 8.0, 9.0, 12.0  # points
_ARROW: Any = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
_THICK = {CellState.TO_BLAME: 2.6, CellState.STOPPED: 2.6, CellState.NOT_READABLE: 2.6}


def walk_picture(record: Mapping[str, Any], form: str = "svg") -> bytes:
    """Return the picture of the record of `quire walk`, as `form`: svg, png or pdf."""
    record = cleaned(record)
    with picture_style():
        return draw(_Picture(record).figure(), form, walk_title(record), _description(record))


def _description(record: dict[str, Any]) -> str:
    references = record["walk"]["references"]
    known = {"rule", "because", "result"}
    facts = [f"{name}: {words}" for name, words in walk_facts(record) if name in known]
    return f"{len(references)} references, numbered in the order of the walk. {'. '.join(facts)}."


class _Picture:
    """One picture in the making: where the rows and columns lie, and the axes that everything is drawn on."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record, self.walk = record, record["walk"]
        self.board: Grid = walk_grid(self.walk)
        count = len(self.board.columns)
        self.cell, self.high = (_NARROW, _HIGH) if count else (_WIDE, _LOW)
        self.width = 2 * _EDGE + _LABEL + (count + 1) * self.cell + count * _GAP
        self.title = textwrap.wrap(walk_title(record), int((self.width - 2 * _EDGE) / _LARGE_LETTER))
        self.head = self._wrapped(walk_circumstances(record))
        self.foot = [
            (name, self._wrapped(words, _KEY)) for name, words in walk_facts(record) if name != "flags"
        ]

    def _wrapped(self, words: str, indent: float = 0.0) -> list[str]:
        return textwrap.wrap(words, int((self.width - 2 * _EDGE - indent) / _LETTER))

    def figure(self) -> Any:
        """Return the figure with everything on it."""
        from matplotlib.figure import Figure

        top = _EDGE + 0.15 + _TALL * len(self.title) + _LINE * len(self.head)
        start = top + (_PART + 0.3 if self.walk["split"] else 0.1) + (0.42 if self.board.columns else 0.0)
        self.tops = [start]
        for row in self.board.rows:
            self.tops.append(self.tops[-1] + (_BAND if row.left_out else self.high + _BETWEEN))
        end = self.tops[-1]
        height = end + 0.35 + _LINE * sum(len(lines) for _, lines in self.foot) + _EDGE
        figure = Figure(figsize=(self.width, height))
        figure.set_layout_engine("none")
        axes = self.axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, self.width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        self._heading()
        if self.walk["split"]:
            _address(axes, self.walk, top, self.width)
        self._columns(start)
        for number, row in enumerate(self.board.rows):
            self._label(number, row)
        for number, column, cell in self.board.cells():
            if not self.board.rows[number].left_out:
                self._cell(number, column, cell)
        for before, after in self.board.steps():
            self._arrow(before, after)
        self._legend(end)
        self._facts(end + 0.35)
        return figure

    def _write(self, x: float, y: float, text: str, **style: Any) -> None:
        given: dict[str, Any] = {"size": _USUAL, "va": "top", "color": INK} | style
        self.axes.text(x, y, text, **given)

    def _heading(self) -> None:
        y = _EDGE
        for line in self.title:
            self._write(_EDGE, y, line, size=_LARGE, weight="bold")
            y += _TALL
        for line in self.head:
            self._write(_EDGE, y + 0.03, line, color=MUTED)
            y += _LINE

    def _left(self, column: int) -> float:
        return _EDGE + _LABEL + column * (self.cell + _GAP)

    def _columns(self, start: float) -> None:
        """Write what each column is, above the first row."""
        if not self.board.columns:
            return
        parts = self.walk["ept_split"]["parts"]
        for number, part in enumerate(parts):
            middle = self._left(number) + self.cell / 2
            self._write(middle, start - 0.4, part["table"], ha="center", weight="bold")
            bits = f"gpa bits {part['high']}:{part['low']}"
            self._write(middle, start - 0.22, bits, ha="center", size=_SMALL, color=MUTED)
        middle = self._left(len(parts)) + self.cell / 2
        said = "guest's entry" if self.walk["gva"] is not None else "result"
        self._write(middle, start - 0.4, said, ha="center", weight="bold")
        self._write(_EDGE, start - 0.4, "to translate", weight="bold")

    def _label(self, number: int, row: Row) -> None:
        """Write left of a row what it translates; a root is where EPT's walks, or the only walk, begin."""
        y, nested = self.tops[number], bool(self.board.columns)
        name = "the page" if row.name == "page" else row.name
        if row.left_out:
            self._write(_EDGE, y, name, color=MUTED, style="italic")
            self._write(_EDGE + _LABEL, y, f"left out: {row.guest.words}", color=MUTED, style="italic")
            return
        self._write(_EDGE, y + 0.2, name, weight="bold", va="center")
        if nested and row.address is not None:
            self._write(_EDGE, y + 0.34, f"gpa {row.address}", size=_SMALL, family="monospace")
        first = row.host[0] if row.host else row.guest
        if first.state is not CellState.NOT_REACHED and (nested or number == 0):
            to = self._left(0), y + _ALONG
            style: dict[str, Any] = {"va": "center", "ha": "right", "size": _SMALL, "color": INK}
            root = "EPTP" if nested else "CR3"
            self.axes.annotate(root, to, (to[0] - 0.3, to[1]), arrowprops=_ARROW, **style)

    def _cell(self, number: int, column: int, cell: Cell) -> None:
        from matplotlib.patches import Rectangle

        x, y = self._left(column), self.tops[number]
        if cell.state is CellState.LEFT_OUT:
            said = f"{cell.name}\nleft out:\n{cell.words}"
            self._write(
                x + self.cell / 2, y + 0.08, said, ha="center", size=_SMALL, color=MUTED, style="italic"
            )
            return
        open_ = cell.state is CellState.NOT_REACHED
        host = column < len(self.board.columns)
        colour = MUTED if open_ else ALARM if cell.state in _THICK else INK
        self.axes.add_patch(
            Rectangle(
                (x, y),
                self.cell,
                self.high,
                facecolor="none" if cell.reference is None else EPT_TINT if host else GUEST_TINT,
                edgecolor=colour,
                linewidth=_THICK.get(cell.state, 1.0),
                linestyle=(0, (4, 3)) if open_ else "solid",
                clip_on=False,
            )
        )
        if cell.ends:
            inner = 0.05
            size = self.cell - 2 * inner, self.high - 2 * inner
            self.axes.add_patch(
                Rectangle(
                    (x + inner, y + inner), *size, fill=False, edgecolor=ALARM, linewidth=1.0, clip_on=False
                )
            )
        if cell.reference is not None:
            self._entry(x, y, cell, cell.reference)
        elif cell.state is CellState.PAGE:
            self._page(x, y)
        else:
            self._nothing(x, y, cell, colour)

    def _entry(self, x: float, y: float, cell: Cell, ref: Mapping[str, Any]) -> None:
        """Write what was read: number, name, index; address; value; rights so far, flags set, what is wrong."""
        bold = {"weight": "bold", "va": "center"}
        ground = {"boxstyle": "circle,pad=0.22", "facecolor": INK, "edgecolor": "none"}
        paper = self.axes.figure.get_facecolor()
        self._write(
            x + 0.21, y + 0.2, str(ref["number"]), ha="center", size=_SMALL, bbox=ground,
            **(bold | {"color": paper}),
        )  # fmt: skip
        self._write(x + 0.4, y + 0.2, cell.name, **bold)
        self._write(x + self.cell - 0.1, y + 0.2, f"[{ref['index']}]", ha="right", va="center")
        self._write(x + 0.1, y + 0.37, f"at {ref['hpa']}", family="monospace", size=_SMALL)
        wide = not self.board.columns
        value = ref["entry"] if not wide else f"{ref['entry']}  {ref['bits'] or 'not present'}"
        self._write(x + 0.1, y + 0.54, _cut(value, self.cell), family="monospace", size=_SMALL)
        rights = f"allows {ref['rights']}" + (f", sets {ref['sets']}" if ref["sets"] else "")
        self._write(x + 0.1, y + 0.71, rights, size=_SMALL)
        said = ["walk ends here"] if cell.ends else []
        said += [f"to blame: {cell.words}"] if cell.words else []
        if self.board.columns:
            said = [line for one in said for line in textwrap.wrap(one, int((self.cell - 0.2) / _LETTER))]
        words = ("\n" if self.board.columns else "; ").join(said)
        self._write(x + 0.1, y + 0.88, words, size=_TINY, color=ALARM, weight="bold", linespacing=1.1)

    def _page(self, x: float, y: float) -> None:
        result = self.walk["result"]
        size = result["host_page"] or result["guest_page"]
        sizes = [f"{format_size(size)} page"] if size else []
        kind = [f"memory type {result['memory_type']}"] if result["memory_type"] else []
        lines = [f"hpa {result['hpa']}", f"allows {result['rights']}", *sizes, *kind]
        if not self.board.columns:
            lines[0] = f"physical address {result['hpa']}"
        self._write(x + 0.1, y + 0.1, lines[0], weight="bold")
        self._write(x + 0.1, y + 0.37, "\n".join(lines[1:]), size=_SMALL, linespacing=1.5)

    def _nothing(self, x: float, y: float, cell: Cell, colour: str) -> None:
        name = cell.name if cell.name != "page" else "the page"
        said = "\n".join(textwrap.wrap(cell.state.value, 20 if self.board.columns else 50))
        self._write(x + 0.12, y + 0.12, name, color=colour, weight="bold" if cell.ends else "normal")
        self._write(x + 0.12, y + 0.37, said, color=colour, size=_SMALL, linespacing=1.3)

    def _arrow(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        """Draw the way from one cell to the next: along the row, or down and back to its beginning."""
        (row, column), (to_row, to_column) = before, after
        if row == to_row:
            y = self.tops[row] + _ALONG
            start, end = (self._left(column) + self.cell, y), (self._left(to_column), y)
            self.axes.annotate("", end, start, arrowprops=_ARROW)
            return
        from_x, to_x = self._left(column) + self.cell / 2, self._left(to_column) + self.cell / 2
        top, bottom = self.tops[row] + self.high, self.tops[to_row]
        turn = bottom - _BETWEEN / 2 if from_x != to_x else top
        self.axes.plot([from_x, from_x, to_x], [top, turn, turn], color=INK, linewidth=1.0)
        self.axes.annotate("", (to_x, bottom), (to_x, turn), arrowprops=_ARROW)

    def _legend(self, y: float) -> None:
        """Say how to read it, with the outlines that occur."""
        states = {cell.state for _, _, cell in self.board.cells()}
        said = ["Numbers and arrows: the order of the walk"]
        said += (
            ["double outline: the walk ends"] if states & {CellState.STOPPED, CellState.NOT_READABLE} else []
        )
        said += ["thick outline: to blame"] if CellState.TO_BLAME in states else []
        said += ["dashes: not reached"] if CellState.NOT_REACHED in states else []
        self._write(_EDGE, y, "; ".join(said) + ".", size=_SMALL, color=MUTED, style="italic")

    def _facts(self, y: float) -> None:
        for name, lines in self.foot:
            colour = ALARM if name == "because" or (name == "result" and not self.walk["result"]) else INK
            self._write(_EDGE, y, name, weight="bold", color=colour)
            for line in lines:
                self._write(_EDGE + _KEY, y, line, color=colour)
                y += _LINE


def _cut(text: str, width: float) -> str:
    """Return `text` as far as it fits a cell."""
    room = int((width - 0.2) / 0.064)
    return text if len(text) <= room else text[: room - 3] + "..."


def _address(axes: "Axes", walk: Mapping[str, Any], y: float, width: float) -> None:
    """Draw the address that is translated, as the bits that index each table and the offset in the page."""
    from matplotlib.patches import Rectangle

    boxes = address_boxes(walk)
    each = (width - 2 * _EDGE) / len(boxes)
    for number, (bits, name, value) in enumerate(boxes):
        x = _EDGE + number * each
        axes.add_patch(Rectangle((x, y), each, _PART, facecolor="none", edgecolor=MUTED, linewidth=1.0))
        middle = x + each / 2
        axes.text(middle, y + 0.05, bits, ha="center", va="top", size=_SMALL, color=MUTED)
        axes.text(middle, y + 0.23, name, ha="center", va="top", size=_USUAL, color=INK, weight="bold")
        axes.text(middle, y + 0.42, value, ha="center", va="top", size=_SMALL, color=INK, family="monospace")


def address_boxes(walk: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the parts of the address: bits, whose index they are, the value; a large page has a longer offset."""
    split, linear = walk["split"], walk["gva"] is not None
    dimension = "guest" if linear else "ept"
    pages = [ref["page"] for ref in walk["references"] if ref["dimension"] == dimension and ref["page"]]
    low = (pages[-1] if pages else 1 << split["parts"][-1]["low"]).bit_length() - 1
    boxes = []
    top = 63 if linear else 51
    if split["width"] > 32:
        boxes.append((f"bits {top}:{split['width']}", "sign" if linear else "above", split["above"]))
    for part in split["parts"]:
        if part["low"] >= low:
            bits = f"bits {part['high']}:{part['low']}"
            boxes.append((bits, part["table"], f"{part['index']} = {part['index']:#x}"))
    address = int(walk["gva"] if linear else walk["gpa"], 16)
    boxes.append((f"bits {low - 1}:0", "offset", f"{address & (1 << low) - 1:#x}"))
    return boxes
