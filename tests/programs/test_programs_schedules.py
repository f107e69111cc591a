"""Schedules: a race is found, by schedules that show it again; what does not depend on the order has one outcome."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from limits import PATIENCE
from native import quire

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled program, in which no access of the counter is left out."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    program = tmp_path_factory.mktemp("race") / "race"
    source = Path(__file__).parent / "probes" / "tasks_race.c"
    subprocess.run([gcc, "-O0", "-pthread", source, "-o", program], check=True, timeout=PATIENCE)
    return program


def test_a_race_is_found_and_seen_again(race: Path, tmp_path: Path) -> None:
    found = quire([race], "--schedules", "6", "--json", "-o", "record", cwd=tmp_path)
    record = json.loads((tmp_path / "record").read_text())
    outcomes = record["outcomes"]
    assert found.status == 1 and len(outcomes) > 1 and not record["partial"]
    assert sum(one["count"] for one in outcomes) == record["schedules"] == record["asked"] == 6
    shown = {one["first"]: one["stdout"]["start"] for one in outcomes}
    assert found.stdout.decode() == shown[0]
    number = max(shown)
    assert int(shown[number]) < 2000 or int(shown[0]) < 2000
    for vcpus in ("1", "1", "2"):
        again = quire([race], "--schedule", str(number), "--vcpus", vcpus, "--report", "none")
        assert again.status == 0 and (vcpus == "2" or again.stdout.decode() == shown[number])


def test_what_is_locked_has_one_outcome(race: Path) -> None:
    found = quire([race, "locked"], "--schedules", "4")
    assert (found.status, found.stdout) == (0, b"2000\n")
    lines = found.stderr.decode().splitlines()
    assert lines == [
        f"quire run: 4 schedules of {race}",
        "  schedules  first  ended with  stdout",
        "          4      0  status 0    2000",
        "",
        "every schedule had the same outcome",
    ]


def test_several_outcomes_are_a_table_with_the_command_that_shows_one(tmp_path: Path) -> None:
    script = "for one in 1 2 3; do (echo $one) & done; wait"
    found = quire(["bash", "-c", script], "--schedules", "8")
    lines = found.stderr.decode().splitlines()
    assert found.status == 1 and lines[0] == "quire run: 8 schedules of bash"
    assert lines[-2].endswith("outcomes: what the program does depends on who runs when")
    assert lines[-1].endswith(f" -- bash -c '{script}'")
    assert lines[-1].startswith("  see one again: quire run --schedule ")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--schedules", "2", "--schedule", "1"),
         "--schedule is of one run, --schedules of many: leave one of them out"),
        (("--schedules", "2", "--save-image", "x"),
         "--save-image is of one run, --schedules of many: leave one of them out"),
        (("--schedules", "2", "--clock", "host"), "--schedules compares runs of one time: leave out --clock host"),
        (("--schedules", "0"), "Invalid value for '--schedules': 0 is not in the range 1<=x<=1000000."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(options: tuple[str, ...], line: str) -> None:
    outcome = quire(["true"], *options)
    assert (outcome.status, outcome.stderr.decode()) == (125, f"quire run: {line} (see quire run --help)\n")
