"""What help texts and reference documents show is what the commands do, to the letter."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from commands import blocks, example_files, quire, write_blocks
from limits import PATIENCE
from native import loaded_folder
from sampling import some

_STATUS = "$ echo $?"
_COMPILING = "quire: compiling kernels (once, up to a minute)\n"  # of a first run


# Those of validate are in docs/validation.md too, which is run whole.
@pytest.mark.parametrize(
    "verb", ["walk", "decode", "lint", "profiles", "explain", "fields", *some(["validate"], [])]
)
def test_help_examples(verb: str, tmp_path: Path) -> None:
    """Every example of a help text runs; what it says is an answer and not a refusal."""
    example_files(tmp_path)
    text = quire(tmp_path, verb, "--help").stdout
    examples = re.findall(rf"^    quire ({verb} .*)$", text, re.MULTILINE)
    assert len(examples) >= 4
    for line in examples:
        outcome = quire(tmp_path, *shlex.split(line))
        assert outcome.status in (0, 1, 3), (line, outcome)
        assert (outcome.stdout or " -o " in line) and not outcome.stderr.replace(_COMPILING, ""), line
    assert all(len(line) <= 100 for line in text.splitlines())


def test_overview_names_the_verbs(tmp_path: Path) -> None:
    text = quire(tmp_path, "--help").stdout
    for verb in ("tlb", "explain", "walk", "decode", "fields", "lint", "compare", "profiles", "validate"):
        assert re.search(rf"^  {verb} +\w", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["walk", "decode", "lint", "profiles", "explain"])
def test_document(name: str, tmp_path: Path) -> None:
    """Each console block, in order, in one fresh directory; the whole output is compared."""
    path = loaded_folder() + os.pathsep + os.environ["PATH"]
    write_blocks(name, tmp_path)
    shown = 0
    for kind, body in blocks(name):
        if kind != "console":
            continue
        status = 0
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE):
            if command == _STATUS[2:]:
                assert expected == f"{status}\n"
                continue
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            status = done.returncode
            assert (done.stdout, done.stderr.replace(_COMPILING, "")) == (expected, ""), command
            shown += 1
    assert shown >= 3


def test_every_verb_answers_in_json(tmp_path: Path) -> None:
    """A flag everywhere, and -o where the answer goes; a verb is one that shows both in its help."""
    verbs = re.findall(r"^  ([a-z]+)  ", quire(tmp_path, "--help").stdout.split("Commands:")[1], re.MULTILINE)
    assert len(verbs) > 10
    groups = {"profiles": ("list", "show"), "validate": ("references", "crossover", "ladder", "numa", "hardware")}
    for verb in verbs:
        for part in groups.get(verb, ("",)):
            text = quire(tmp_path, verb, *part.split(), "--help").stdout
            assert re.search(r"^  --json  ", text, re.MULTILINE), (verb, part)
            assert "  -o, --output FILE" in text, (verb, part)
    outcome = quire(tmp_path, "decode", "pml4e", "0x2087", "--json", "-o", "found.json")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert '"title"' in (tmp_path / "found.json").read_text()
