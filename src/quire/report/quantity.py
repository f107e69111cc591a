"""Quantities as people read them."""

__all__ = ["format_count", "format_cycles", "format_size"]

_CYCLES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


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


def format_cycles(count: float) -> str:
    """Return `count` cycles with three digits and a unit of 1000: ``0``, ``3.45 M``, ``612 k``."""
    for unit, suffix in _CYCLES:
        if abs(count) >= unit:
            return f"{count / unit:#.3g}".rstrip(".") + f" {suffix}"
    return f"{count:.0f}"
