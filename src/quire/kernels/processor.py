"""What stored code asks of a processor: a level of the psABI, x86-64-v3 (of 2013: AVX2, BMI, FMA) at the least."""

from functools import cache

__all__ = ["LEAST", "LEVELS", "levels", "missing_features"]

#: Levels that code is stored for, the best first, with features as /proc/cpuinfo has them; `abm` is LZCNT, `pni` SSE3.
LEAST = "x86-64-v3"
_FEATURES_3 = frozenset(("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")).union(
    ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
)
LEVELS = {
    "x86-64-v4": _FEATURES_3.union(("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    LEAST: _FEATURES_3,
}


@cache
def levels(path: str = "/proc/cpuinfo") -> tuple[str, ...]:
    """Return the levels that the processor has, the best first."""
    features = _features(path)
    return tuple(level for level, wanted in LEVELS.items() if wanted <= features)


def missing_features(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """Return what the processor lacks of the least level."""
    return LEVELS[LEAST] - _features(path)


def _features(path: str) -> frozenset[str]:
    """Return the features of the first processor that the kernel lists."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[-1].split())
    except OSError:
        pass
    return frozenset()
