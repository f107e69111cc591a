"""A sample of the mutation test in every run: each mutant is noticed, or listed with the reason why it cannot be."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from limits import PATIENCE

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from mutants import mutants  # noqa: E402

MODULES = (
    "quire.paging._kernels",
    "quire.paging._kernels_ept",
    "quire.paging.reference",
    "quire.paging.reference_ept",
    "quire.paging.reference_rights",
)
SOURCE = HERE.parent.parent / "src"


def test_each_kind_of_change_is_made() -> None:
    code = "    return a < 2 and not (a & ~A.mask('P'))\n"
    source = "__all__ = ['P']\n@njit(2)\ndef f(a: int) -> bool:\n    '''Text.'''\n" + code
    changes = [mutant.name.split(" :: ")[1] for mutant in mutants(source)]
    assert changes == [
        "a < 2 and (not a & ~A.mask('P')) -> a < 2 or not a & ~A.mask('P')",
        "a < 2 -> a <= 2",
        "2 -> 3",
        "not a & ~A.mask('P') -> not not a & ~A.mask('P')",
        "a & ~A.mask('P') -> a | ~A.mask('P')",
        "~A.mask('P') -> +A.mask('P')",
        "'P' -> 'RW'",
    ]
    for mutant in mutants(source):
        assert ast.unparse(mutant.tree) != ast.unparse(ast.parse(source))
        assert "@njit(2)" in ast.unparse(mutant.tree)


def test_listed_survivors_are_mutants_that_there_are() -> None:
    listed = tomllib.loads((HERE / "survivors.toml").read_text(encoding="utf-8"))
    assert set(listed) <= set(MODULES)
    for name, changes in listed.items():
        source = (SOURCE / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
        assert set(changes) <= {mutant.name for mutant in mutants(source)}
        assert all(len(reason) > 20 for reason in changes.values())


@pytest.mark.parametrize("name", ["quire.paging._kernels", "quire.paging.reference"])
def test_a_sample_is_killed_or_listed(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), name, "--every", "60", "--json"],
        capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    (record,) = json.loads(done.stdout)
    assert record["unlisted"] == [], done.stdout
    assert record["mutants"] >= 4
