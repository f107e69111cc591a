"""Writes the table of docs/reference/sandbox.md: ``python tests/docs/sandbox_page.py`` replaces it there."""

import re
from pathlib import Path

from quire.guest.syscalls import SYSCALLS
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.fcntl import FCNTLS
from quire.guest.syscalls.ioctls import IOCTLS
from quire.guest.syscalls.prctl import PRCTLS

__all__ = ["DOCUMENT", "page"]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sandbox.md"
_TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
_HEAD = ("| effect | what a sandbox makes of it | calls and commands |", "|---|---|---|")


def _declared(effect: Effect) -> list[str]:
    """Return the names of what is declared with an effect: calls first, then commands."""
    calls = [entry.name for entry in SYSCALLS.values() if entry.run is not None and entry.effect is effect]
    commands = [entry.name for entry in (*FCNTLS.values(), *IOCTLS.values()) if entry.effect is effect]
    if effect is Effect.GUEST:
        commands += [name for name, _ in PRCTLS.values()]
    return [*sorted(calls), *sorted(commands)]


def page(text: str) -> str:
    """Return `text` with the table as the code has it."""
    rows = [
        f"| `{effect.name}` | {effect.value} | {', '.join(f'`{name}`' for name in names)} |"
        for effect in Effect
        if (names := _declared(effect))
    ]
    table = "\n".join((*_HEAD, *rows)) + "\n"
    return _TABLE.sub(lambda _: table, text)


if __name__ == "__main__":
    DOCUMENT.write_text(page(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
