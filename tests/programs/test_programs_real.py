"""A sample of the campaign of real programs: ``python tests/campaigns/programs.py`` runs all, on all hardware."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from native import need

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
from program_cases import CASES
from programs import HARDWARE, differences

SAMPLE = ("find-xargs", "perl", "real_threads", "real_openmp", "sqlite", "xz", "tar-rsync", "python-asyncio")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_program_says_what_it_says_natively(name: str) -> None:
    """Each on one of all hardware."""
    case = next(one for one in CASES if one.name == name)
    for each in (*case.needs, *(("gcc",) if case.made else ())):
        need(each)
    assert shutil.which("bash")
    hardware = HARDWARE[SAMPLE.index(name) % len(HARDWARE)]
    with ThreadPoolExecutor(1) as pool:
        assert differences(case, 1, pool, [hardware]) == []
