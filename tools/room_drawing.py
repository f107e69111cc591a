"""Draws a graph without circles in layers, as SVG that is legible on a light and on a dark page.

A node stands one layer above the first of those that import it. A line that passes layers has a waypoint in each, so
that it runs between the boxes; the order within a layer is the mean place of the neighbours, by turns from above and
from below. A line that other lines imply is not drawn: what is imported by an import is no news.
"""

import itertools
from xml.sax.saxutils import escape

__all__ = ["drawn"]

Graph = dict[str, set[str]]
Edge = tuple[str, str]

WIDTH, HEIGHT = 150, 44
GAP, WAYPOINT, LAYER = 26, 26, 92
MARGIN = 20
SWEEPS = 12


def drawn(imports: Graph, captions: dict[str, str]) -> str:
    """Return the SVG of `imports`: a box for each node with its name and caption, a line for each import."""
    layers, lines = _layered(imports)
    for sweep in range(SWEEPS):
        _order(layers, lines, downwards=sweep % 2 == 0)
    places = _placed(layers)
    width = max(x for x, _ in places.values()) + WIDTH / 2 + MARGIN
    height = len(layers) * LAYER - (LAYER - HEIGHT) + 2 * MARGIN
    body = [_line([places[stop] for stop in stops]) for stops in lines]
    body += [_box(*places[name], name, captions[name]) for name in sorted(imports)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" text-anchor="middle">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 8 4 0 8z" fill="#7d8fa8"/></marker></defs>',
            *body,
            "</svg>\n",
        ]
    )


def _layered(imports: Graph) -> tuple[list[list[str]], list[list[str]]]:
    """Return the nodes and waypoints of each layer, the top first, and the stops of each line, its importer first."""
    heights: dict[str, int] = {}
    importers = {name: {other for other in imports if name in imports[other]} for name in imports}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = 1 + max((height(other) for other in importers[name]), default=-1)
        return heights[name]

    top = max(height(name) for name in imports)
    layers: list[list[str]] = [[] for _ in range(top + 1)]
    for name in sorted(imports):
        layers[top - heights[name]].append(name)
    lines = []
    for importer, imported in sorted(_told(imports)):
        stops = [importer]
        for level in range(heights[importer] + 1, heights[imported]):
            stops.append(f"{importer}>{imported}>{level}")
            layers[top - level].append(stops[-1])
        lines.append([*stops, imported])
    return layers, lines


def _told(imports: Graph) -> set[Edge]:
    """Return the imports that no other imports imply."""
    reached: dict[str, set[str]] = {}

    def reach(name: str) -> set[str]:
        if name not in reached:
            reached[name] = imports[name].union(*(reach(other) for other in imports[name]))
        return reached[name]

    return {
        (name, other)
        for name in imports
        for other in imports[name]
        if not any(other in reach(between) for between in imports[name])
    }


def _order(layers: list[list[str]], lines: list[list[str]], *, downwards: bool) -> None:
    """Sort each layer by the mean place of its neighbours in the layer that was sorted before it."""
    neighbours: Graph = {}
    for stops in lines:
        for lower, upper in itertools.pairwise(stops):
            near, far = (lower, upper) if downwards else (upper, lower)
            neighbours.setdefault(near, set()).add(far)
    places = _placed(layers)
    for layer in layers if downwards else reversed(layers):
        middles = {
            name: sum(places[other][0] for other in others) / len(others)
            if (others := neighbours.get(name))
            else places[name][0]
            for name in layer
        }
        layer.sort(key=lambda name: (middles[name], name))
        places |= _placed(layers)


def _placed(layers: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Return the middle of each node and waypoint, every layer in the middle of the widest."""
    sizes = [[WAYPOINT if ">" in name else WIDTH for name in layer] for layer in layers]
    totals = [sum(row) + GAP * (len(row) - 1) for row in sizes]
    places = {}
    for level, (layer, row) in enumerate(zip(layers, sizes, strict=True)):
        left = MARGIN + (max(totals) - totals[level]) / 2
        for name, size in zip(layer, row, strict=True):
            places[name] = (left + size / 2, MARGIN + HEIGHT / 2 + level * LAYER)
            left += size + GAP
    return places


def _line(places: list[tuple[float, float]]) -> str:
    """Return a line from the upper edge of the first box to the lower edge of the last, straight past waypoints."""
    (x, y), *between, (end_x, end_y) = places
    path = f"M{x:.0f} {y - HEIGHT / 2:.0f}"
    y -= HEIGHT / 2
    for to_x, to_y in between:
        path += _bend(y, to_x, to_y + HEIGHT / 2, x) + f"V{to_y - HEIGHT / 2:.0f}"
        x, y = to_x, to_y - HEIGHT / 2
    path += _bend(y, end_x, end_y + HEIGHT / 2 + 2, x)
    return f'<path d="{path}" fill="none" stroke="#7d8fa8" stroke-width="1.5" marker-end="url(#tip)"/>'


def _bend(y: float, to_x: float, to_y: float, x: float) -> str:
    middle = (y + to_y) / 2
    return f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"


def _box(x: float, y: float, name: str, caption: str) -> str:
    return (
        f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="7" '
        f'fill="#eaf1fb" stroke="#4a6fa5" stroke-width="1.5"/>'
        f'<text x="{x:.0f}" y="{y - 3:.0f}" font-size="14" font-weight="bold" fill="#14304f">{escape(name)}</text>'
        f'<text x="{x:.0f}" y="{y + 14:.0f}" font-size="11" fill="#3a5273">{escape(caption)}</text>'
    )
