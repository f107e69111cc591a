"""System calls at the edges of their arguments: a guest gets what a native process gets, call by call.

The probes are tables (syscall_probes), made into one C program. Each line that it prints is one probe's.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from limits import PATIENCE
from native import MMUS, execute, need, quire
from sampling import WHOLE, some
from syscall_probes.grids import GRIDS
from syscall_probes.probe import Probe, source, tables

pytestmark = pytest.mark.programs

PROBES: list[Probe] = [*GRIDS, *tables()]
ROOT = os.geteuid() == 0
#: The probes whose results differ, with the reason; for user 0 alone where that is said.
PAGE = 4096
LOW_PAGES = "a guest's vm.mmap_min_addr is that of most machines, 65536; this machine has less"
NULL_FAULTS = "natively user 0 may map the first pages; a guest's null pointer always faults"
INTENDED = {
    "own.mem-open": "/proc/self/mem would be Quire's memory",
}
if int(Path("/proc/sys/vm/mmap_min_addr").read_text()) <= PAGE:
    INTENDED |= dict.fromkeys(("mmap.low.fixed", "mmap.low.noreplace", "mremap.fixed-low"), LOW_PAGES)
INTENDED_OF_ROOT = dict.fromkeys(
    (
        "mmap.page.fixed",
        "mmap.page.noreplace",
        "mmap.odd.fixed",
        "mmap.odd.noreplace",
        "mmap.most.fixed",
        "mmap.most.noreplace",
    ),
    NULL_FAULTS,
)
#: Which third of the probes a sampling run tries under each Mmu; a whole run tries all of them under each.
PARTS = {mmu: some("-", str(number)) for number, mmu in enumerate(MMUS)}
ALONE = [probe.name for probe in PROBES if probe.alone]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of all probes, where every user can execute it."""
    folder = tmp_path_factory.mktemp("syscalls")
    for parent in (folder, folder.parent, folder.parent.parent):
        if parent.owner() == folder.owner():
            parent.chmod(0o755)
    (folder / "probes.c").write_text(source(PROBES))
    command = [need("gcc"), "-O0", "-w", "-static", folder / "probes.c", "-o", folder / "probes"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    return folder / "probes"


def results(program: Path, folder: Path, arguments: list[str], *options: str) -> dict[str, str]:
    """Run the program in a new folder, natively or with `options` as a guest; return its lines by their names."""
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    argv = [program, *arguments]
    outcome = quire(argv, *options, "--report", "none", cwd=folder) if options else execute(argv, cwd=folder)
    assert outcome.status == 0, f"{argv} ended with {outcome.status}: {outcome.stderr.decode()}"
    assert b"Traceback" not in outcome.stderr
    lines = outcome.stdout.decode().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def check(native: Mapping[str, str], guest: Mapping[str, str], intended: Mapping[str, str]) -> None:
    """Assert that both have the same results but for `intended`, each of which does differ."""
    assert native.keys() == guest.keys()
    different = {name for name in native if native[name] != guest[name]}
    unknown = [
        f"{name}: natively {native[name]}, here {guest[name]}" for name in sorted(different - intended.keys())
    ]
    assert not unknown, "\n".join(unknown)
    assert not (same := intended.keys() & native.keys() - different), f"no longer different: {sorted(same)}"


def test_there_are_many_probes_of_each_its_own_name() -> None:
    assert len(PROBES) == len({probe.name for probe in PROBES}) > 2000


@pytest.mark.parametrize("mmu", MMUS)
def test_results_are_those_of_a_native_process(mmu: str, program: Path, tmp_path: Path) -> None:
    arguments = ["", PARTS[mmu]]
    native = results(program, tmp_path / "native", arguments)
    guest = results(program, tmp_path / "guest", arguments, "--mmu", mmu)
    assert len(native) > (2000 if WHOLE else 600)
    check(native, guest, {**INTENDED, **(INTENDED_OF_ROOT if ROOT else {})})


@pytest.mark.skipif(not ROOT, reason="only user 0 can become another user")
@pytest.mark.parametrize("mmu", some(MMUS, ("ept",)))
def test_results_of_another_user_are_as_well(mmu: str, program: Path, tmp_path: Path) -> None:
    arguments = ["", some("-", "0"), "nobody"]
    native = results(program, tmp_path / "native", arguments)
    check(native, results(program, tmp_path / "guest", arguments, "--mmu", mmu), INTENDED)


@pytest.mark.skipif(not ROOT, reason="only user 0 can become another user")
@pytest.mark.parametrize("name", some(ALONE, ALONE[:3]))
def test_what_a_process_cannot_undo(name: str, program: Path, tmp_path: Path) -> None:
    native = results(program, tmp_path / "native", [name, "-"])
    assert name in native
    check(native, results(program, tmp_path / "guest", [name, "-"], "--mmu", "ept"), INTENDED)


def test_a_difference_is_named_and_a_known_one_must_be_there() -> None:
    with pytest.raises(AssertionError, match=r"a: natively 0 -, here -1 EPERM"):
        check({"a": "0 -", "b": "1 -"}, {"a": "-1 EPERM", "b": "1 -"}, {})
    with pytest.raises(AssertionError, match=r"no longer different: \['b'\]"):
        check({"b": "1 -"}, {"b": "1 -"}, {"b": "a reason"})
    check({"a": "0 -"}, {"a": "-1 EPERM"}, {"a": "a reason", "not tried": "a reason"})
