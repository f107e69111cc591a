"""The four exception roots and the hint that their messages share."""

import pickle

import pytest

from quire.errors import (
    BackendError,
    FormatError,
    InternalError,
    MisuseError,
    did_you_mean,
)


@pytest.mark.parametrize(
    ("root", "builtin"),
    [
        (MisuseError, ValueError),
        (FormatError, ValueError),
        (BackendError, OSError),
        (InternalError, RuntimeError),
    ],
)
def test_roots(root: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(root, builtin)
    assert str(root("x")).startswith("x")


def test_the_two_value_errors_differ() -> None:
    assert not issubclass(MisuseError, FormatError)
    assert not issubclass(FormatError, MisuseError)


def test_internal_error_asks_for_a_report() -> None:
    error = InternalError("Frame 0x5 has two owners.")
    assert str(error) == "Frame 0x5 has two owners. This is a bug in Quire: please report it."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_did_you_mean() -> None:
    assert did_you_mean("rw", ["P", "RW", "US"]) == " (did you mean 'RW'?)"
    assert did_you_mean("guest_cr9", ["guest_cr0", "guest_cr3"]) in {
        " (did you mean 'guest_cr0'?)",
        " (did you mean 'guest_cr3'?)",
    }
    assert did_you_mean("qqq", ["P", "RW"]) == ""
    assert did_you_mean("x", []) == ""
