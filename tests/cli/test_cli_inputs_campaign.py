"""A sample of the campaign of mutated inputs (tests/campaigns/inputs.py), and what it found."""

import sys
from pathlib import Path

import click
import pytest

from quire.cli.sizes import SizeType
from quire.errors import FormatError
from quire.trace.formats import read_trace

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
from inputs import campaign


def test_a_sample_of_mutants_is_read_or_refused_in_one_line() -> None:
    assert sum(campaign(1400, 7).values()) == 1400


def test_sizes_with_a_zero_before_them() -> None:
    size = SizeType()
    assert size.convert("02M", None, None) == 2 << 20
    assert size.convert("00", None, None) == 0
    with pytest.raises(click.BadParameter):
        size.convert("0x_", None, None)


def test_an_array_whose_header_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((  \n")
    with pytest.raises(FormatError, match="is no array of records"):
        read_trace(tmp_path / "trace.npy")
