"""A sample of the campaign of mutated ELF files: ``python tests/campaigns/elf.py`` loads more of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
import elf

from quire.guest.run_spec import RunSpec
from quire.guest.session import open_session
from quire.machine import GuestConfig


def test_a_sample_of_mutants_is_loaded_or_refused_in_one_line() -> None:
    loaded, ran = elf.campaign(200, 3, 10)
    assert loaded["loaded"] > 20
    assert loaded["refused"] > 20
    assert sum(loaded.values()) == 200
    assert sum(ran.values()) == 10


def test_a_mutant_is_a_function_of_its_seed() -> None:
    assert [elf.mutant(n) for n in range(20)] == [elf.mutant(n) for n in range(20)]
    assert len({elf.mutant(n) for n in range(20)}) == 20


@pytest.mark.parametrize(
    ("vaddr", "align", "entry"),
    [(0x7FFF_0000_0000, 0x1000, 0x10), (0x7F00_0000_0000, 1 << 46, 0), (0, 0x1000, 0x7FFF_0000_0000)],
    ids=["high address", "high alignment", "entry beyond"],
)
def test_a_position_independent_program_without_an_entry_dies_as_natively(
    vaddr: int, align: int, entry: int, tmp_path: Path
) -> None:
    """Its first instruction is nowhere: SIGSEGV, with the addresses wrapped around as Linux' are."""
    path = tmp_path / "program"
    path.write_bytes(elf.program(3, entry, [(1, 5, 0, vaddr, vaddr, 0x1000, 0x1000, align)]))
    path.chmod(0o700)
    native = subprocess.run([path], check=False, capture_output=True, timeout=PATIENCE)
    assert native.returncode == -11
    session = open_session(RunSpec((str(path),), GuestConfig(memory=8 << 20)), {})
    assert session.run() == 139
    assert session.death_text is not None
    assert "SIGSEGV" in session.death_text
