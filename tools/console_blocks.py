"""Runs the commands that a Markdown document shows in console blocks, and puts their output below them.

``python tools/console_blocks.py docs/validation.md``: from the root of the repository, with ``quire`` of this Python.
Stops at a command that fails; the document is then as it was.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["rewritten"]

_BLOCK = re.compile(r"^(```console\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)


def rewritten(text: str, folder: Path) -> str:
    """Return `text` with the output of each command, run in `folder`, below it."""
    return _BLOCK.sub(lambda found: found[1] + _outputs(found[2], folder) + found[3], text)


def _outputs(block: str, folder: Path) -> str:
    lines = []
    for line in block.splitlines():
        if line.startswith("$ "):
            lines += [f"{line}\n", _run(line[2:], folder)]
    return "".join(lines)


def _run(command: str, folder: Path) -> str:
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(rewritten(document.read_text(), Path.cwd()))
