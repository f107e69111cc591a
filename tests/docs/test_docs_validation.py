"""docs/validation.md shows what its commands print, and the chart that they draw."""

import importlib.util
import re
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

import pytest
from native import loaded_folder
from sampling import WHOLE

from quire.machine import MMUS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "validation.md"


def texts(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.programs
def test_the_commands_print_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they do not, and should: python tools/console_blocks.py docs/validation.md. A sample runs the quick one."""
    spec = importlib.util.spec_from_file_location("console_blocks", ROOT / "tools" / "console_blocks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: loaded_folder())
    (tmp_path / "docs").mkdir()
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count("$ quire validate") == 4
    if not WHOLE:
        shown = re.findall(r"^```console\n.*?^```$", text, re.MULTILINE | re.DOTALL)
        text = next(block for block in shown if "validate references" in block)
    assert module.rewritten(text, tmp_path) == text
    if not WHOLE:
        return
    drawn, committed = texts(tmp_path / "docs" / "crossover.svg"), texts(ROOT / "docs" / "crossover.svg")
    assert drawn == committed
    assert set(MMUS) <= set(drawn)
