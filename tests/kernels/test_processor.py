"""Whether this processor is one that stored code was made for."""

from pathlib import Path

import pytest

from quire.kernels.processor import missing_features

V3 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (f"processor\t: 0\nflags\t\t: fpu {V3} hypervisor\n", set()),
        (f"flags\t\t: {V3.replace('avx2 ', '').replace(' movbe', '')}\nflags\t\t: {V3}\n", {"avx2", "movbe"}),
        ("flags\t\t:\n", set(V3.split())),
        ("Features\t: fp asimd\n", set(V3.split())),
    ],
    ids=["all", "two-lack", "no-flags", "other-architecture"],
)
def test_what_lacks(text: str, missing: set[str], tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert missing_features(str(file)) == missing


def test_where_nothing_is_known_everything_lacks(tmp_path: Path) -> None:
    assert missing_features(str(tmp_path / "none")) == set(V3.split())
