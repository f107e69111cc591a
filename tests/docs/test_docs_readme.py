"""README: its main job runs as written, and its test line is the one that CI runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from limits import PATIENCE

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_main_job_runs_and_reports_what_the_readme_shows() -> None:
    line = re.search(r"\.venv/bin/quire (run .*)$", README, re.M)
    assert line is not None
    found = subprocess.run(
        [sys.executable, "-m", "quire", *line[1].split()],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert found.returncode == 0
    assert found.stdout == Path("/etc/os-release").read_text().splitlines()[0] + "\n"
    shown = README.split("```text")[1].split("```")[0]
    names = re.findall(r"^  ?\s?(\S.*?)\s{2,}", shown, re.M)
    assert len(names) > 15
    for name in names:
        assert name in found.stderr, name


def test_ci_runs_the_readme_test_line() -> None:
    assert "<!-- test line -->" in README
    script = ROOT / ".ci" / "run"
    assert "<!-- test line -->" in script.read_text()
    assert os.access(script, os.X_OK)


def test_the_number_of_entry_checks_is_that_of_the_rules() -> None:
    from quire.vcpu import RULES

    assert f"VM entry has {len(RULES)} checks" in README
    specification = (ROOT / "docs" / "SPECIFICATION.md").read_text(encoding="utf-8")
    assert f"| {len(RULES)} VM-entry checks name rule" in specification
