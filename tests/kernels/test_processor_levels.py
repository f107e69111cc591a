"""Whether this processor is one that stored code was made for."""

import itertools
from pathlib import Path

import pytest

from quire.kernels.processor import LEAST, LEVELS, levels, missing_features

V3 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("text", "missing", "found"),
    [
        (f"processor\t: 0\nflags\t\t: fpu {V3} hypervisor\n", set(), ("x86-64-v3",)),
        (f"flags\t\t: {V4}\n", set(), ("x86-64-v4", "x86-64-v3")),
        (f"flags\t\t: {V4.replace(' avx512cd', '')}\n", set(), ("x86-64-v3",)),
        (
            f"flags\t\t: {V4.replace('avx2 ', '').replace(' movbe', '')}\nflags\t\t: {V4}\n",
            {"avx2", "movbe"},
            (),
        ),
        ("flags\t\t:\n", set(V3.split()), ()),
        ("Features\t: fp asimd\n", set(V3.split()), ()),
    ],
    ids=["least", "best", "best-but-one", "two-lack", "no-flags", "other-architecture"],
)
def test_what_the_processor_has(text: str, missing: set[str], found: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert missing_features(str(file)) == missing
    assert levels(str(file)) == found


def test_where_nothing_is_known_everything_lacks(tmp_path: Path) -> None:
    assert missing_features(str(tmp_path / "none")) == set(V3.split())
    assert levels(str(tmp_path / "none")) == ()


def test_the_best_level_comes_first_and_the_least_last() -> None:
    features = list(LEVELS.values())
    assert all(better > worse for better, worse in itertools.pairwise(features))
    assert list(LEVELS)[-1] == LEAST
