"""``quire check`` as a user types it: the table, JSON, JUnit, own suites, and what it says when it cannot."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from limits import PATIENCE
from native import loaded_quire

SUITE = '''
"""Two cases of a user's own suite."""
from quire.testing import Suite

MINE = Suite("mine", oracle="arithmetic", title="sums")


@MINE.case("agrees")
def agrees(state, tally):
    tally.compare("1 + 1", 1 + 1, 2)


@MINE.case("{name}")
def other(state, tally):
    tally.compare("2 + 2", 2 + 2, {theirs}, deviation="{deviation}")
'''


def check(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*loaded_quire(), "check", *arguments],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SUITE.format(name="differs", theirs=5, deviation=""))
    return path


def test_a_difference_is_shown_and_is_the_exit_status(suite: Path) -> None:
    done = check("--load", str(suite), "--suite", "mine")
    assert done.returncode == 1
    lines = [re.sub(r"\d+\.\d s", "T s", " ".join(line.split())) for line in done.stdout.splitlines() if line]
    assert lines == [
        "suite oracle cases compared agree deviate differ time",
        "mine arithmetic 2 2 1 0 1 T s failed",
        "mine/differs: failed",
        "1 of 1 comparisons differ:",
        "2 + 2: quire 0x4, oracle 0x5",
    ]


def test_a_known_deviation_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SUITE.format(name="deviates", theirs=5, deviation="D1 it cannot add"))
    done = check("--load", str(path), "--suite", "mine")
    assert done.returncode == 0
    assert "mine: 1 of arithmetic: D1 it cannot add" in done.stdout


def test_json_and_junit_say_the_same(suite: Path, tmp_path: Path) -> None:
    done = check("--load", str(suite), "--suite", "mine", "--json", "--junit", str(tmp_path / "out.xml"))
    record = json.loads(done.stdout)
    assert (record["seed"], record["whole"]) == (0, False)
    (mine,) = record["suites"]
    assert [(case["case"], case["outcome"]) for case in mine["cases"]] == [
        ("agrees", "passed"),
        ("differs", "failed"),
    ]
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    (node,) = root
    assert node.attrib == {"name": "mine", "tests": "2", "failures": "1", "errors": "0", "skipped": "0"}
    assert [leaf.tag for case in node for leaf in case] == ["failure"]
    assert node[1][0].attrib["message"] == "1 of 1 comparisons differ:"


def test_list_names_every_suite_and_case(suite: Path) -> None:
    done = check("--list", "--load", str(suite))
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert {"walk-matrix", "reserved-bits", "random-walks", "unicorn-mmu", "mine"} <= set(names)
    assert "  guest-4k-read\n" in done.stdout


def test_one_suite_of_quire_s_own() -> None:
    """One case of it: tests/testing/test_own_suites.py runs all."""
    done = check("--suite", "random-walks", "--case", "worlds-1", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"random-walks +slow twin +1 +1_500 +1_500 +0 +0", done.stdout)


def test_cases_are_chosen_by_pattern(suite: Path) -> None:
    done = check("--load", str(suite), "--suite", "mine", "--case", "agr*", "--json")
    assert done.returncode == 0
    assert [case["case"] for case in json.loads(done.stdout)["suites"][0]["cases"]] == ["agrees"]
    listed = check("--load", str(suite), "-k", "differs", "--list").stdout.splitlines()
    assert listed == ["mine  (arithmetic)  sums", "  differs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--suite", "walk-matriks"),
            "No suite is called 'walk-matriks' (did you mean 'walk-matrix'?): see quire check --list",
        ),
        (
            ("--suite", "random-walks", "--case", "guest*"),
            "No case of random-walks matches 'guest*': see --list",
        ),
        (("--load", "none.py"), "none.py cannot be read: No such file or directory"),
    ],
)
def test_what_it_cannot_do(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = check(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (125, "", f"quire check: {message}\n")


def test_the_examples_of_its_help_are_accepted() -> None:
    said = check("--help").stdout
    examples = re.findall(r"^ +(quire check.*)$", said, re.MULTILINE)
    assert len(examples) == 4
    for example in examples:
        arguments = shlex.split(example)[2:]
        assert check(*arguments, "--list").returncode == 0
