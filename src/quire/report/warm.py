"""The report of `quire warm`: which kernels were compiled, and where their code is."""

from collections.abc import Sequence
from typing import IO, Any

from quire.report.shown import shown

__all__ = ["render_warm", "warm_record"]


def warm_record(compiled: Sequence[str], folder: str) -> dict[str, Any]:
    """Return what was done as one plain record: the modules whose kernels were `compiled` into `folder`."""
    return {"schema": 1, "compiled": list(compiled), "folder": folder}


def render_warm(record: dict[str, Any], file: IO[str]) -> None:
    """Write one line."""
    count = len(record["compiled"])
    done = (
        f"compiled {count} modules of kernels into {record['folder']}"
        if count
        else "all kernels are compiled"
    )
    file.write(shown(done) + "\n")
