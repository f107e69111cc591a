"""What stored code asks of a processor: x86-64-v3, the level of 2013 (AVX2, BMI, FMA)."""

from functools import cache

__all__ = ["REQUIRED", "missing_features"]

REQUIRED = "x86-64-v3"
#: As /proc/cpuinfo spells what the psABI names of levels 2 and 3; `abm` is LZCNT, `pni` is SSE3.
_FEATURES = frozenset(("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")).union(
    ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
)


@cache
def missing_features(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """Return what the processor lacks of x86-64-v3, by the first processor that the kernel lists."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return _FEATURES.difference(line.split(":", 1)[-1].split())
    except OSError:
        pass
    return _FEATURES
