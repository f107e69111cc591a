"""`--no-argv`: no report of any verb that runs a program has its arguments or its environment."""

import json
import subprocess
from pathlib import Path

import pytest
from commands import refused
from limits import PATIENCE
from native import environment, loaded_quire

pytestmark = pytest.mark.programs

_SECRET = "s3cret"
#: The words of each verb, and the files that it writes.
VERBS = {
    "run": (["run", "--json", "-o", "a"], ["a"]),
    "tlb": (["tlb", "--json", "-o", "a", "--heat-map", "c.svg"], ["a", "c.svg"]),
    "audit": (["audit", "--json", "-o", "a"], ["a"]),
    "compare": (
        ["compare", "--mmu", "native", "--json", "-o", "a", "--parquet", "c", "--plot", "d.svg"],
        ["a", "c", "d.svg"],
    ),
    "numa": (["numa", "--numa", "2x4G", "--json", "-o", "a"], ["a"]),
}


def _written(folder: Path, words: list[str], files: list[str], *options: str) -> bytes:
    """Run the verb on a program with a secret argument and variable; return all that it wrote."""
    program = ["/bin/sh", "-c", "kill -SEGV $$", _SECRET]
    done = subprocess.run(
        [*loaded_quire(), *words, *options, "--", *program],
        cwd=folder, capture_output=True, env=environment({"PASSWORD": _SECRET}), timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 139, done.stderr
    assert json.loads((folder / "a").read_text())["program"]["argv"][0] == "/bin/sh"
    return done.stdout + done.stderr + b"".join((folder / name).read_bytes() for name in files)


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_stay_out_of_what_is_written(verb: str, tmp_path: Path) -> None:
    words, files = VERBS[verb]
    assert _SECRET.encode() not in _written(tmp_path, words, files, "--no-argv")
    if verb in ("run", "compare"):  # one that takes the record of a run, and one that has its own
        assert _SECRET.encode() in _written(tmp_path, words, files)


def test_an_image_is_memory(tmp_path: Path) -> None:
    line = refused(tmp_path, "run", "--no-argv", "--save-image", "core", "--", "true")
    assert line == (
        "quire run: --save-image saves the guest's memory, which has its arguments and environment in it: leave out "
        "--no-argv, or the image (see quire run --help)"
    )


def test_words_that_are_nearly_right(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, "rum") == "quire: There is no verb 'rum' (did you mean 'run'?) (see quire --help)"
    )
    said = "quire run: No such option '--mmuu'. Did you mean '--mmu'? (see quire run --help)"
    assert refused(tmp_path, "run", "--mmuu", "ept", "true") == said
