"""`quire doctor`: each fact as this machine has it, what to do where one is missing, and the status."""

import json
import os
import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from commands import quire
from limits import PATIENCE

from quire.cli import facts
from quire.cli.facts import Fact, machine_facts
from quire.kernels import cache_of

NAMES = [
    "Quire", "Python", "engine", "compiler", "full detail", "machine", "kernel cache", "kernels", "/dev/kvm", "NUMA nodes", "memfd",
    "/proc", "temporary folder", "open files", "address space", "locked memory", "Landlock", "seccomp",
]  # fmt: skip


def test_table_and_json_say_the_same(tmp_path: Path) -> None:
    """Here guests can run: they do in other tests."""
    outcome = quire(tmp_path, "doctor", "--json")
    assert (outcome.status, outcome.stderr) == (0, "")
    record = json.loads(outcome.stdout)
    assert record["ready"] and [one["name"] for one in record["facts"]] == NAMES
    values = {one["name"]: one["value"] for one in record["facts"]}
    assert values["engine"] == f"unicorn {metadata.version('unicorn')}"
    assert values["compiler"] == f"numba {metadata.version('numba')}, llvmlite {metadata.version('llvmlite')}"
    assert values["Python"].startswith(platform.python_version())
    assert values["open files"] in ("unlimited", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    table = quire(tmp_path, "doctor")
    lines = table.stdout.splitlines()
    assert table.status == 0 and lines[-1] == "guests can run here" and len(lines) == len(NAMES) + 1
    starts = {line.index(values[name]) for line, name in zip(lines, NAMES, strict=False)}
    assert len(starts) == 1, "values are aligned"


def test_kernels_are_counted_as_the_cache_has_them() -> None:
    from quire.paging._kernels import walk

    walk_folder, warm = cache_of(walk)
    (found,) = (one for one in machine_facts() if one.name == "kernels")
    compiled, of = map(int, re.findall(r"\d+", found.value))
    assert 0 <= compiled <= of and of > 80 and (compiled or not warm)
    assert walk_folder is not None and os.path.isabs(walk_folder)


def test_what_is_missing_is_marked_and_is_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Fact("one", "there"), Fact("two\x1b", "gone [/i]", "do something", missing=True)]
    monkeypatch.setattr(facts, "machine_facts", lambda: found)
    outcome = quire(tmp_path, "doctor")
    assert outcome.status == 1
    assert outcome.stdout == (
        "   one      there\n"
        "!  two\\x1b  gone [/i]  do something\n"
        "guests cannot run here: see what is marked with !\n"
    )
    assert json.loads(quire(tmp_path, "doctor", "--json").stdout)["ready"] is False


def test_limits_that_are_too_low_are_found() -> None:
    """The limits of another process, which has them: too few descriptors, too little address space."""

    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = subprocess.run(
        [sys.executable, "-m", "quire", "doctor", "--json"],
        capture_output=True, text=True, timeout=PATIENCE, preexec_fn=narrow, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    missing = {one["name"]: one["advice"] for one in json.loads(done.stdout)["facts"] if one["missing"]}
    assert missing == {
        "open files": "raise ulimit -n to 256 or more",
        "address space": "raise ulimit -v to 2883584 or more",
    }


def test_the_version_names_the_engine(tmp_path: Path) -> None:
    outcome = quire(tmp_path, "--version")
    assert outcome.stdout == f"quire 0.1.0, unicorn {metadata.version('unicorn')}\n"


def test_examples_and_document(tmp_path: Path) -> None:
    examples = re.findall(r"^ +quire (doctor.*)$", quire(tmp_path, "doctor", "--help").stdout, re.MULTILINE)
    assert len(examples) == 2 and all(quire(tmp_path, *line.split()).status == 0 for line in examples)
    document = (Path(__file__).parents[2] / "docs" / "reference" / "doctor.md").read_text()
    assert re.findall(r"^\| `([^`]+)` \|", document, re.MULTILINE) == NAMES
