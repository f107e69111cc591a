"""Files of recorded accesses: one entry a format, and the one place where a new format is entered.

A format reads a file into records and writes records to one, see :data:`quire.trace.RECORD`; it is found by the ending
of the file's name. A trace has addresses and sides, nothing else: no clock, no vCPU, no data.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quire.arch import WORD, Side
from quire.errors import FormatError, did_you_mean
from quire.tlb.layout import SIDE_NUMBERS
from quire.trace.record import RECORD, records

__all__ = ["FORMATS", "TraceFormat", "read_trace", "write_trace"]

Records = npt.NDArray[np.uint64]
_DINERO = {"0": Side.LOAD, "1": Side.STORE, "2": Side.FETCH}


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """One format: `ending` of its files' names, with the dot, what `read` makes of a file, what `write` leaves in one.

    `read` raises FormatError for a file that is not of the format.
    """

    ending: str
    words: str  #: what it is, for people
    read: Callable[[Path], Records]
    write: Callable[[Path, Records], None]


def _read_npy(path: Path) -> Records:
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            found: Records = np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python, and fails in as many ways as that
        why = str(error).split("\n", 1)[0]
        raise FormatError(f"{str(path)!r} is no array of records: {why}") from None
    if found.ndim != 1 or found.dtype != np.uint64:
        raise FormatError(
            f"{str(path)!r} has {found.dtype} in {found.ndim} dimensions: records are one dimension of uint64"
        )
    return np.ascontiguousarray(found)


def _write_npy(path: Path, made: Records) -> None:
    with path.open("wb") as file:  # a name is left as it is given
        np.save(file, made, allow_pickle=False)


def _read_dinero(path: Path) -> Records:
    """Read a line an access: 0 read, 1 write or 2 fetch, and the address in hexadecimal."""
    found = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        label, _, rest = line.strip().partition(" ")
        address = rest.split()[0] if rest.split() else ""
        try:
            side, gva = _DINERO[label], int(address, 16)
        except (KeyError, ValueError):
            raise FormatError(
                f"Line {number} of {str(path)!r} is no access: {line[:60]!r}; give 0, 1 or 2 and an address"
            ) from None
        if gva >> 64:
            raise FormatError(f"Line {number} of {str(path)!r}: address {gva:#x} has more than 64 bits")
        found.append(records(np.array([gva], np.uint64), side)[0])
    return np.array(found, np.uint64)


def _write_dinero(path: Path, made: Records) -> None:
    labels = {SIDE_NUMBERS[side]: label for label, side in _DINERO.items()}
    lines = []
    for word in made.tolist():
        gva = RECORD.get(word, "gva")
        sign = RECORD.mask("gva") ^ WORD if gva >> RECORD.mask("gva").bit_length() - 1 else 0
        lines.append(f"{labels[RECORD.get(word, 'side')]} {gva | sign:x}\n")
    path.write_text("".join(lines))


#: Every format by the ending of its files. A new one is a file of its own, or functions above, and a line here.
FORMATS = {
    one.ending: one
    for one in (
        TraceFormat(".npy", "a NumPy array of records", _read_npy, _write_npy),
        TraceFormat(".din", "Dinero's text: label and address", _read_dinero, _write_dinero),
    )
}


def read_trace(path: Path) -> Records:
    """Return the records of the file at `path`, in the format that its name says. Raises FormatError, OSError."""
    return _format(path).read(path)


def write_trace(path: Path, made: Records) -> None:
    """Write records to the file at `path`, in the format that its name says. Raises FormatError, OSError."""
    _format(path).write(path, made)


def _format(path: Path) -> TraceFormat:
    found = FORMATS.get(path.suffix)
    if found is None:
        raise FormatError(
            f"No format of traces has files that end in {path.suffix!r}{did_you_mean(path.suffix, list(FORMATS))}: "
            f"there is {', '.join(FORMATS)}"
        )
    return found
