"""The recipes of CONTRIBUTING.md, applied to a copy of Quire as they stand: each takes two files at most, and works."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from limits import PATIENCE

import quire

ROOT = Path(__file__).parent.parent
_PLACE = re.compile(
    r"^(?:At the end of `(?P<end>[^`]+)`|New file `(?P<new>[^`]+)`"
    r"|In `(?P<file>[^`]+)`, (?P<side>below|above) `(?P<line>[^`]+)`):\n\n```python\n(?P<code>.*?)```",
    re.DOTALL | re.MULTILINE,
)
_SEEN = re.compile(r"^To see it:\n\n```(\w+)\n(.*?)```\n\n```output\n(.*?)```", re.DOTALL | re.MULTILINE)


@dataclass
class Recipe:
    """What one section says: changes by file, and what is to be seen."""

    title: str
    text: str
    files: set[str] = field(default_factory=set)

    def apply(self, copy: Path) -> None:
        for found in _PLACE.finditer(self.text):
            name = found["end"] or found["new"] or found["file"]
            self.files.add(name)
            path = copy / name
            if found["new"]:
                assert not path.exists()
                path.write_text(found["code"])
                continue
            before = path.read_text()
            if found["end"]:
                path.write_text(f"{before}\n\n{found['code']}")
                continue
            line = found["line"] + "\n"
            assert before.count(line) == 1, (name, line)
            code = found["code"]
            path.write_text(before.replace(line, line + code if found["side"] == "below" else code + line))


def recipes() -> list[Recipe]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    part = text[text.index("## Where would I add ...?") : text.index("## Rules of the house")]
    return [Recipe(one.partition("\n")[0], one) for one in part.split("\n### ")[1:]]


def test_there_are_seven() -> None:
    assert len(recipes()) == 7


@pytest.mark.parametrize("recipe", recipes(), ids=lambda one: one.title.replace(" ", "-"))
def test_a_recipe_works(tmp_path: Path, recipe: Recipe) -> None:
    named = re.search(r"`(tests/[\w/]+\.py)::(\w+)`", recipe.text)
    if named is not None and not _SEEN.search(recipe.text):  # a test of its own does it
        assert f"def {named[2]}(" in (ROOT / named[1]).read_text()
        return
    copy = tmp_path / "quire"
    shutil.copytree(Path(quire.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    recipe.apply(copy)
    assert 1 <= len(recipe.files) <= 2
    seen = _SEEN.search(recipe.text)
    assert seen is not None
    words = [sys.executable, "-c", seen[2]]
    if seen[1] == "sh":
        python, *rest = seen[2].split()
        words = [sys.executable, *rest]
        assert python == "python"
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": "1"},
    )
    assert done.stdout == seen[3], done.stderr


def test_what_is_shown_is_formatted(tmp_path: Path) -> None:
    """Code that people paste passes the linter."""
    for recipe in recipes():
        for number, found in enumerate(_PLACE.finditer(recipe.text)):
            if found["new"]:
                path = tmp_path / f"{number}.py"
                path.write_text(found["code"])
                command = [
                    sys.executable,
                    "-m",
                    "ruff",
                    "format",
                    "--check",
                    "--config",
                    str(ROOT / "pyproject.toml"),
                ]
                done = subprocess.run(
                    [*command, str(path)], capture_output=True, timeout=PATIENCE, check=False
                )
                assert done.returncode == 0, found["code"]
