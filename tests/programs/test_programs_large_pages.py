"""Large pages of programs: what advice, fork, mprotect and MADV_COLLAPSE make of them, as smaps tells it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from limits import PATIENCE
from native import quire, quire_report

pytestmark = pytest.mark.programs

#: What Linux 6.18 printed of the same program where the mode is madvise: MiB in large pages, and what memory holds.
EXPECTED = """\
advised   large 2 sum 3a380400
collapse 0
collapsed large 4 sum 3a380400
child     large 4 sum 3a380400
written   large 2 sum 442122de
parent    large 4 sum 3a380400
written   large 4 sum 748aa74c
parted    large 2 sum 748aa74c
collapse 0
joined    large 4 sum 748aa74c
status 7 unmapped 1
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled program."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    made = tmp_path_factory.mktemp("large") / "largepages"
    source = Path(__file__).parent / "probes" / "tasks_largepages.c"
    subprocess.run([gcc, "-O1", "-w", source, "-o", made], check=True, timeout=PATIENCE)
    return made


@pytest.mark.parametrize(
    "options",
    [("--mmu", "native"), ("--mmu", "ept"), ("--mmu", "shadow"), ("--mmu", "ept", "--vcpus", "2", "--host-page", "2M")],
    ids=" ".join,
)
def test_large_pages_are_where_linux_has_them(program: Path, options: tuple[str, ...]) -> None:
    outcome = quire([program], *options, "--report", "none")
    assert outcome.stdout.decode() == EXPECTED
    assert (outcome.stderr, outcome.status) == (b"huge aligned 1 refused 1\n", 0)


def test_modes(program: Path) -> None:
    """Without large pages memory holds the same; MADV_COLLAPSE joins in every mode, as on Linux."""
    never = quire([program], "--thp", "never", "--report", "none").stdout.decode()
    assert [line.split("sum")[-1] for line in never.splitlines()] == [
        line.split("sum")[-1] for line in EXPECTED.splitlines()
    ]
    assert "advised   large 0" in never and "collapsed large 2" in never and "parted    large 0" in never
    tables = {}
    for mode in ("always", "madvise"):
        script = "import os; x = b'x' * (16 << 20); os._exit(0)"
        _, record = quire_report(["python3", "-S", "-c", script], "--thp", mode)
        tables[mode] = record["memory"]["guest"]["table_pages"]
        assert record["config"]["thp"] == mode
    assert tables["always"] < tables["madvise"]


def test_what_says_nothing_together_is_told() -> None:
    outcome = quire(["true"], "--guest-page", "2M", "--thp", "never")
    assert outcome.status == 125
    assert outcome.stderr.decode() == (
        "quire run: --guest-page 2M maps large pages where they fit, --thp never nowhere: leave one of them out "
        "(see quire run --help)\n"
    )
