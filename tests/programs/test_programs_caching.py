"""Programs compute the same however translations are cached, and the kernel that Quire plays forgets no flush."""

from pathlib import Path

import pytest
from native import compare, execute, need, python, quire, quire_report, same
from test_programs_c_probes import Build, build  # noqa: F401 - a fixture

pytestmark = pytest.mark.programs

#: Each program with a mode and an Mmu of its own: a run costs seconds.
TOOLS = [
    (["sort", "-n", "data"], "retain", "ept"),
    (["ls", "-l"], "evict", "shadow"),
    (["grep", "-c", "7", "data"], "evict", "ept"),
]
CHECKED = [
    ("mapping", "shadow", "modelled"),
    ("protection", "native", "retain"),
    ("selfmodify", "ept", "evict"),
]


@pytest.mark.parametrize(("argv", "caching", "mmu"), TOOLS, ids=[f"{a[0]}-{c}-{m}" for a, c, m in TOOLS])
def test_tools(argv: list[str], caching: str, mmu: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("".join(f"{n * 7919 % 1000}\n" for n in range(2000)))
    record = compare([need(argv[0]), *argv[1:]], "--caching", caching, "--mmu", mmu, cwd=tmp_path)
    assert record["config"]["caching"] == caching
    assert record["flushes"] is None


def test_python_in_retain_mode() -> None:
    compare([python(), "-I", "-S", "-c", "print(sum(range(1000)))"], "--caching", "retain", "--mmu", "native")


@pytest.mark.parametrize(("probe", "mmu", "caching"), CHECKED, ids=["-".join(one) for one in CHECKED])
def test_the_played_kernel_forgets_no_flush(
    probe: str,
    mmu: str,
    caching: str,
    build: Build,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Mappings that go, rights that go, code that is written: each flushed in time."""
    path = build(probe, "static")
    options = "--check-flushes", "--error-exitcode", "9", "--mmu", mmu, "--caching", caching
    outcome, record = quire_report([path], *options, cwd=tmp_path)
    same(outcome, execute([path], cwd=tmp_path))
    assert record["flushes"]["findings"] == []


def test_counts_do_not_depend_on_who_answers_fills(build: Build) -> None:  # noqa: F811
    path, options = build("startup", "static"), ("--detail", "full", "--mmu", "ept", "--seed", "3")
    modelled, retained = (
        quire_report([path], *options, *more)[1] for more in ((), ("--caching", "retain", "--check-flushes"))
    )
    for part in ("instructions", "accesses", "walks", "tlb"):
        assert retained[part] == modelled[part]


def test_an_exit_code_without_a_check_is_refused() -> None:
    outcome = quire([need("true")], "--error-exitcode", "3")
    said = b"--error-exitcode says nothing without --check-flushes: give both, or neither"
    assert (outcome.status, outcome.stderr) == (125, b"quire run: " + said + b" (see quire run --help)\n")
