"""Guests on several vCPUs: they run side by side, tell each other what to drop, and the report says who did what."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from native import environment, execute, loaded_quire, quire, quire_report

pytestmark = pytest.mark.programs

PROBES = Path(__file__).parent / "probes"
MMUS = ("native", "ept", "shadow")
#: What quire run is without the interrupts by which vCPUs tell each other to drop translations.
FORGETFUL = """
import sys
from quire.guest.kernel.processors import Processors
Processors.shoot_down = lambda self, number, pages: None
from quire.cli import command_line
sys.argv[0] = "quire"
command_line()
"""
#: What it is under a hypervisor that takes the shadow of a vCPU away and does not flush, where it is to drop pages.
FORGETFUL_HYPERVISOR = """
import sys
from quire.guest.kernel.processors import Processors
def zap(self, number, pages):
    shadow = self.all[number].mmu.shadow
    shadow._flush = lambda: None
    shadow.zap()
Processors.shoot_down = zap
from quire.cli import command_line
sys.argv[0] = "quire"
command_line()
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the compiled programs."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("vcpus")
    for name in ("apart", "shootdowns", "tree", "vcpus"):
        words = [gcc, "-O1", "-pthread", PROBES / f"tasks_{name}.c", "-o", folder / name]
        subprocess.run(words, check=True, timeout=PATIENCE)
    return folder


def without_time(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "time"}


@pytest.mark.parametrize("mmu", MMUS)
@pytest.mark.parametrize("vcpus", [1, 2, 4, 7])
def test_threads_run_side_by_side(programs: Path, vcpus: int, mmu: str) -> None:
    outcome = quire([programs / "vcpus"], "--vcpus", str(vcpus), "--mmu", mmu, "--report", "none")
    expected = f"vcpus {vcpus} moved {vcpus} refused 1 side by side {min(vcpus, 4)}\n"
    assert (outcome.stdout.decode(), outcome.status) == (expected, 0)


@pytest.mark.parametrize("mmu", MMUS)
def test_shootdowns_are_counted_and_none_is_missing(programs: Path, mmu: str) -> None:
    """The program moves three pages forty times; all but the first time three threads look at what was there."""
    options = ("--vcpus", "4", "--mmu", mmu, "--check-flushes", "--caching", "retain")
    outcome, record = quire_report([programs / "shootdowns"], *options)
    assert outcome.stdout == b"wrong 0\n" and record["flushes"]["findings"] == []
    told = [one["shootdowns"] for one in record["vcpus"]]
    each = 39 * 3  # that may no longer be written, that go, that take their place
    assert told == [{"sent": 3 * each, "received": 0}, *[{"sent": 0, "received": each}] * 3]


def forgets(programs: Path, folder: Path, mmu: str, script: str = FORGETFUL) -> tuple[bytes, list[dict[str, Any]]]:
    """Return what the program says where a flush is forgotten, as in `script`, and what the check of flushes finds."""
    options = ["run", "--mmu", mmu, "--vcpus", "4", "--check-flushes", "--report", "json", "-o", str(folder / "report")]
    words = [sys.executable, "-P", "-c", script, *options, "--", str(programs / "shootdowns")]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=PATIENCE, check=True)
    findings = json.loads((folder / "report").read_text())["flushes"]["findings"]
    return done.stdout, findings


@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_a_kernel_that_forgets_them_is_found_out(programs: Path, tmp_path: Path, mmu: str) -> None:
    _, findings = forgets(programs, tmp_path, mmu)
    assert {one["vcpu"] for one in findings} == {"vCPU 1", "vCPU 2", "vCPU 3"}
    assert all(one["symbol"].startswith("look+") for one in findings)
    assert all(one["changed"]["symbol"].startswith("mremap+") for one in findings)


def test_under_shadow_the_guest_itself_sees_that_its_kernel_forgets_them(programs: Path, tmp_path: Path) -> None:
    """Each vCPU's shadow stays as it was, as a TLB might: hardware walks the shadow, and that is what it says."""
    said, findings = forgets(programs, tmp_path, "shadow")
    assert said.startswith(b"wrong ") and int(said.split()[1]) > 0
    assert findings == []


def test_a_hypervisor_that_does_not_flush_another_vcpu_is_found_out(programs: Path, tmp_path: Path) -> None:
    """Each vCPU's own shadow is looked at; who changed it is the vCPU whose kernel was at work."""
    _, findings = forgets(programs, tmp_path, "shadow", FORGETFUL_HYPERVISOR)
    assert {one["vcpu"] for one in findings} == {"vCPU 1", "vCPU 2", "vCPU 3"}
    changes = [one["changed"] for one in findings]
    assert {(one["by"], one["vcpu"]) for one in changes} == {("hypervisor", "vCPU 0")}
    assert all(one["symbol"].startswith(("mprotect+", "mremap+")) for one in changes)


def tree(depth: int) -> bytes:
    """Return what the processes of the tree say, the last one first."""
    return b"".join(b"%d %d right\n" % (n, n + 1 if n < depth else 0) for n in range(depth, -1, -1))


def test_every_shadow_is_justified_after_every_exit(programs: Path) -> None:
    words = ("--mmu", "shadow", "--vcpus", "3", "--audit-shadow", "--shadow-prefetch", "8", "--host-page", "2M")
    outcome, record = quire_report([programs / "tree"], *words)
    assert (outcome.stdout, outcome.status) == (tree(3), 0), outcome.stderr
    assert all(one["exits"] > 100 for one in record["vcpus"])
    assert record["memory"]["shadow"]["roots_built"] > 3 + 4  # of four processes on three vCPUs


def test_the_bound_on_shadow_pages_is_each_vcpus(programs: Path) -> None:
    words = ("--mmu", "shadow", "--vcpus", "2", "--shadow-pages", "64")
    outcome, record = quire_report([programs / "tree", "10"], *words)
    assert (outcome.stdout, outcome.status) == (tree(10), 0), outcome.stderr
    shadow = record["memory"]["shadow"]
    assert shadow["reclaimed"] > 0 and 64 < shadow["table_pages"] <= 2 * 64


def test_every_frame_of_several_shadows_has_one_owner(programs: Path, tmp_path: Path) -> None:
    words = ["audit", "--mmu", "shadow", "--vcpus", "4", "--every", "1", "--json", "-o", str(tmp_path / "report")]
    done = execute([*loaded_quire(), *words, "--", programs / "shootdowns"])
    record = json.loads((tmp_path / "report").read_text())
    assert (done.stdout, done.status, record["breaches"]) == (b"wrong 0\n", 0, [])
    assert record["audits"] > 100 and record["frames"]["by_owner"]["shadow_table"] >= 4 * 4


@pytest.mark.parametrize("mmu", ["native", "shadow"])
@pytest.mark.parametrize("caching", ["modelled", "evict"])
def test_the_same_seed_gives_the_same_report(programs: Path, caching: str, mmu: str) -> None:
    options = ("--vcpus", "3", "--mmu", mmu, "--detail", "full", "--caching", caching)
    one, other = (quire_report([programs / "shootdowns"], *options)[1] for _ in range(2))
    assert without_time(one) == without_time(other)


def test_parts_make_the_whole(programs: Path) -> None:
    """Of vCPUs and of processes: instructions, misses and walks; a switch to another program costs refills."""
    script = f"{programs / 'shootdowns'} & {programs / 'shootdowns'} & wait"
    _, record = quire_report(["sh", "-c", script], "--vcpus", "2", "--detail", "full")
    processes, vcpus = record["tasks"]["processes"], record["vcpus"]
    misses = record["tlb"]["l1d"]["misses"] + record["tlb"]["l1i"]["misses"]
    walks = record["walks"]["count"]
    whole = {"instructions": record["instructions"], "tlb_misses": misses, "walks": walks}
    for parts in (vcpus, processes):
        assert {name: sum(one[name] for one in parts) for name in whole} == whole
    assert sum(one["switches"] for one in vcpus) == record["tasks"]["switches"]
    assert sum(one["refills"] for one in processes) > 0
    assert record["config"]["vcpus"] == 2


@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
def test_memory_is_on_the_node_of_the_vcpu_that_touches_it_first(programs: Path, mmu: str) -> None:
    options = ("--mmu", mmu, "--vcpus", "2", "--numa", "2x4G", "--vcpu-node", "0,1", "--detail", "full")
    _, record = quire_report([programs / "apart"], *options)
    (first, far), (_, own) = record["numa"]["references"]["data"]["matrix"]
    assert not far and own > 100 and first > 100, record["numa"]["references"]["data"]["matrix"]


def test_references_are_counted_from_each_vcpus_node(programs: Path) -> None:
    options = ("--vcpus", "2", "--numa", "2x4G", "--vcpu-node", "0,1", "--detail", "full")
    _, record = quire_report([programs / "shootdowns"], *options)
    numa = record["numa"]
    assert numa["vcpu_nodes"] == [0, 1] == [one["node"] for one in record["vcpus"]]
    assert all(row[0] > 0 for row in numa["references"]["data"]["matrix"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--vcpus", "17"), "Invalid value for '--vcpus': 17 is not in the range 1<=x<=16."),
        (("--vcpus", "3", "--numa", "2x4G", "--vcpu-node", "0,1"),
         "2 nodes cannot be given to 3 vCPUs: give numa, and one node for each vCPU"),
        (("--numa", "2x4G", "--vcpu-node", "0,x"),
         "Invalid value for '--vcpu-node': 'x' is no node: give 0 to 63, or a list such as 0,1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(options: tuple[str, ...], line: str) -> None:
    outcome = quire(["true"], *options)
    assert (outcome.status, outcome.stderr.decode()) == (125, f"quire run: {line} (see quire run --help)\n")
