"""One line on stderr before the first use compiles the kernels, so that nobody takes the wait for a hang."""

import os
from collections.abc import Iterable
from pathlib import Path

import click

__all__ = ["RUNNING", "WALKING", "say_if_compiling"]

#: The kernels of a walk, and those of a run.
WALKING = ("paging", "paging/ept")
RUNNING = (*WALKING, "paging/memo", "tlb", "tlb/arrays", "tlb/walker", "cpu/soft", "cpu/soft/start")


def say_if_compiling(rooms: Iterable[str]) -> None:
    """Say that kernels are being compiled, if no compiled ones of `rooms` are newer than their sources."""
    root = Path(__file__).resolve().parent.parent
    for room in rooms:
        source = root / room / "_kernels.py"
        if not any(_is_newer(found, source) for found in _compiled(source)):
            click.echo("quire: compiling kernels (once, up to 15 s)", err=True)
            return


def _compiled(source: Path) -> list[Path]:
    """Return what the compiler cached for `source`, wherever it puts it: beside it or in the user's cache."""
    override = os.environ.get("NUMBA_CACHE_DIR")
    if override:
        return list(Path(override).glob(f"*{source.parent.name}*/{source.stem}.*.nbi"))
    beside = list((source.parent / "__pycache__").glob(f"{source.stem}.*.nbi"))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "numba"
    return beside or list(cache.glob(f"*{source.parent.name}*/{source.stem}.*.nbi"))


def _is_newer(compiled: Path, source: Path) -> bool:
    return compiled.stat().st_mtime >= source.stat().st_mtime
