"""Signals at random moments of `quire run`: it ends as the signal says, in a line or a report, and leaves nothing.

``python tests/campaigns/moments.py COUNT SEED`` starts COUNT runs of a guest that ends by itself after a while, and
sends each SIGINT, SIGTERM or SIGKILL at a moment between its start and its end. A failure names the run's number.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

__all__ = ["campaign"]

_SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_GUEST = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done"
_COMMAND = [sys.executable, "-P", "-m", "quire", "run", "--report", "json", "-o", "report.json", "--"]
_LIMIT = 300.0


def _run(folder: Path, sent: signal.Signals | None, moment: float) -> tuple[int, str, float]:
    """Run the guest and send it `sent` after `moment` seconds; return status, what was said, and how long it took."""
    began = time.monotonic()
    with subprocess.Popen(
        [*_COMMAND, "/bin/sh", "-c", _GUEST],
        cwd=folder,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        if sent is not None:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(sent)
        said = process.communicate(timeout=_LIMIT)[1]
        asked = ["pgrep", "-s", str(process.pid)]
        left = subprocess.run(asked, capture_output=True, check=False, timeout=_LIMIT).stdout
    assert not left, f"processes are left: {left!r}"
    return process.returncode, said, time.monotonic() - began


def _check(folder: Path, sent: signal.Signals, status: int, said: str) -> str:
    """Return what became of a run, or raise AssertionError."""
    report = folder / "report.json"
    lines = [line for line in said.splitlines() if line]
    if status == -sent:
        return "ended by it"
    if "KeyboardInterrupt" in said and "/quire/" not in said:
        return (
            "ended while the interpreter started"  # before Quire's first line nobody hears SIGINT but Python
        )
    assert status in (0, 128 + sent), (status, said)
    assert "Traceback" not in said, said
    if status == 0:
        assert report.stat().st_size and not lines, said
        return "done before"
    if report.exists() and report.stat().st_size:
        assert f'"signal": "{sent.name}"' in report.read_text() or '"status": 0' in report.read_text()
        return "guest ended, with a report"
    assert len(lines) == 1, said
    return "ended before the guest ran"


def campaign(count: int, seed: int) -> Counter[str]:
    """Make `count` runs; return how often each came to what."""
    seeded, found = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        status, said, whole = _run(folder, None, 0)
        assert status == 0, said
        for number in range(count):
            (folder / "report.json").unlink(missing_ok=True)
            sent = seeded.choice(_SENT)
            try:
                status, said, _ = _run(folder, sent, seeded.uniform(0, whole))
                found[f"{sent.name}: {_check(folder, sent, status, said)}"] += 1
            except AssertionError as error:
                raise AssertionError(f"run {number} of seed {seed}, {sent.name}: {error}") from None
            assert os.listdir(folder) in ([], ["report.json"])
    return found


if __name__ == "__main__":
    for what, times in sorted(campaign(int(sys.argv[1]), int(sys.argv[2])).items()):
        print(f"{times:6} {what}")
