"""A run as a record: written, read, executed by a worker that knows nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE

from quire.arch import profile_by_name
from quire.cpu import Detail
from quire.errors import FormatError
from quire.guest.run_spec import RunSpec
from quire.machine import GuestConfig
from quire.memory.numa import Topology
from quire.mmu import NumaConfig


def full() -> RunSpec:
    numa = NumaConfig(Topology.declared([1 << 30] * 2))
    config = GuestConfig("shadow", memory=64 << 20, profile=profile_by_name("zen4"), numa=numa)
    return RunSpec(("echo", "a b"), config, Detail.FULL, seed=7, sandbox=True, audit_every=3)


def worker(spec: Path, report: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "quire.guest.worker", str(spec), str(report)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    full().write(tmp_path / "spec")
    assert RunSpec.read(tmp_path / "spec") == full()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04N."], ids=["empty", "text", "None"])
def test_what_is_no_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"spec' is no record of a run"):
        RunSpec.read(path)


def test_a_worker_executes_it(tmp_path: Path) -> None:
    full().write(tmp_path / "spec")
    done = worker(tmp_path / "spec", tmp_path / "report")
    assert (done.returncode, done.stdout) == (0, "a b\n")
    record = json.loads((tmp_path / "report").read_text())
    assert record["program"]["argv"] == ["echo", "a b"]
    config = {name: record["config"][name] for name in ("mmu", "seed", "detail", "profile", "sandbox")}
    assert config == {"mmu": "shadow", "seed": 7, "detail": "full", "profile": "zen4", "sandbox": True}


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    RunSpec(("no-such-program-of-quire",)).write(tmp_path / "spec")
    done = worker(tmp_path / "spec", tmp_path / "report")
    assert done.returncode == 127
    assert (
        done.stderr.splitlines()[-1]
        == "quire run: no-such-program-of-quire: command not found: it is in no directory of PATH"
    )
    assert (tmp_path / "report").read_text() == ""
