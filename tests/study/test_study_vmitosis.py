"""GUPS with tables on remote nodes: the counts, the fit, the predictions."""

import pytest

from quire.errors import MisuseError
from quire.study.gups_guest import count_placed
from quire.study.vmitosis import MEASURED, vmitosis_record


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    return vmitosis_record(pages=2048, updates=20_000)


def test_four_are_predicted_within_five_percent(record: dict[str, object]) -> None:
    assert (record["within"], record["predicted"]) == (4, 4)
    rows = record["rows"]
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == [one.name for one in MEASURED]
    for row in rows:
        if row["fitted"]:
            assert row["error"] == 0, "the fit goes through these"
        else:
            assert 0 < abs(row["error"]) <= 0.05


def test_references_are_where_tables_are(record: dict[str, object]) -> None:
    rows = {row["name"]: row for row in record["rows"]}  # type: ignore[attr-defined]
    assert rows["LL"]["remote"] == {"guest_table": 0, "host_table": 0}
    assert rows["LR"]["remote"]["guest_table"] == rows["RL"]["remote"]["host_table"] == 0
    assert rows["LR"]["remote"]["host_table"] > 0.2
    assert rows["RR"]["local"] == {"guest_table": 0, "host_table": 0}


def test_pages_that_cannot_be() -> None:
    with pytest.raises(
        MisuseError, match=r"^600 pages cannot be updated: give a power of two, 512 to 65536$"
    ):
        count_placed(600, 1000, guest_tables=0, host_tables=0, last_cache=0)
