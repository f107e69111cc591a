"""Quantities as people read them."""

__all__ = ["format_count", "format_size"]


def format_size(count: int) -> str:
    """Return `count` bytes with the unit of 1024 that keeps it short: ``0 B``, ``316 KiB``, ``2.0 GiB``."""
    amount, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount == int(amount) or amount >= 100 else f"{amount:.1f} {unit}"


def format_count(count: int) -> str:
    """Return `count` with thousands separated: ``3_449_520``."""
    return f"{count:_}"
