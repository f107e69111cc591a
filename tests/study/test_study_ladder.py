"""The ladder of walk caches: counts that follow from the caches' sizes alone, and a shape that a wrong model lacks."""

from dataclasses import replace

import pytest

from quire.arch import SKYLAKE_X
from quire.errors import MisuseError
from quire.study.ladder import RUNGS, ladder_record

#: Of a guest whose page tables all fit in the PDE caches: 8 MiB in 4 tables.
SMALL = {"guest_bytes": 8 << 20, "reads": 30_000}


def test_counts_when_every_table_fits() -> None:
    record = ladder_record(SKYLAKE_X, **SMALL)
    per_walk = {row["name"]: round(row["references_per_walk"]) for row in record["rows"]}
    # One guest entry; its table and the page take 4 EPT entries each, then 1 each, then the table's comes from the
    # nested TLB as long as pages have not pushed it out, then pages of 2 MiB fit there as well.
    assert list(per_walk.values()) == [24, 9, 3, 2, 1]
    assert record["first_is_24"] and record["falls"]


def test_a_ladder_that_does_not_fall_says_so() -> None:
    linear_only = replace(
        SKYLAKE_X, walk_caches=tuple(one for one in SKYLAKE_X.walk_caches if not one.guest_physical)
    )
    record = ladder_record(linear_only, **SMALL)
    assert not record["falls"]
    assert record["rows"][1]["references_per_walk"] == record["rows"][3]["references_per_walk"]


def test_progress_and_refusals() -> None:
    heard: list[str] = []
    ladder_record(SKYLAKE_X, guest_bytes=2 << 20, reads=1000, done=heard.append)
    assert heard == [rung.name for rung in RUNGS]
    with pytest.raises(MisuseError) as error:
        ladder_record(SKYLAKE_X, guest_bytes=8 << 20, reads=0)
    assert str(error.value) == "0 reads show nothing: give at least 1"
