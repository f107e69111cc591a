"""References of walks: every count is the published one, and a wrong one would be seen."""

import pytest

from quire.study import references
from quire.study.references import Dimension, Published, count_references, dimensions, references_record


@pytest.mark.parametrize(
    ("guest", "host", "expected"),
    [
        ((4, 1), None, (4, 0)),
        ((5, 3), None, (3, 0)),
        ((4, 1), (4, 1), (4, 20)),
        ((4, 2), (4, 1), (3, 16)),
        ((4, 1), (4, 2), (4, 15)),
        ((4, 3), (4, 3), (2, 6)),
        ((5, 1), (5, 1), (5, 30)),
        ((5, 1), (4, 1), (5, 24)),
    ],
)
def test_counts_by_dimension(
    guest: tuple[int, int], host: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert count_references(Dimension(*guest), host and Dimension(*host)) == expected


def test_all_are_equal_to_the_published_ones() -> None:
    record = references_record()
    assert (record["equal"], record["total"]) == (42, len(dimensions()) * (len(dimensions()) + 1))
    assert {row["references"] for row in record["rows"] if row["host"] is None} == {2, 3, 4, 5}
    assert max(row["references"] for row in record["rows"]) == 35


def test_a_count_that_differs_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "published", lambda guest, host: Published(24, "made up"))
    record = references_record()
    assert 0 < record["equal"] < record["total"]
    assert all(row["equal"] == (row["references"] == 24) for row in record["rows"])
