"""Instructions in a guest against this machine's own processor: what each leaves of registers, flags and memory."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from quire.testing.instructions import Variant, execute_as_guest, execute_natively, explain, operands
from quire.testing.instructions.aspects import aspects
from quire.testing.instructions.integer import INTEGER
from quire.testing.instructions.vector import VECTOR
from quire.testing.instructions.x87 import X87
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally

__all__ = ["SUITES", "compare_instructions"]

#: Operands of each variant in a sample, and in a whole run.
_SAMPLE, _WHOLE = 3, 60
_NEEDED = ("sse4_2", "popcnt", "cx16")


def compare_instructions(variants: Sequence[Variant], setting: Setting, tally: Tally) -> None:
    """Execute each of `variants` natively and as a guest, from the same states; count what is alike."""
    seeded = random.Random(setting.seed)
    count = _WHOLE if setting.whole else _SAMPLE
    instances = [(variant, operands(variant, seeded)) for variant in variants for _ in range(count)]
    programs = [(variant.code, state) for variant, state in instances]
    pairs = zip(execute_natively(programs), execute_as_guest(programs), strict=True)
    for n, ((variant, _), (native, guest)) in enumerate(zip(instances, pairs, strict=True)):
        expected = aspects(variant, native)
        for name, value in aspects(variant, guest).items():
            deviation = explain(variant, name, value, expected[name]) if value != expected[name] else ""
            what = f"{variant.name}, {name}, operands {n % count} of seed {setting.seed}"
            tally.compare(what, _shown(value), _shown(expected[name]), deviation=deviation)


def _shown(value: int | tuple[int, ...] | bytes) -> int | tuple[int, ...] | str:
    return value.hex() if isinstance(value, bytes) else value


def _case(variants: Sequence[Variant]) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        compare_instructions(variants, setting, tally)

    return run


def _unavailable() -> str:
    """Return what the processor lacks, or nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError as error:
        return f"/proc/cpuinfo cannot be read: {error.strerror}"
    offered = {word for line in text.splitlines() if line.startswith("flags") for word in line.split()}
    missing = [name for name in _NEEDED if name not in offered]
    return f"this processor has no {', '.join(missing)}" if missing else ""


def _suite() -> Suite:
    suite = Suite(
        "instructions",
        oracle="this processor",
        title="integer, SSE to SSE4.2 and x87 instructions as a guest and natively, from the same states",
        unavailable=_unavailable,
    )
    for name, variants in (("integer", INTEGER), ("vector", VECTOR), ("x87", X87)):
        suite.case(name)(_case(variants))
    return suite


SUITES = [_suite()]
