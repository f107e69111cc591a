"""C programs, compiled here, that probe what programs rely on: each prints the same natively and as a guest.

Every probe runs dynamic under ept and static under native; static-pie and full detail where the start-up or the
accesses of a program differ.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from native import compare, execute, quire_report, same

pytestmark = pytest.mark.programs

SOURCES = Path(__file__).parent / "probes"
LINKS = {"dynamic": [], "static": ["-static"], "static-pie": ["-static-pie"]}
NAMES = [
    "mapping", "protection", "signals", "stacks", "accesses", "startup", "pointers", "state", "selfmodify", "waiting",
    "timers", "traps", "records",
]  # fmt: skip
ENV = {"PROBE_EMPTY": "", "PROBE_SPACES": " a  b ", "PROBE_BYTES": "\udcff\udc80"}
ARGS = {"startup": ["", "two words", "\udcfe", "x" * 5000]}

Build = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that compiles a probe once: build("mapping", "static")."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("probes")
    refused: dict[str, str] = {}

    def compiled(name: str, link: str) -> Path:
        if link not in refused:
            refused[link] = _refusal(gcc, LINKS[link], folder)
        if refused[link]:
            pytest.skip(f"gcc cannot link {link} programs here: {refused[link]}")
        path = folder / f"{name}-{link}"
        if not path.exists():
            command = [gcc, "-O1", "-w", *LINKS[link], SOURCES / f"{name}.c", "-o", path, "-lm"]
            subprocess.run(command, check=True, timeout=PATIENCE)
        return path

    return compiled


def _refusal(gcc: str, flags: list[str], folder: Path) -> str:
    """Return why gcc cannot link an empty program with `flags` (no static C library), or nothing."""
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    done = subprocess.run(
        [gcc, *flags, empty, "-o", folder / "empty"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def _probe(build: Build, name: str, link: str, folder: Path, *options: str) -> dict[str, Any]:
    argv = [build(name, link), *ARGS.get(name, [])]
    return compare(argv, *options, cwd=folder, env=ENV | _without_int1(argv, name))


def _without_int1(argv: list[Any], name: str) -> dict[str, str]:
    """Return what keeps the probe of traps from INT1 on a host below which a hypervisor has it wrong.

    It is a trap, reported behind itself (SDM 3A table 6-1); some hypervisors report it at itself, as a fault.
    """
    if name != "traps":
        return {}
    at_itself = b'"\\xf1": signal 5 code 1 trap 1 error 0 rip 0'
    return {"NO_INT1": "1"} if at_itself in execute(argv).stdout else {}


@pytest.mark.parametrize("name", NAMES)
def test_dynamic_under_ept(name: str, build: Build, tmp_path: Path) -> None:
    _probe(build, name, "dynamic", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_static_under_native(name: str, build: Build, tmp_path: Path) -> None:
    _probe(build, name, "static", tmp_path, "--mmu", "native")


@pytest.mark.parametrize("name", ["startup", "signals"])
def test_static_pie(name: str, build: Build, tmp_path: Path) -> None:
    _probe(build, name, "static-pie", tmp_path)


@pytest.mark.parametrize("name", ["protection", "accesses", "selfmodify", "state", "traps"])
def test_full_detail(name: str, build: Build, tmp_path: Path) -> None:
    """Counting every access changes nothing that the program sees."""
    record = _probe(build, name, "static", tmp_path, "--detail", "full")
    assert record["accesses"]["read"] > 1_000


@pytest.mark.parametrize("name", ["mapping", "protection", "selfmodify"])
def test_large_pages(name: str, build: Build, tmp_path: Path) -> None:
    """Large guest and host pages: protection and sharing still work at 4 KiB."""
    _probe(build, name, "dynamic", tmp_path, "--guest-page", "2M", "--host-page", "2M")


def test_traps_under_shadow(build: Build, tmp_path: Path) -> None:
    record = _probe(build, "traps", "static", tmp_path, "--mmu", "shadow")
    assert record["unimplemented"]["i386:break"] == 1


@pytest.mark.parametrize("how", ["overflow", "no-altstack"])
def test_stack_overflow_kills(how: str, build: Build, tmp_path: Path) -> None:
    argv = [build("stacks", "static"), how]
    expected = execute(argv, cwd=tmp_path)
    outcome, record = quire_report(argv, cwd=tmp_path)
    assert expected.status == outcome.status == 139
    assert outcome.stdout == expected.stdout
    assert record["outcome"]["signal"] == "SIGSEGV"
    assert outcome.stderr.startswith(b"quire run: guest killed by SIGSEGV: ")


def test_a_guest_sees_no_avx_and_no_vdso(build: Build, tmp_path: Path) -> None:
    argv = [build("startup", "static")]
    outcome, _ = quire_report(argv, cwd=tmp_path, env={"EXPECT_NO_AVX": "1"})
    same(outcome, execute(argv, cwd=tmp_path))
    assert b"claims as expected 1\n" in outcome.stdout


def test_a_probe_that_aborts_dies_of_it(build: Build, tmp_path: Path) -> None:
    """abort(): 134 on both sides, and the reason in the report."""
    argv = [build("signals", "static"), "abort"]
    assert execute(argv, cwd=tmp_path).status == 134
    outcome, record = quire_report(argv, cwd=tmp_path)
    assert outcome.status == 134
    assert (record["outcome"]["signal"], record["outcome"]["status"]) == ("SIGABRT", 134)
