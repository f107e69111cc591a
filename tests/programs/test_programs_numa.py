"""Programs on hosts with nodes: the same output under each policy, and references that add up to the run's own."""

from pathlib import Path
from typing import Any

import pytest
from native import compare, need

pytestmark = pytest.mark.programs

POLICIES = [
    ("local", "ept"),
    ("first-touch", "shadow"),
    ("preferred:1", "native"),
    ("bind:1", "ept"),
    ("interleave", "shadow"),
    ("weighted-interleave:3,1", "ept"),
]
#: How much of the guest's memory each policy has to put on node 1, of a vCPU on node 0.
SHARES = {
    "local": (0, 0),
    "first-touch": (0, 0),
    "preferred:1": (1, 1),
    "bind:1": (1, 1),
    "interleave": (0.4, 0.6),
    "weighted-interleave:3,1": (0.15, 0.35),
}


def share(record: dict[str, Any]) -> float:
    """Return how much of the guest's memory, its tables among it, is on node 1."""
    frames = record["numa"]["frames"]
    pages = [sum(each) for each in zip(frames["guest_pages"], frames["guest_tables"], strict=True)]
    return float(pages[1] / sum(pages))


@pytest.mark.parametrize(("policy", "mmu"), POLICIES)
def test_a_program_does_not_see_where_its_memory_is(policy: str, mmu: str) -> None:
    record = compare(
        [need("sort"), "-r", "/etc/passwd"], "--mmu", mmu, "--numa", "2x4G", "--numa-policy", policy
    )
    numa = record["numa"]
    assert (numa["policy"], numa["fell_back"], numa["replicated"]) == (policy, 0, False)
    least, most = SHARES[policy]
    assert least <= share(record) <= most


@pytest.mark.parametrize("mmu", ["ept", "shadow"])
def test_nor_that_tables_have_copies(mmu: str, tmp_path: Path) -> None:
    argv = [
        need("sqlite3"),
        ":memory:",
        "create table t(n); insert into t values (3), (1); select * from t order by n;",
    ]
    record = compare(
        argv, "--mmu", mmu, "--numa", "2x4G", "--replicate-tables", "--vcpu-node", "1", cwd=tmp_path
    )
    numa = record["numa"]
    tables = numa["frames"]["host_tables"]
    assert numa["replicated"] and tables[0] == tables[1] > 0
    kind = "host_table" if mmu == "ept" else "guest_table"  # what of the hypervisor's tables hardware walks
    assert numa["references"][kind]["remote"] == 0 < numa["references"][kind]["local"]


@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
def test_references_by_node_are_the_runs_references(mmu: str) -> None:
    record = compare(
        [need("true")],
        "--mmu",
        mmu,
        "--numa",
        "2x4G",
        "--numa-policy",
        "interleave",
        "--detail",
        "full",
    )
    by_kind = {kind: one["local"] + one["remote"] for kind, one in record["numa"]["references"].items()}
    walks, accesses = record["walks"]["references"], record["accesses"]
    assert by_kind == {
        "guest_table": walks["guest"],
        "host_table": walks["host"],
        "data": accesses["read"] + accesses["write"],
    }
