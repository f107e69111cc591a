"""Memory types: the PAT, and table 11-7 row by row."""

import pytest

from quire.arch import PAT_RESET, MemoryType, combined_memory_type, pat_index, pat_memory_type
from quire.errors import MisuseError

T = MemoryType
COLUMNS = (T.UC, T.UC_MINUS, T.WC, T.WT, T.WB, T.WP)


def test_the_pat_after_reset() -> None:
    order = [T.WB, T.WT, T.UC_MINUS, T.UC] * 2
    assert [pat_memory_type(PAT_RESET, n) for n in range(8)] == order
    assert pat_memory_type(0x02, 0) is T.UC
    assert [pat_index(pwt, pcd, pat) for pat in (0, 1) for pcd in (0, 1) for pwt in (0, 1)] == list(range(8))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (T.UC, "UC UC WC UC UC UC"),
        (T.WC, "UC WC WC UC WC UC"),
        (T.WT, "UC UC WC WT WT WP"),
        (T.WB, "UC UC WC WT WB WP"),
        (T.WP, "UC WC WC WT WP WP"),
    ],
)
def test_the_pat_combines_with_ept(row: MemoryType, expected: str) -> None:
    assert " ".join(combined_memory_type(row, False, column).name for column in COLUMNS) == expected
    assert {combined_memory_type(row, True, column) for column in COLUMNS} == {row}


def test_what_cannot_be() -> None:
    with pytest.raises(MisuseError) as caught:
        pat_memory_type(PAT_RESET, 8)
    assert str(caught.value) == "PAT index 0x8 does not exist: give 0x0 to 0x7, see pat_index()"
    with pytest.raises(MisuseError) as caught:
        combined_memory_type(T.UC_MINUS, False, T.WB)
    assert str(caught.value) == (
        "An EPT entry cannot hold memory type <MemoryType.UC_MINUS: 7>: the walk stops at it, misconfigured"
    )
