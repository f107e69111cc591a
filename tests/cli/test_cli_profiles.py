"""``quire profiles``: both tables, JSON, files of one's own, what is refused; and ``--profile`` of run and compare."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import example_files, quire, refused
from limits import PATIENCE
from native import loaded_quire

from quire.arch import profile_by_name, profile_names

LISTED = ", ".join(profile_names())
WRONG = f"No CPU profile is called 'zen-4' (did you mean 'zen4'?): there is {LISTED}, or give a file that ends in .toml"


def test_the_list_is_what_comes_without_a_subcommand(tmp_path: Path) -> None:
    outcome = quire(tmp_path, "profiles")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout == quire(tmp_path, "profiles", "list").stdout
    head, *rows = outcome.stdout.splitlines()
    assert head.split() == ["profile", "processor", "L1", "loads", "L2", "loads", "walk", "caches"]
    assert [row.split()[0] for row in rows] == list(profile_names())
    assert all(len(row) <= 110 for row in rows)
    row = next(row for row in rows if row.split()[0] == "sapphire-rapids")
    assert "96 4K, 32 2M, 8 1G  2048 4K, 1024 2M, 1024 1G" in row
    assert rows[-2].split()[-3:] == ["-", "-", "-"]  # none has nothing


def test_every_profile_is_shown_with_all_that_it_has(tmp_path: Path) -> None:
    for name in profile_names():
        outcome = quire(tmp_path, "profiles", "show", name)
        profile = profile_by_name(name)
        assert (outcome.status, outcome.stderr) == (0, "")
        assert outcome.stdout.startswith(f"{name}: {profile.title}\n")
        said = " ".join(outcome.stdout.split())
        for one in (*profile.tlbs, *profile.walk_caches):
            assert f" {one.name} " in said and one.source in said
        assert profile.source in said
        assert all(note in said for note in profile.notes)


def test_assumptions_are_marked(tmp_path: Path) -> None:
    lines = quire(tmp_path, "profiles", "show", "zen3").stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("  L2D     2")]
    assert row.split() == ["L2D", "2", "load,", "store", "4K,", "2M", "2048", "16*", "128", "lru*"]
    assert "* an assumption: nobody published it, or not of this processor" in lines
    assert not any("*" in line for line in quire(tmp_path, "profiles", "show", "none").stdout.splitlines())


def test_json(tmp_path: Path) -> None:
    shown = quire(tmp_path, "profiles", "show", "milan", "--json")
    record = json.loads(shown.stdout)
    assert (record["name"], record["aliases"]) == ("zen3", ["epyc-7003", "milan"])
    outcome = quire(tmp_path, "profiles", "list", "--json", "-o", "all.json")
    assert outcome.stdout == ""
    found = json.loads((tmp_path / "all.json").read_text())["profiles"]
    assert [one["name"] for one in found] == list(profile_names())
    assert record in found
    (ideal,) = [one for one in found if one["name"] == "ideal"]
    assert [ideal["tlbs"][0][key] for key in ("entries", "ways", "sets", "replacement")] == [None] * 4


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    example_files(tmp_path)
    assert quire(tmp_path, "profiles", "show", "my-processor.toml").stdout.startswith("my-processor: ")
    (tmp_path / "bad.toml").write_text('name = "bad"\n')
    line = refused(tmp_path, "profiles", "show", "bad.toml")
    assert line == (
        "quire profiles show: CPU profile 'bad.toml': title is missing: add it (see quire profiles show --help)"
    )


@pytest.mark.parametrize("verb", ["profiles show", "run", "compare"])
def test_a_profile_that_is_not_there(verb: str, tmp_path: Path) -> None:
    words = ["zen-4"] if verb == "profiles show" else ["--profile", "zen-4", "--", "true"]
    assert refused(tmp_path, *verb.split(), *words) == f"quire {verb}: {WRONG} (see quire {verb} --help)"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    assert refused(tmp_path, "profiles", "show", "zen2", "--json", "-o", "none/a.json") == (
        "quire profiles show: cannot write --output to 'none/a.json': No such file or directory; choose another file"
    )


@pytest.mark.programs
def test_run_and_compare_on_a_profile(tmp_path: Path) -> None:
    def record(*words: str) -> dict[str, object]:
        argv = [*loaded_quire(), *words, "--", "true"]
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
        found: dict[str, object] = json.loads((tmp_path / "record.json").read_text())["config"]
        return found

    run = record("run", "--profile", "genoa", "--report", "json", "-o", "record.json")
    assert run["profile"] == "zen4"
    compared = record("compare", "--mmu", "ept", "--profile", "genoa", "--json", "-o", "record.json")
    assert compared["profiles"] == ["zen4"]
