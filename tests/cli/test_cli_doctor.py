"""`quire doctor`: each fact as this machine has it, what to do where one is missing, and the status."""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from commands import quire
from limits import PATIENCE

from quire.cli import facts
from quire.cli.facts import Fact, machine_facts
from quire.kernels import store

NAMES = [
    "Quire", "Python", "engine", "compiler", "full detail", "machine", "kernel cache", "kernels", "/dev/kvm",
    "NUMA nodes", "memfd", "/proc", "temporary folder", "open files", "address space", "locked memory", "Landlock",
    "seccomp",
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


def kernel_facts() -> dict[str, Fact]:
    return {one.name: one for one in machine_facts() if one.name.startswith("kernel")}


def test_kernels_are_counted_where_their_code_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache that has all of them, in one that has none, and in one that others may write."""
    modules = list(store.modules_with_code())
    found = [store.find(one) for one in modules]
    (place,) = {os.path.dirname(one.path) for one in found}
    facts_now = kernel_facts()
    assert facts_now["kernels"].value == f"{len(modules)} of {len(modules)} modules are compiled, in {place}"
    assert (facts_now["kernels"].advice, facts_now["kernel cache"].value) == (
        "",
        os.environ["QUIRE_CACHE_DIR"],
    )
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path)
    empty = kernel_facts()
    assert (empty["kernel cache"].value, empty["kernel cache"].advice) == (str(tmp_path), "")
    assert empty["kernels"].value == f"0 of {len(modules)} modules are compiled"
    assert empty["kernels"].advice == "quire warm compiles the others"
    file = tmp_path / os.path.basename(found[0].path)
    shutil.copyfile(found[0].path, file)
    file.chmod(0o666)
    refused = f"{file} may be written by others (mode 666): chmod go-w it"
    assert kernel_facts()["kernels"].value == f"0 of {len(modules)} modules are compiled; not used: {refused}"


def test_a_processor_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "unfit", lambda: "the processor lacks avx2 of x86-64-v3")
    said = "compiled by Numba in each process: the processor lacks avx2 of x86-64-v3"
    assert kernel_facts()["kernels"].value == said


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
