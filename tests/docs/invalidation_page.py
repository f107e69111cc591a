"""Writes the table of docs/reference/invalidation.md: ``python tests/docs/invalidation_page.py`` replaces it there."""

import re
from pathlib import Path

from quire.tlb import Operation
from quire.tlb.invalidation import MappingClass, Structures

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "invalidation.md"
_TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
_HEAD = (
    "| operation | executed as | classes | equal tags | one page | paging-structure entries | global | manual |",
    "|---|---|---|---|---|---|---|---|",
)


def row(operation: Operation) -> str:
    """Return one line of the table."""
    rule = operation.value
    if not rule.classes:
        cells = [f"`{operation.name}`", rule.when, "nothing is required", "", "", "", "", rule.section]
        return "| " + " | ".join(cells) + " |"
    tags = [
        name for name, wanted in (("VPID", rule.vpid), ("PCID", rule.pcid), ("EP4TA", rule.ep4ta)) if wanted
    ]
    guest = MappingClass.LINEAR in rule.classes or MappingClass.COMBINED in rule.classes
    one = "those for the address" if rule.structures is Structures.ADDRESS else "all of the tags"
    cells = [
        f"`{operation.name}`",
        rule.when,
        ", ".join(str(kind) for kind in MappingClass if kind in rule.classes),
        (", ".join(tags) or "any") + ("; VPID 0 stays" if rule.spare_vpid_0 else ""),
        "yes" if rule.page else "all pages",
        one if rule.page else "all of the tags",
        ("go" if rule.global_pages else "stay") if guest else "",
        rule.section,
    ]
    return "| " + " | ".join(cells) + " |"


def page(text: str) -> str:
    """Return `text` with the table as the code has it."""
    table = "\n".join((*_HEAD, *(row(operation) for operation in Operation))) + "\n"
    return _TABLE.sub(lambda _: table, text)


if __name__ == "__main__":
    DOCUMENT.write_text(page(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
