"""What the boot of a stock kernel costs beside QEMU's own translator, turn about in one run.

Debian's kernel for clouds up to its first program, which switches off. Seconds of processor time. Target: under ept at
most 2.5 times QEMU's, aim 1.7.
"""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from measure import QUIRE, Timing, interleave, run_timed, table
from workloads import need

_INIT = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"
_LINE = "console=ttyS0 quiet"
_TARGET = 2.5
_QUIRE = (QUIRE, "boot", "--memory", "256M", "--report", "none", "--append", _LINE)
_SUBJECTS = {
    "native": (*_QUIRE, "--mmu", "native"),
    "ept": (*_QUIRE, "--mmu", "ept"),
    "ept, 2 vCPUs": (*_QUIRE, "--mmu", "ept", "--vcpus", "2"),
    "shadow": (*_QUIRE, "--mmu", "shadow"),
    "ept, full detail": (*_QUIRE, "--mmu", "ept", "--detail", "full"),
}


def _example() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "examples" / "boot_debian.py"
    spec = importlib.util.spec_from_file_location("boot_debian", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["boot_debian"] = module
    spec.loader.exec_module(module)
    return module


def test_cloud_kernel(tmp_path: Path, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    debian = _example()
    try:
        kernel, initrd = str(debian.fetch_kernel(tmp_path)), str(debian.make_initrd(tmp_path, _INIT))
    except debian.Unavailable as why:
        pytest.skip(str(why))
    qemu = (need("qemu-system-x86_64"), "-accel", "tcg", "-nographic", "-no-reboot", "-m", "256", "-nic", "none")
    subjects: dict[str, Callable[[], Timing]] = {
        "QEMU": partial(run_timed, [*qemu, "-kernel", kernel, "-initrd", initrd, "-append", _LINE])
    }
    for name, words in _SUBJECTS.items():
        subjects[name] = partial(run_timed, [*words, "--kernel", kernel, "--initrd", initrd])
    taken: dict[str, Timing] = benchmark.pedantic(
        interleave, (subjects, dict.fromkeys(subjects, rounds)), rounds=1
    )
    shown = table("a stock kernel to its first program", "", "s", "x QEMU", "target")
    for name, timing in taken.items():
        ratio = timing.cpu / taken["QEMU"].cpu
        verdict = f"{_TARGET}: {'reached' if ratio <= _TARGET else 'MISSED'}" if name == "ept" else ""
        shown.add_row(name, f"{timing.cpu:.2f}", f"{ratio:.2f}", verdict)
    benchmark.extra_info["cpu_seconds"] = {name: timing.cpu for name, timing in taken.items()}
