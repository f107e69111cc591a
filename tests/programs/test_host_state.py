"""What a guest changes of the process that plays its kernel, and of what that shares with others, is undone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attempts import effect_rows
from host_state import CHANGES, NOTHING, STAYS, UNDONE
from limits import PATIENCE
from native import environment

pytestmark = pytest.mark.programs

HERE = Path(__file__).parent


def test_somebody_said_of_each_call_and_command_what_it_changes() -> None:
    rows = {row.replace(" ", ".") for row in effect_rows()}
    changes = {kind: set(text.split()) for kind, text in CHANGES.items()}
    listed, nothing = set().union(*changes.values()), set(NOTHING.split())
    assert sorted(rows - listed - nothing) == [], "say in tests/programs/host_state.py what it changes"
    assert sorted((listed | nothing) - rows) == [], "no such call or command"
    assert sorted(listed & nothing) == [], "it changes something or nothing"
    assert set(changes) == set(UNDONE) | set(STAYS)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that changes everything, and leaves it so."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    made = tmp_path_factory.mktemp("hoststate") / "hoststate"
    subprocess.run([gcc, "-w", HERE / "probes" / "hoststate.c", "-o", made, "-lrt"], check=True, timeout=PATIENCE)
    return made


def test_a_session_leaves_its_process_as_it_was(program: Path, tmp_path: Path) -> None:
    """All of UNDONE, in a process that goes on: descriptors, flags, owners, terminal, folder, ids, timers, signals."""
    main, terminal = os.openpty()
    reading, writing = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    pairs = f"{terminal}:0,{writing}:5,{file}:6"
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                HERE / "sandbox_start.py",
                "apart",
                tmp_path,
                pairs,
                program,
            ],
            capture_output=True,
            pass_fds=(terminal, writing, file),
            cwd=tmp_path,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
    finally:
        for descriptor in (main, terminal, reading, writing, file):
            os.close(descriptor)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == 0, f"call {told['status']} of probes/hoststate.c failed"
    before, after = told["before"], told["after"]
    changed = {name: (before.get(name), after.get(name)) for name in before | after}
    assert {name: pair for name, pair in changed.items() if pair[0] != pair[1]} == {}
    for name in (
        "umask",
        "working directory",
        "niceness",
        "user",
        "real timer",
        "dumpable",
        "locks",
        "timers",
    ):
        assert name in before
    for name in ("descriptor 0: modes", "descriptor 0: window", "descriptor 5: flags", "status SigBlk"):
        assert name in before
    assert before["signal at the parent's death"] == str(int(signal.SIGTERM))
