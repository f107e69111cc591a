"""Debian's stock kernel boots to a shell: the same session under each Mmu, the same bytes each time."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from sampling import WHOLE

pytestmark = [pytest.mark.xdist_group("boot"), pytest.mark.timeout(3 * PATIENCE)]

SESSION = """\
cat /proc/version | cut -d' ' -f1
grep -c ^processor /proc/cpuinfo
echo three words here | wc -w
(sleep 0.1; echo later) & wait
dmesg | grep -c 'Linux version'
sleep 1; poweroff -f
"""


@dataclass(frozen=True)
class Boot:
    """What came out of one: exit status, console, report."""

    status: int
    console: str
    report: dict[str, Any]


Booting = Callable[..., Boot]


@pytest.fixture(scope="module")
def boot(kernel: Path, initrd: Path, tmp_path_factory: pytest.TempPathFactory) -> Booting:
    """Return a function that boots with options, once for each choice of these."""
    folder = tmp_path_factory.mktemp("boots")

    @functools.cache
    def booted(*options: str, typed: str = SESSION, append: str = "console=ttyS0", again: int = 0) -> Boot:
        report = folder / f"report-{len(list(folder.iterdir()))}-{again}"
        command = [sys.executable, "-P", "-m", "quire", "boot", "--kernel", kernel, "--initrd", initrd]
        command += ["--append", append, "--memory", "256M", "--json", "-o", report, *options]
        done = subprocess.run(
            command, input=typed.encode(), capture_output=True, timeout=2 * PATIENCE, check=False
        )
        assert report.exists(), done.stderr.decode()
        return Boot(done.returncode, done.stdout.decode(errors="replace"), json.loads(report.read_text()))

    return booted


def answers(console: str) -> list[str]:
    """Return what the session's commands said: neither prompts nor what the kernel says beside."""
    lines = [line.strip() for line in console.splitlines()]
    begun = next(number for number, line in enumerate(lines) if "can't access tty" in line)
    return [line for line in lines[begun + 1 :] if line and line[0] not in "/[\x1b"]


def said(console: str) -> list[str]:
    """Return the kernel's messages without their times, up to the shell."""
    found = [re.sub(r"^\[[^]]*\] ", "", line.strip()) for line in console.splitlines() if line.startswith("[")]
    return [line for line in found if not _differs(line)]


def _differs(line: str) -> bool:
    """Whether a message depends on times that the Mmu changes: what a shadow or a lazy EPT makes exit takes a while."""
    timed = ("BogoMIPS", "tsc:", "clocksource", "raid6", "xor:", "cost", "random:", "sched_clock")
    return any(words in line for words in timed)


#: What each landing boots, and what a night does.
HARDWARE = [("native", 1), ("ept", 2), ("shadow", 1), *([("native", 4), ("ept", 1), ("ept", 8)] if WHOLE else [])]


@pytest.mark.parametrize(("mmu", "vcpus"), HARDWARE)
def test_a_session_at_the_console(boot: Booting, mmu: str, vcpus: int) -> None:
    done = boot("--mmu", mmu, "--vcpus", str(vcpus))
    assert done.status == 0, done.console[-2000:]
    assert answers(done.console) == ["Linux", str(vcpus), "3", "later", "1"]
    outcome = done.report["outcome"]
    assert (outcome["status"], outcome["how"], outcome["reason"]) == (0, "switched off", None)
    exits = done.report["exits"]
    assert exits["HLT"] and exits["CPUID"] and exits["IO_INSTRUCTION"]
    assert ("STARTUP_IPI" in exits) == (vcpus > 1)
    assert bool(exits.get("EPT_VIOLATION")) == (mmu == "ept")
    assert len(done.report["vcpus"]) == vcpus and all(one["instructions"] > 10**6 for one in done.report["vcpus"])


def test_messages_are_the_same_under_each_mmu(boot: Booting) -> None:
    native, shadow = (said(boot("--mmu", mmu, "--vcpus", "1").console) for mmu in ("native", "shadow"))
    assert len(native) > 150 and native == shadow


def test_the_same_bytes_each_time(boot: Booting) -> None:
    first, second = (boot("--mmu", "ept", "--vcpus", "2", again=again) for again in (0, 1))
    assert second.console == first.console
    first.report.pop("time"), second.report.pop("time")
    assert second.report == first.report


def test_a_kernel_that_panics(boot: Booting) -> None:
    done = boot("--mmu", "native", append="console=ttyS0 quiet init=/nowhere rdinit=/nowhere", typed="")
    assert done.status == 1
    assert done.report["outcome"]["how"] == "panicked"
    assert done.report["outcome"]["reason"].startswith("its kernel panicked: VFS: Unable to mount root fs")


@pytest.mark.skipif(not WHOLE, reason="a boot more than a landing has time for")
@pytest.mark.parametrize("options", [(), ("--host-page", "1G", "--profile", "zen4")])
def test_full_detail_counts_every_access(boot: Booting, options: tuple[str, ...]) -> None:
    done = boot("--mmu", "ept", "--detail", "full", *options)
    assert done.status == 0 and answers(done.console)[0] == "Linux"
    report = done.report
    assert report["accesses"]["fetch"] == report["instructions"] > 10**9
    first = report["tlb"]["l1d"]
    assert first["hits"] + first["misses"] >= report["accesses"]["read"] + report["accesses"]["write"]
    assert report["walks"]["references_per_walk"]["host"] > 0
