"""docs/conformance.md: its commands are accepted, its example is a suite, its table names the suites there are."""

import re
import subprocess
from pathlib import Path

from limits import PATIENCE
from native import loaded_quire

from quire.testing import Outcome, Setting, Suite, known_suites, run_suites

TEXT = (Path(__file__).parent.parent.parent / "docs" / "conformance.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_example_is_a_suite_that_runs() -> None:
    (example,) = blocks("python")
    names = {"my_translate": lambda gva: gva + 0x1000}
    exec(example, names)
    suite = names["MINE"]
    assert isinstance(suite, Suite)
    (result,) = run_suites([suite], Setting())
    assert result.outcome is Outcome.PASSED


def test_the_commands_are_accepted(tmp_path: Path) -> None:
    lines = [line.split("#")[0].split() for line in blocks("sh")[0].splitlines()]
    assert len(lines) == 4
    for _, verb, *arguments in lines:
        done = subprocess.run(
            [*loaded_quire(), verb, *arguments, "--list"],
            capture_output=True, timeout=PATIENCE, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_every_suite_is_in_the_table() -> None:
    named = set(re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"^\| (`[^|]*`) \|", TEXT, re.MULTILINE))))
    assert {suite.name for suite in known_suites()} == named


def test_every_deviation_is_listed_and_no_other() -> None:
    from quire.testing.suites import bochs_entry, bochs_ept, kvm_mmu, unicorn_mmu

    named = {
        *unicorn_mmu.DEVIATIONS,
        *kvm_mmu.DEVIATIONS,
        *bochs_ept.DEVIATIONS,
        *(one.name for one in bochs_entry.DEVIATIONS),
        bochs_entry.WRAPPED_COUNT,
    }
    listed = TEXT.split("## Known deviations")[1].split("## Mutation")[0]
    assert set(re.findall(r"^- ([UKDE]\d+: .*)$", listed, re.MULTILINE)) == named
