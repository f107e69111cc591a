"""Pictures as SVG, PNG or PDF, that read well on light and dark backgrounds and say in words what they show.

The same record gives the same bytes: names of elements are salted with a constant, and there is no date in a file. In
SVG, text stays text, ink and paper follow the reader's colour scheme, and a title and a description are there for those
who cannot see. PNG and PDF have the light colours on paper of their own. No state of matplotlib outside the figure is
used.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from quire.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ALARM", "BY_NIGHT", "EPT_TINT", "GUEST_TINT", "INK", "MUTED", "PAPER", "draw", "picture_style"]

#: Colours by day: text and lines, text that stands back, what is wrong, and the grounds of entries of either dimension.
INK, MUTED, ALARM, GUEST_TINT, EPT_TINT = "#1a1b1c", "#5f6163", "#b3261e", "#e2edf9", "#fbf1d8"
PAPER, _FAINT = "#fdfdfc", "#8a8b8c"
#: Each colour of the day that changes by night, and what it then is.
BY_NIGHT = {
    INK: "#e6e7e8",
    MUTED: "#a6a8aa",
    ALARM: "#ff8f85",
    GUEST_TINT: "#1c3048",
    EPT_TINT: "#3a3016",
    PAPER: "#16171a",
    _FAINT: "#8f9092",
}
_SVG_TAG = "<svg "
_TURNED_BY_NOTHING = re.compile(r' transform="rotate\(-0 [-0-9. ]*\)"')  # which matplotlib says of every text
_PNG_DOTS = 160  # an inch
_TEXTS = ("text", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
_LINES = ("axes.edgecolor", "xtick.color", "ytick.color")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "quire",
    "svg.fonttype": "none",
    "font.size": 9.0,
    # matplotlib brings the first of each; the others are for readers of SVG, which repeats them at every text.
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.monospace": ["DejaVu Sans Mono", "Consolas"],
    "text.parse_math": False,
    "text.color": INK,
    **dict.fromkeys(_TEXTS[1:], INK),
    **dict.fromkeys(_LINES, _FAINT),
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
}


@contextmanager
def picture_style() -> Iterator[None]:
    """Use the same settings on every machine, whatever its user's are."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingPackageError("a picture", "matplotlib") from error

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def draw(figure: "Figure", form: str, title: str, description: str) -> bytes:
    """Return `figure` as `form`, svg, png or pdf; `title` names the picture, `description` says what it shows."""
    file = io.BytesIO()
    figure.savefig(
        file, format=form, bbox_inches="tight", dpi=_PNG_DOTS, metadata=_METADATA[form](title, description)
    )
    return _readable(file.getvalue().decode(), description) if form == "svg" else file.getvalue()


_METADATA: dict[str, Any] = {
    "svg": lambda title, text: {"Date": None, "Creator": "quire", "Title": title},
    "png": lambda title, text: {"Software": "quire", "Title": title, "Description": text},
    "pdf": lambda title, text: {
        "CreationDate": None,
        "Creator": "quire",
        "Producer": None,
        "Title": title,
        "Subject": text,
    },
}


def _readable(svg: str, description: str) -> bytes:
    """Add what readers of the text need, and the colours of the night."""
    end = "</title>"
    body = _TURNED_BY_NOTHING.sub("", svg).replace(_SVG_TAG, f'{_SVG_TAG}role="img" ', 1)
    return body.replace(end, f"{end}\n <desc>{escape(description)}</desc>\n {_NIGHT}", 1).encode()


def _rule(day: str, night: str) -> str:
    kinds = ("fill", "stroke")
    return " ".join(f'[style*="{kind}: {day}"] {{ {kind}: {night} !important }}' for kind in kinds)


_NIGHT = (
    "<style>@media (prefers-color-scheme: dark) { "
    + " ".join(_rule(day, night) for day, night in BY_NIGHT.items())
    + " }</style>"
)
