"""Files of traces: what is written is read, in every format, and what is no trace is said so."""

from pathlib import Path

import numpy as np
import pytest

from quire.arch import Side
from quire.errors import FormatError
from quire.trace import FORMATS, read_trace, records, write_trace


def made() -> np.ndarray:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 1 << 47, 300, np.uint64)
    high = low | np.uint64(0xFFFF_8000_0000_0000)
    return np.concatenate([records(low, Side.LOAD), records(high, Side.STORE), records(low, Side.FETCH)])


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"trace{ending}"
    write_trace(path, made())
    assert np.array_equal(read_trace(path), made())
    write_trace(path, made()[:0])
    assert read_trace(path).size == 0


def test_dinero_has_a_line_an_access(tmp_path: Path) -> None:
    path = tmp_path / "trace.din"
    addresses = np.array([0x1000, 0xFFFF_8000_0000_0000], np.uint64)
    write_trace(path, np.concatenate([records(addresses, Side.LOAD), records(addresses[:1], Side.FETCH)]))
    assert path.read_text() == "0 1000\n0 ffff800000000000\n2 1000\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.din",
            b"0 1000\n3 2000\n",
            "Line 2 of '{path}' is no access: '3 2000'; give 0, 1 or 2 and an address",
        ),
        ("a.din", b"0\n", "Line 1 of '{path}' is no access: '0'; give 0, 1 or 2 and an address"),
        (
            "a.din",
            b"1 1" + b"0" * 16 + b"\n",
            "Line 1 of '{path}': address 0x10000000000000000 has more than 64 bits",
        ),
        ("a.txt", b"", "No format of traces has files that end in '.txt': there is .npy, .din"),
    ],
)
def test_what_is_no_trace(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        read_trace(path)
    assert str(error.value) == message.format(path=path)


def test_arrays_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 2), np.int32))
    with pytest.raises(FormatError, match="has int32 in 2 dimensions: records are one dimension of uint64"):
        read_trace(path)
    path.write_bytes(b"no array")
    with pytest.raises(FormatError, match="is no array of records"):
        read_trace(path)
