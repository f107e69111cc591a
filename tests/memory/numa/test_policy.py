"""Policies: parsed, checked against nodes, and the order of nodes that each gives."""

import re

import pytest

from quire.errors import MisuseError
from quire.memory.numa import Policy, PolicyKind, Topology, parse_nodes

FOUR = Topology.declared(
    [1 << 30] * 4, ((10, 16, 28, 16), (16, 10, 16, 28), (28, 16, 10, 16), (16, 28, 16, 10))
)


@pytest.mark.parametrize(
    ("text", "page", "order"),
    [
        ("local", 5, (1, 0, 2, 3)),
        ("first-touch", 5, (3, 0, 2, 1)),
        ("preferred:2", 5, (2, 1, 3, 0)),
        ("bind:0,2", 5, (0, 2)),
        ("interleave", 5, (1, 0, 2, 3)),
        ("interleave", 6, (2, 1, 3, 0)),
        ("interleave:0,3", 5, (3, 0, 2, 1)),
        ("weighted-interleave:3,0,1,1", 2, (0, 1, 3, 2)),
        ("weighted-interleave:3,0,1,1", 3, (2, 1, 3, 0)),
        ("weighted-interleave:3,0,1,1", 9, (3, 0, 2, 1)),
    ],
)
def test_order(text: str, page: int, order: tuple[int, ...]) -> None:
    policy = Policy.parse(text)
    policy.check(FOUR)
    assert policy.order(FOUR, page, home=1, toucher=3) == order
    assert str(policy) == text


def test_interleaving_is_even_and_weighted_by_weight() -> None:
    even = [Policy.parse("interleave").target(FOUR, page) for page in range(400)]
    assert [even.count(node) for node in range(4)] == [100] * 4
    weighted = [Policy.parse("weighted-interleave:4,3,2,1").target(FOUR, page) for page in range(400)]
    assert [weighted.count(node) for node in range(4)] == [160, 120, 80, 40]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "interleve",
            "No NUMA policy is called 'interleve' (did you mean 'interleave'?): give one of local, preferred, bind, "
            "interleave, weighted-interleave, first-touch",
        ),
        ("bind", "Policy 'bind' names no node: give for example bind:0"),
        ("interleave:", "Policy 'interleave:' names no node: give for example interleave:0"),
        ("local:1", "Policy 'local:1' names nodes, and local takes none: give local"),
        ("bind:1-0", "'1-0' is no list of nodes: give for example 0-2,4"),
        ("bind:1,0-2", "'1,0-2' names a node twice: give each once"),
        (
            "weighted-interleave:1,x",
            "Policy 'weighted-interleave:1,x' has no weight for each node: give for example weighted-interleave:3,1",
        ),
    ],
)
def test_wrong_text(text: str, message: str) -> None:
    with pytest.raises(MisuseError, match=f"^{re.escape(message)}$"):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy.parse("bind:4"), "There is no node 4: give 0 to 3"),
        (Policy.parse("preferred:0,1"), "Policy preferred:0,1 names 2 nodes: preferred takes one"),
        (Policy(PolicyKind.BIND), "Policy bind names no node: give for example bind:0"),
        (
            Policy.parse("weighted-interleave:3,1"),
            "Policy weighted-interleave:3,1 has 2 weights for 4 nodes: give one for each",
        ),
        (
            Policy.parse("weighted-interleave:0,0,0,0"),
            "Policy weighted-interleave:0,0,0,0 cannot be: a weight is 0 to 255, and one is not 0",
        ),
    ],
)
def test_what_nodes_do_not_have(policy: Policy, message: str) -> None:
    with pytest.raises(MisuseError, match=f"^{re.escape(message)}$"):
        policy.check(FOUR)


def test_lists_of_nodes() -> None:
    assert parse_nodes("0-2,4") == (0, 1, 2, 4)
