"""docs/reference/sandbox.md: its table is that of the code, its example ends as it shows, what it names is there."""

import shlex
from pathlib import Path

from examples import blocks, text_of
from native import quire
from sandbox_page import DOCUMENT, page

from quire.guest.syscalls.effects import KEPT_FROM_THE_HOST, PARTS, Effect


def test_the_table_of_effects_is_that_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert page(text) == text, "python tests/docs/sandbox_page.py writes it anew"


def test_every_effect_says_what_a_sandbox_makes_of_it() -> None:
    text = text_of("sandbox.md")
    for effect in Effect:
        assert effect is Effect.UNKNOWN or f"| `{effect.name}` | {effect.value} |" in text
    assert all(effect.value.startswith(("refused", "answered")) for effect in KEPT_FROM_THE_HOST)
    assert not KEPT_FROM_THE_HOST & set(PARTS)


def test_the_example_is_refused_as_shown(tmp_path: Path) -> None:
    (commands,), (shown,) = blocks("sandbox.md", "sh"), blocks("sandbox.md", "text")
    said = b""
    for line in commands.splitlines():
        words = shlex.split(line.removeprefix("quire run "))
        split = words.index("--")
        done = quire(words[split + 1 :], *words[:split], cwd=tmp_path)
        assert done.status == 1 and done.stdout == b""
        said += done.stderr
    assert said.decode() == shown
    assert list(tmp_path.iterdir()) == []
