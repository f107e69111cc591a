"""An address as its walk takes it apart: the bits that index each level's table, and those below, the offset."""

from typing import Any

from quire.arch import PagingMode, ept_layout, gva_index, level_shift, linear_width
from quire.arch.modes import entry_layout

__all__ = ["address_split"]


def address_split(address: int, mode: PagingMode, *, ept: bool = False) -> dict[str, Any] | None:
    """Return the parts of `address` in tables of `mode`, highest level first; None without paging.

    With `ept` the tables are EPT's, whose levels have the geometry of a mode. Each part has ``table`` (the name of an
    entry that references a table, at level 1 a page), ``level``, ``high``, ``low`` (bit numbers) and ``index``. What
    lies above the highest part is ``above``, a sign extension in a linear address of 64 bits; ``width`` is how many
    bits are translated.
    """
    if mode is PagingMode.NONE:
        return None
    width, parts = linear_width(mode), list[dict[str, Any]]()
    high = width - 1
    for level in range(int(mode), 0, -1):
        low = level_shift(level, mode)
        layout = ept_layout(level, level == 1) if ept else entry_layout(level, level == 1, mode)
        index = gva_index(address, level, mode)
        parts.append({"table": layout.title, "level": level, "high": high, "low": low, "index": index})
        high = low - 1
    return {"width": width, "above": f"{address >> width:#x}", "parts": parts}
