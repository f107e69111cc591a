"""A test that leaves something changed fails, and says what: the machine's devices, this process, processes, files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import surroundings
from limits import PATIENCE
from surroundings import differences, put_back

TESTS = Path(__file__).parent
CARELESS = """
import os, resource, signal, subprocess

def test_umask():
    os.umask(0o077)

def test_folder():
    os.chdir("/")

def test_limit():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def test_environment():
    os.environ["LEFT"] = "over"

def test_handler():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

def test_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LEFT", "none")
    monkeypatch.chdir(tmp_path)

def test_process():
    global process
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # it ends with this process
    process.stdin.write(b"\\n")
    process.stdin.flush()
    process.stdout.readline()  # now it has its name
"""


def test_careless_tests_fail_by_name(tmp_path: Path) -> None:
    (tmp_path / "test_careless.py").write_text(CARELESS)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "conftest",
            "-p",
            "no:cacheprovider",
            "-rE",
            "test_careless.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    summary = {line.split("::")[1] for line in done.stdout.splitlines() if line.startswith("ERROR ")}
    named = {word.split()[0] for word in summary}
    everything = {
        "test_umask",
        "test_folder",
        "test_limit",
        "test_environment",
        "test_handler",
        "test_process",
    }
    assert named == everything, done.stdout
    for line in ("umask: ", "working directory: ", "RLIMIT_CORE: ", "environment: LEFT: absent before, over after",
                 "handler of SIGUSR1: ", "cat"):  # fmt: skip
        assert f"\n{line}" in done.stdout or f" {line}" in done.stdout, line


def test_a_device_is_given_back_its_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "null"
    device.touch(0o644)
    monkeypatch.setattr(surroundings, "DEVICES", (str(device),))
    before = surroundings.surroundings()
    device.chmod(0)
    after = surroundings.surroundings()
    assert len(differences(before, after)) == 1
    put_back(before, after)
    assert differences(before, surroundings.surroundings()) == []


def test_a_file_in_the_repository_is_seen_and_a_cache_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    for name in ("docs", "__pycache__", ".pytest_cache", ".hypothesis", "quire.egg-info", ".venv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left").touch()
    assert surroundings.files() == {"docs/left"}
