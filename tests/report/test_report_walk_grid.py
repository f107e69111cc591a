"""The grid of a walk: every reference in its cell, and every cell without one says why."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import some
from walk_worlds import GUEST, HOST, World

from quire.arch import Access
from quire.report.walk_grid import CellState, Grid, walk_grid

READ, BLAME, STOPPED = CellState.READ, CellState.TO_BLAME, CellState.STOPPED
UNREAD, OPEN, OUT, PAGE = CellState.NOT_READABLE, CellState.NOT_REACHED, CellState.LEFT_OUT, CellState.PAGE


def grid(record: dict[str, Any]) -> Grid:
    return walk_grid(record["walk"])


def states(made: Grid) -> list[list[CellState]]:
    return [[cell.state for cell in (*row.host, row.guest)] for row in made.rows]


@pytest.mark.parametrize(
    ("guest", "host", "count"), [(4, 4, 24), (5, 5, 35), (4, 5, 29), (5, 4, 29), (4, 0, 4), (5, 0, 5)]
)
def test_the_grid_of_a_whole_walk(guest: int, host: int, count: int) -> None:
    made = grid(World(guest, host).walk())
    assert len(made.columns) == host and len(made.rows) == guest + 1
    numbers = [cell.reference["number"] for _, _, cell in made.cells() if cell.reference]
    assert numbers == list(range(1, count + 1))
    assert Counter(cell.state for _, _, cell in made.cells()) == {READ: count, PAGE: 1}
    assert len(made.steps()) == count
    names = ["PML5E", "PML4E", "PDPTE", "PDE", "PTE", "page"]
    assert [row.name for row in made.rows] == names[5 - guest :]


def test_large_pages_leave_cells_out() -> None:
    """A guest page of 1 GiB leaves two rows out, EPT pages of 2 MiB a cell of each row; the order goes on."""
    made = grid(World(guest_leaf=3, host_leaf=2).walk())
    assert states(made) == [[READ, READ, READ, OUT, READ]] * 2 + [[OUT]] * 2 + [[READ, READ, READ, OUT, PAGE]]
    assert [row.left_out for row in made.rows] == [False, False, True, True, False]
    assert made.rows[2].guest.words == "page of 1 GiB" and made.rows[0].host[3].words == "page of 2 MiB"
    assert made.steps()[-4:] == [((1, 4), (4, 0)), ((4, 0), (4, 1)), ((4, 1), (4, 2)), ((4, 2), (4, 4))]


def test_an_entry_that_is_not_present() -> None:
    """What bit 7 says of an entry that is not present is nothing: no page, and nothing is left out."""
    world = World()
    world.edit(GUEST, 2, 0, 0x80)
    made = grid(world.walk())
    assert states(made)[2:] == [[READ] * 4 + [STOPPED], [OPEN] * 5, [OPEN] * 5]
    assert made.rows[3].address is None
    flat = World(host=0)
    flat.edit(GUEST, 1, 0, 0)
    assert states(grid(flat.walk())) == [[READ], [STOPPED], [OPEN], [OPEN], [OPEN]]


def test_who_is_to_blame_and_where_it_ends() -> None:
    """Two entries lack the right to write: the walk ends at the last one, and both are to blame."""
    world = World(host=0)
    world.edit(GUEST, 1, 0, world.memory[(GUEST >> 3) + 512] & ~2)
    world.edit(GUEST, 3, 5, 0x5005)
    made = grid(world.walk(access=Access.WRITE))
    assert states(made) == [[READ], [BLAME], [READ], [STOPPED], [OPEN]]
    assert [row.guest.words for row in made.rows] == ["", "RW = 0", "", "RW = 0", ""]


def test_a_violation_on_the_way_to_a_guest_table() -> None:
    world = World()
    world.edit(HOST, 3, 2, 0)
    made = grid(world.walk())
    assert states(made) == [[READ] * 5, [READ, READ, READ, STOPPED, OPEN], *[[OPEN] * 5] * 3]
    assert (made.rows[1].name, made.rows[1].address) == ("PDPTE", "0x2000")


def test_a_flag_that_ept_does_not_let_be_set() -> None:
    """The walk ends at the guest's entry, whose accessed flag is to be set; the entry to blame is EPT's before it."""
    world = World()
    world.edit(HOST, 3, 3, 0x3031)
    made = grid(world.walk())
    assert states(made)[2:4] == [[READ, READ, READ, BLAME, STOPPED], [OPEN] * 5]
    assert made.rows[2].host[3].words == "W = 0"


def test_what_could_not_be_read() -> None:
    """A guest table outside memory, a root outside memory, an address that EPT cannot index."""
    world = World()
    world.edit(HOST, 3, 2, 0x2000_0000_0037)
    assert states(grid(world.walk()))[1] == [READ] * 4 + [UNREAD]
    world = World(host=0)
    del world.memory[GUEST >> 3]
    assert states(grid(world.walk())) == [[UNREAD], *[[OPEN]] * 4]
    assert states(grid(World().walk_gpa(5 << 48))) == [[UNREAD, OPEN, OPEN, OPEN, OPEN]]


def test_no_table_is_read_for_an_address_that_is_not_canonical() -> None:
    assert {state for row in states(grid(World().walk(1 << 47))) for state in row} == {OPEN}


def test_ept_alone_has_one_row() -> None:
    made = grid(World().walk_gpa(0x5678))
    assert states(made) == [[READ] * 4 + [PAGE]] and made.rows[0].address == "0x5678"


_EDITS = st.tuples(
    st.sampled_from([GUEST, HOST]),
    st.integers(0, 4),
    st.integers(0, 7),
    st.sampled_from(
        [0, 0x80, 0x5005, 0x5085, 0x5036, 0x20_0000_0037, 0x2000_0000_0037, 1 << 50 | 7, 0x1004, 0x00B7]
    ),
)


@settings(max_examples=some(1000, 100))
@given(
    st.sampled_from([(4, 4), (5, 5), (4, 0), (3, 4), (2, 4), (0, 4)]),
    st.lists(_EDITS, max_size=3),
    st.sampled_from([0x5678, 0x1000, 1 << 47, 0x21_0000]),
    st.sampled_from([Access.READ, Access.WRITE, Access.FETCH]),
)
def test_each_reference_has_its_cell_whatever_the_tables_hold(
    levels: tuple[int, int], edits: list[tuple[int, int, int, int]], address: int, access: Access
) -> None:
    """In order, once; the walk ends in one cell exactly if an entry or its place refused it; steps lead forward."""
    world = World(*levels)
    for root, depth, index, value in edits:
        world.edit(root, depth, index, value)
    walk = world.walk(address, access)["walk"]
    made = walk_grid(walk)
    cells = [cell for _, _, cell in made.cells()]
    assert [cell.reference for cell in cells if cell.reference is not None] == walk["references"]
    assert sum(cell.state is PAGE for cell in cells) == (walk["result"] is not None)
    refused = walk["fault"] is not None and (
        walk["ended_at"] is not None or walk["fault"]["table"] is not None
    )
    assert sum(cell.ends for cell in cells) == refused
    blamed = {cell.reference["number"] for cell in cells if cell.words and cell.reference}
    assert blamed == {one["number"] for one in walk["culprits"]}
    assert all(len(row.host) in (0, len(made.columns)) for row in made.rows)
    assert all(before < after for before, after in made.steps())
