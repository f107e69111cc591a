"""The second wall around a sandboxed guest stands alone: the host's kernel refuses, whatever Quire's table says."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from walls_alone import CALLS

from quire.guest.landlock import landlock_version
from quire.guest.seccomp import allowed_calls, seccomp_is_there
from quire.guest.syscalls import SYSCALLS
from quire.guest.syscalls.effects import KEPT_FROM_THE_HOST

HERE = Path(__file__).parent
#: What Landlock refuses, with its errors; seccomp refuses everything else.
BY_LANDLOCK = ("open for writing", "open and empty", "create", "open by openat2", "open by creat")
ALLOWED = ("open for reading", "open /dev/null for writing")


def _answers(folder: Path, roots: Sequence[Path] = ()) -> dict[str, Any]:
    """Put up the walls in a process and return what it found; the targets must be as before."""
    (folder / "dir").mkdir()
    (folder / "dir" / "inside").write_bytes(b"inside")
    (folder / "file").write_bytes(b"data")
    before = [(path, path.lstat().st_ctime_ns) for path in sorted(folder.glob("**/*"))]
    main, terminal = os.openpty()
    victim = subprocess.Popen(["sleep", "100000"], start_new_session=True)
    try:
        words = [folder, victim.pid, terminal, *roots]
        done = subprocess.run(
            [sys.executable, HERE / "walls_alone.py", *map(str, words)],
            capture_output=True,
            text=True,
            pass_fds=(terminal,),
            timeout=PATIENCE,
            check=False,
        )
        assert victim.poll() is None and os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(0, 0)
        assert done.returncode == 0, done.stderr
    finally:
        victim.kill()
        victim.wait(PATIENCE)
        os.close(terminal)
        os.close(main)
    after = [
        (path, path.lstat().st_ctime_ns) for path in sorted(folder.glob("**/*")) if path.name != "report"
    ]
    assert after == before and (folder / "file").read_bytes() == b"data"
    assert (folder / "report").read_bytes() == b"a  shorter one"
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["own"] == ["own", True]
    return found


def _need_both() -> None:
    if not landlock_version() or not seccomp_is_there():
        pytest.skip("this kernel has not both Landlock and seccomp")


def test_the_kernel_refuses_and_quire_writes_what_it_has_open(tmp_path: Path) -> None:
    _need_both()
    found = _answers(tmp_path)
    assert found["walls"] == [f"landlock {landlock_version()}", "seccomp"]
    answers = found["answers"]
    assert set(answers) == set(CALLS)
    assert {name: answers.pop(name) for name in ALLOWED if answers[name] < 0} == {}
    for name in ALLOWED:
        answers.pop(name, None)
    wanted = {name: -errno.EACCES if name in BY_LANDLOCK else -errno.EPERM for name in answers}
    assert answers == wanted


def test_the_kernel_closes_the_read_side(tmp_path: Path) -> None:
    _need_both()
    folder = tmp_path / "closed"
    folder.mkdir()
    (tmp_path / "open").mkdir()
    answers = _answers(folder, [tmp_path / "open"])["answers"]
    assert answers["open for reading"] == -errno.EACCES
    assert answers["open /dev/null for writing"] >= 0


def test_what_a_sandbox_answers_by_itself_is_kept_from_the_host() -> None:
    kept = {number for number, entry in SYSCALLS.items() if entry.effect in KEPT_FROM_THE_HOST}
    assert not kept & allowed_calls()
