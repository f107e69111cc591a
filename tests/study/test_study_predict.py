"""The cost model against sums made by hand: which cache serves what, and every component of a prediction."""

from pathlib import Path

import pytest
from study_fakes import record, round_costs

from quire.errors import MisuseError
from quire.study import COMPONENTS, Counts, Figure, predict
from quire.study.capacity import Group, groups_of, served_by
from quire.study.costs import Cache


def cache(name: str, capacity: float) -> Cache:
    figure = Figure(capacity, "made up")
    return Cache(name, figure, Figure(1.0, "made up"), figure)


CACHES = (cache("l1", 100), cache("l2", 300), cache("l3", 600))


def test_the_densest_group_lies_nearest_and_what_is_left_over_goes_outwards() -> None:
    groups = [Group("c", "host", 10, 1000), Group("a", "guest", 10, 50), Group("b", "guest", 10, 400)]
    # a is bytes 0 to 50, b 50 to 450, c 450 to 1450; l1 ends at 100, l2 at 300, l3 at 600.
    assert served_by(groups, CACHES) == {
        "host": {"l1": 0, "l2": 0, "l3": pytest.approx(1.5), "memory": pytest.approx(8.5)},
        "guest": {
            "l1": pytest.approx(10 + 1.25),
            "l2": pytest.approx(5),
            "l3": pytest.approx(3.75),
            "memory": pytest.approx(0),
        },
    }


def test_a_cache_smaller_than_the_one_before_it_serves_nothing() -> None:
    served = served_by([Group("a", "guest", 8, 200)], (cache("l1", 100), cache("l2", 50), cache("l3", 150)))
    assert served == {"guest": {"l1": 4, "l2": 0, "l3": 2, "memory": 2}}


def test_groups_of_a_native_run() -> None:
    upper, leaf = groups_of(Counts.of(record()))
    assert (upper.references, upper.size) == (30, 3 * 64)  # a line a level
    assert (leaf.references, leaf.size) == (10, 2 * 64)  # 16 leaves of 8 bytes


def test_groups_of_a_nested_run_split_the_24_references() -> None:
    groups = {group.name: group for group in groups_of(Counts.of(record("ept")))}
    found = {name: group.references for name, group in groups.items()}
    # Of 50 translations of 4 entries 10 are of pages, 40 of the guest's tables.
    assert found == {
        "guest upper": 30,
        "guest leaf": 10,
        "host upper": 150,
        "host leaf of tables": 40,
        "host leaf of pages": 10,
    }
    assert sum(found.values()) == 240
    assert groups["host leaf of tables"].size == 64  # 4 tables, 4 leaves: one line


def test_large_pages_have_fewer_leaves_and_fewer_levels() -> None:
    made = record("ept")
    made["config"]["host_page"] = 2 << 20
    made["walks"]["references"]["host"] = 150
    groups = {group.name: group for group in groups_of(Counts.of(made))}
    assert groups["host upper"].references == 100
    assert groups["host upper"].size == 2 * 64
    assert groups["host leaf of pages"].size == 64


def test_many_tables_take_an_entry_each() -> None:
    made = record()
    made["memory"]["guest"] = {"mapped": 1 << 30, "resident": 1 << 30, "table_pages": 515}
    upper, leaf = groups_of(Counts.of(made))
    assert upper.size == 65 * 64  # 514 entries of 8 bytes
    assert leaf.size == (1 << 30) // 4096 * 8


def test_a_shadow_walk_reads_shadow_tables_in_one_dimension() -> None:
    made = record("shadow")
    made["memory"]["shadow"]["table_pages"] = 515
    groups = groups_of(Counts.of(made))
    assert [group.dimension for group in groups] == ["guest", "guest"]
    assert groups[0].size == 65 * 64
    made["config"] |= {"guest_page": 2 << 20, "host_page": 4096}
    assert groups_of(Counts.of(made))[1].size == 2 * 64  # 4 KiB leaves: the smaller page decides


def test_every_component_of_a_native_prediction(tmp_path: Path) -> None:
    found = predict(record(), round_costs(tmp_path)).as_record()
    assert found == {
        "execution": 500,
        "tlb_l2": 130,  # 3 hits, and 10 misses that a walk follows
        "walk_guest": {"l1": 40, "l2": 0, "l3": 0, "memory": 0},  # 320 bytes, within 512
        "walk_host": {"l1": 0, "l2": 0, "l3": 0, "memory": 0},
        "exits": {},  # native is the bare machine
        "guest_faults": 2000,
        "clearing": 32768,
        "total": 35438,
    }
    assert list(found) == [*COMPONENTS, "total"]


def test_every_component_of_a_nested_prediction(tmp_path: Path) -> None:
    found = predict(record("ept"), round_costs(tmp_path))
    assert found.exits == {"CPUID": 2100, "EPT_VIOLATION": 20000}
    # Densest first: host upper 150 in 192, host leaf of tables 40 in 64, guest upper 30 in 192: 448 bytes. Leaves are
    # alike, 10 in 128 each: the guest's come first, 64 bytes of them in L1 and 64 in L2, then those of pages in L2.
    assert found.walk_guest == {"l1": 35, "l2": 50, "l3": 0, "memory": 0}
    assert found.walk_host == {"l1": 190, "l2": 100, "l3": 0, "memory": 0}
    assert found.clearing == 65536
    assert found.total == 500 + 130 + 85 + 290 + 22100 + 2000 + 65536


def test_groups_behind_walk_caches() -> None:
    """Ten walks: seven begin at a cached PDE, one at a cached PDPTE; the nested TLB answers for a table and a page."""
    hits = {"linear PDE": 7, "linear PDPTE": 1, "guest-physical page": 6, "guest-physical PDE": 3}
    made = record("ept", walk_caches=hits)
    made["walks"]["references"] = {"guest": 17, "host": 35}
    counts = Counts.of(made)
    # 17 tables were read, 8 of them named by a cached entry: 9 to be translated, 6 of them by the nested TLB.
    found = {group.name: group.references for group in groups_of(counts)}
    assert found == {
        "guest upper": 7,
        "guest leaf": 10,
        "host upper": 22,
        "host leaf of tables": 3,
        "host leaf of pages": 10,
    }
    assert sum(found.values()) == 17 + 35
    whole = counts.whole()
    assert (whole.guest_references, whole.host_references) == (17 + 3 * 7 + 2, 4 * (40 + 10))
    more = Counts.of(record("ept", walk_caches=hits | {"guest-physical page": 12}))
    assert {group.name: group.references for group in groups_of(more)}["host leaf of pages"] == 10


def test_a_run_without_walk_caches_is_its_own_bound() -> None:
    counts = Counts.of(record("ept"))
    assert counts.whole() is counts


def test_remote_memory_costs_its_share(tmp_path: Path) -> None:
    made = record()
    made["memory"]["guest"] = {"mapped": 1 << 30, "resident": 1 << 30, "table_pages": 515}
    costs = round_costs(tmp_path)
    near, mixed = predict(made, costs), predict(made, costs, remote_share=0.25)
    assert near.walk_guest["memory"] > 9000
    assert mixed.walk_guest["memory"] == pytest.approx(1.5 * near.walk_guest["memory"])
    assert mixed.walk_guest["l1"] == near.walk_guest["l1"]
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(MisuseError, match="give 0 to 1"):
            predict(made, costs, remote_share=share)


def test_a_record_without_the_modelled_tlb_is_refused(tmp_path: Path) -> None:
    made = record(tlb=None)
    made["config"]["detail"] = "exits"
    with pytest.raises(MisuseError, match=r"--detail exits.*--detail full"):
        predict(made, round_costs(tmp_path))


def test_faulted_walks_reach_no_leaf() -> None:
    made = record()
    made["walks"]["faulted"] = 4
    upper, leaf = groups_of(Counts.of(made))
    assert (upper.references, leaf.references) == (34, 6)
