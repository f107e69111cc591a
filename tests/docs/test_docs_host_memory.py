"""docs/reference/numa.md and audit.md: their examples print what is shown; every option, policy and field is named."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from quire.cli.main import group
from quire.memory.numa import PolicyKind

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (FOLDER / document).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("document", ["numa.md", "audit.md"])
def test_the_examples_print_what_is_shown(document: str) -> None:
    names: dict[str, object] = {}
    for code, expected in zip(blocks(document, "python"), blocks(document, "text"), strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, document, "exec"), names)
        assert printed.getvalue() == expected


def test_every_policy_and_option_about_nodes_is_named() -> None:
    text = (FOLDER / "numa.md").read_text(encoding="utf-8")
    for kind in PolicyKind:
        assert f"| `{kind}" in text
    command = group.get_command(None, "numa")  # type: ignore[arg-type]
    assert command is not None
    own = [option.opts[0] for option in command.params if option.name in ("numa", "distances", "numa_policy",
           "guest_tables", "host_tables", "vcpu_node", "replicate_tables", "last_cache", "choices")]  # fmt: skip
    assert len(own) == 9
    for option in own:
        assert f"| `{option}` |" in text
