"""What the report says of a run: the same every time, and numbers that agree with each other and with the program."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import native
import pytest
from limits import PATIENCE
from native import MMUS, execute, need, python, quire, quire_report, quire_text
from sampling import WHOLE

pytestmark = pytest.mark.programs

GUEST_PAGES, HOST_PAGES = ("4K", "2M"), ("4K", "2M", "1G")
#: Levels of a table that a translation reads, by the size of the page that it ends in.
LEVELS = {"4K": 4, "2M": 3, "1G": 2}

#: 1,000 times round: 3 loads (one in the ADD, one in the POP) and 3 stores (one in the ADD, one in the PUSH).
COUNTED = """
.globl _start
_start:
    mov $1000, %ecx
    lea buffer(%rip), %rsi
1:  mov (%rsi), %rax
    add %rax, 8(%rsi)
    mov %rax, 16(%rsi)
    push %rax
    pop %rbx
    dec %ecx
    jnz 1b
    mov $60, %eax
    xor %edi, %edi
    syscall
.bss
.balign 4096
buffer: .skip 4096
"""
INSTRUCTIONS, READS, WRITES = 2 + 7 * 1000 + 3, 3000, 3000

#: 32 MiB, written by the page, the region twice: as many translations as pages, large pages when there are any.
SPREAD = """
.globl _start
_start:
    mov $9, %eax            # mmap(NULL, 32 MiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    xor %edi, %edi
    mov $0x2000000, %esi
    mov $3, %edx
    mov $0x22, %r10d
    mov $-1, %r8
    xor %r9d, %r9d
    syscall
    mov $2, %ebx
2:  mov %rax, %rsi
    mov $8192, %ecx
1:  movq $1, (%rsi)
    add $4096, %rsi
    dec %ecx
    jnz 1b
    dec %ebx
    jnz 2b
    mov $60, %eax
    xor %edi, %edi
    syscall
"""


def _assemble(folder: Path, name: str, text: str) -> str:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    (folder / f"{name}.S").write_text(text)
    command = [gcc, "-nostdlib", "-static", "-o", folder / name, folder / f"{name}.S"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    return str(folder / name)


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _assemble(tmp_path_factory.mktemp("counted"), "counted", COUNTED)


@pytest.fixture(scope="session")
def spread(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _assemble(tmp_path_factory.mktemp("spread"), "spread", SPREAD)


def _same_but_for_time(argv: list[str], *options: str, cwd: Path) -> None:
    """Assert that two runs give the same output and the same bytes of report outside "time"."""
    texts, outcomes = [], []
    for _ in range(2):
        outcome, text = quire_text(argv, *options, cwd=cwd)
        head, tail = text.split('"time": {', 1)
        texts.append(head + tail.split("}", 1)[1])
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1] and outcomes[0].status == 0
    assert texts[0] == texts[1]


@pytest.mark.parametrize("detail", ["exits", "full"])
def test_same_seed_same_bytes(detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In interpreters of their own, whose hash seeds and addresses differ."""
    monkeypatch.setattr(native, "loaded_quire", lambda: (native.QUIRE,))
    (tmp_path / "file").write_text("content")
    if WHOLE or detail == "full":
        _same_but_for_time([need("ls"), "-l"], "--detail", detail, cwd=tmp_path)
    if (
        WHOLE or detail == "exits"
    ):  # random numbers reach a program the same way under full detail, but slowly
        hashed = [
            python(),
            "-I",
            "-S",
            "-c",
            "import random; print(hash('x'), id(object()), random.random())",
        ]
        _same_but_for_time(hashed, "--detail", detail, "--seed", "5", cwd=tmp_path)


def test_seed_changes_randomness_and_layout() -> None:
    argv = [python(), "-I", "-S", "-c", "print(hash('x')); print(id([]))"]
    first, other = (quire(argv, "--report", "none", "--seed", seed) for seed in ("1", "2"))
    assert first.status == other.status == 0
    words = list(zip(first.stdout.split(), other.stdout.split(), strict=True))
    assert len(words) == 2 and all(a != b for a, b in words)


def test_schema_and_sections() -> None:
    _, record = quire_report([need("true")], "--seed", "9", "--memory", "64M")
    assert record["schema"] == 1
    assert list(record) == [
        "schema", "quire", "python", "program", "config", "outcome", "region", "instructions", "accesses", "tlb",
        "walk_caches", "size_conflicts", "walks", "page_faults", "exits", "syscalls", "unimplemented", "tasks", "vcpus",
        "memory", "numa", "flushes", "working_set", "time",
    ]  # fmt: skip
    config = record["config"]
    assert (config["mmu"], config["memory"], config["seed"], config["detail"]) == (
        "ept",
        64 << 20,
        9,
        "exits",
    )
    assert record["instructions"] > 10_000 and record["accesses"] is record["tlb"] is None
    assert record["time"]["wall_seconds"] >= record["time"]["guest_seconds"] > 0


def _accounts(record: dict[str, Any]) -> None:
    """Assert the identities that hold between the counts of any run in full detail."""
    accesses, tlb, walks = record["accesses"], record["tlb"], record["walks"]
    assert accesses["fetch"] == record["instructions"] > 0
    l1d, l1i = sum(tlb["l1d"].values()), sum(tlb["l1i"].values())
    data = accesses["read"] + accesses["write"]
    # An access that crosses a page is looked up twice: seldom, and never less than once.
    assert data <= l1d <= data * 1.01
    assert accesses["fetch"] <= l1i <= accesses["fetch"] * 1.1
    assert sum(tlb["l2"].values()) == tlb["l1d"]["misses"] + tlb["l1i"]["misses"]
    assert walks["count"] - walks["faulted"] == tlb["l2"]["misses"] + walks["to_set_dirty"]
    memory = record["memory"]
    assert memory["guest"]["mapped"] >= memory["guest"]["resident"] > 0
    if record["config"]["mmu"] != "native":
        assert memory["host"]["mapped"] >= memory["host"]["resident"] > 0


@pytest.mark.parametrize("mmu", MMUS)
def test_accounts_of_a_real_program(mmu: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("".join(f"{n * 7919 % 1000}\n" for n in range(5000)))
    outcome, record = quire_report(
        [need("sort"), "-n", "data"], "--mmu", mmu, "--detail", "full", "--no-walk-caches", cwd=tmp_path
    )
    assert outcome == execute([need("sort"), "-n", "data"], cwd=tmp_path)
    _accounts(record)
    assert record["page_faults"] > 50
    assert ("EPT_VIOLATION" in record["exits"]) == (mmu == "ept")
    references = record["walks"]["references"]
    assert references["guest"] == 4 * record["walks"]["count"]
    assert references["host"] == (20 * record["walks"]["count"] if mmu == "ept" else 0)


@pytest.mark.parametrize("mmu", MMUS)
def test_counts_are_exact(mmu: str, counted: str) -> None:
    """Every instruction, load and store of a program that was counted by hand, and nothing else."""
    outcome, record = quire_report([counted], "--mmu", mmu, "--detail", "full")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, b"", b"")
    assert record["instructions"] == INSTRUCTIONS
    # Under shadow the write of ADD meets a page without its dirty flag, a gap: ADD is done over, its read too.
    reads = READS + (mmu == "shadow")
    assert record["accesses"] == {"read": reads, "write": WRITES, "fetch": INSTRUCTIONS}
    assert record["syscalls"] == {"exit": 1}
    # One page of code, one of data, the stack's (which execve touched): the data page is read before it is written.
    assert record["tlb"] == {
        "l1d": {"hits": reads + WRITES - 2, "misses": 2},
        "l1i": {"hits": INSTRUCTIONS - 1, "misses": 1},
        "l2": {"hits": 0, "misses": 3},
    }
    assert (record["walks"]["count"], record["walks"]["to_set_dirty"]) == (4, 1)
    assert record["page_faults"] == 2
    _accounts(record)


@pytest.mark.parametrize("host_page", HOST_PAGES)
def test_references_of_a_walk(host_page: str, counted: str) -> None:
    """Five translations through EPT and four guest entries: 24 references with 4 KiB, 19 with 2 MiB, 14 with 1 GiB."""
    options = ["--host-page", host_page, "--detail", "full"]
    _, record = quire_report([counted], "--no-walk-caches", *options)
    assert record["walk_caches"] == {}
    per_walk = record["walks"]["references_per_walk"]
    assert per_walk == {"guest": 4.0, "host": 5.0 * LEVELS[host_page]}
    assert sum(per_walk.values()) == {"4K": 24, "2M": 19, "1G": 14}[host_page]
    _, cached = quire_report([counted], *options)
    # Code, data and stack are far apart: three walks from a PML4E or the root, one of all that the first had cached.
    assert cached["walks"]["count"] == record["walks"]["count"]
    assert cached["walks"]["references"]["guest"] < record["walks"]["references"]["guest"]
    assert cached["walks"]["references"]["host"] < record["walks"]["references"]["host"] // 2
    assert sum(cached["walk_caches"].values()) > 4


@pytest.mark.parametrize("guest_page", GUEST_PAGES)
@pytest.mark.parametrize("host_page", HOST_PAGES)
def test_page_sizes_of_both_dimensions(guest_page: str, host_page: str, spread: str) -> None:
    """32 MiB in every mix of page sizes: fewer faults, walks and references with larger pages."""
    options = ["--guest-page", guest_page, "--host-page", host_page, "--detail", "full", "--no-walk-caches"]
    outcome, record = quire_report([spread], *options)
    assert (outcome.status, outcome.stderr) == (0, b"")
    _accounts(record)
    assert record["instructions"] == 12 + 2 * (4 + 4 * 8192)
    pages, walks = (8192 if guest_page == "4K" else 16), record["walks"]
    assert pages <= record["page_faults"] <= pages + 4
    assert 4 * walks["count"] >= walks["references"]["guest"] >= LEVELS[guest_page] * walks["count"]
    levels = LEVELS[host_page]
    # Each guest entry is itself translated, and so is the address that the walk ends in.
    assert walks["references"]["host"] == levels * (walks["references"]["guest"] + walks["count"])
    size = 4096 if "4K" in (guest_page, host_page) else 2 << 20
    entries = (32 << 20) // size
    # More pages than the L2 TLB holds are walked for each time round, fewer once.
    assert walks["count"] >= (2 * entries if entries > 2048 else entries)
    if entries <= 2048:
        assert walks["count"] <= 3 * entries + 16


@pytest.mark.parametrize("guest_page", GUEST_PAGES)
@pytest.mark.parametrize("host_page", HOST_PAGES)
def test_page_sizes_change_nothing_for_the_guest(guest_page: str, host_page: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("".join(f"{n * 7919 % 100_003}\n" for n in range(60_000)))
    argv = [need("sort"), "-n", "data"]
    options = ["--guest-page", guest_page, "--host-page", host_page, "--report", "none"]
    assert quire(argv, *options, cwd=tmp_path) == execute(argv, cwd=tmp_path)


def test_sandbox_refuses_to_create_a_file(tmp_path: Path) -> None:
    outcome, record = quire_report([need("touch"), "made"], "--sandbox", cwd=tmp_path)
    assert outcome.status == 1 and b"Permission denied" in outcome.stderr
    assert not (tmp_path / "made").exists() and record["config"]["sandbox"] is True
    (tmp_path / "kept").write_text("kept")
    assert quire([need("rm"), "-f", "kept"], "--sandbox", "--report", "none", cwd=tmp_path).status == 1
    assert (tmp_path / "kept").read_text() == "kept"
    reads = quire([need("cat"), "kept"], "--sandbox", "--report", "none", cwd=tmp_path)
    assert (reads.status, reads.stdout, reads.stderr) == (0, b"kept", b"")


def test_unimplemented_calls_are_named(tmp_path: Path) -> None:
    """Of 300 calls that no kernel has, the guest gets ENOSYS: said at once, each name once, and counted."""
    script = (
        "import ctypes, os\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\n"
        "for n in (101, 101, *range(5000, 5300)):\n"
        "    assert call(n) == -1 and ctypes.get_errno() == 38\n"
        "os.write(2, b'later\\n')\n"
    )
    outcome, record = quire_report([python(), "-I", "-S", "-c", script], cwd=tmp_path)
    *said, later = outcome.stderr.decode().splitlines()
    assert (outcome.status, later) == (0, "later")
    found = record["unimplemented"]
    names = list(found)
    assert names[:2] == ["ptrace", "syscall_5000"] and names[-1] == "more system calls" and len(found) == 101
    assert found["ptrace"] == 2 and sum(found[name] for name in names) == 302
    assert said == [
        f"quire run: the guest asked for {name}, which Quire lacks; it was told ENOSYS" for name in names
    ]


def test_a_program_that_lacks_nothing_hears_nothing() -> None:
    assert quire([need("true")], "--report", "none").stderr == b""


def test_report_to_standard_output() -> None:
    outcome = quire([need("true")], "--report", "json", "-o", "-")
    assert json.loads(outcome.stdout)["outcome"]["status"] == 0 and outcome.stderr == b""


def test_the_report_keeps_what_its_file_has_from_others(tmp_path: Path) -> None:
    """As of ``quire run ... > file 2>&1``: output and report follow each other, and nothing is emptied."""
    place = tmp_path / "both"
    with place.open("w") as file:
        command = [native.QUIRE, "run", "--mmu", "native", "--", "echo", "from the guest"]
        subprocess.run(command, stdout=file, stderr=file, timeout=PATIENCE, check=True)
    said = place.read_text()
    assert said.startswith("from the guest\nquire run: echo under native")


def test_memory_is_that_of_all_processes_where_they_had_most() -> None:
    """The shell has little, each of the two children that are there together much, one before them less."""
    fill = "import os; x = b'x' * (%d << 20); os.%s"
    words = [need("sh"), "-c", 'python=$0; $python -Sc "$1"; $python -Sc "$2"; true', python()]
    words += [fill % (8, "_exit(0)"), fill % (16, "fork() and os.wait(); os._exit(0)")]
    outcome, record = quire_report(words)
    assert outcome.status == 0
    memory, peaks = record["memory"]["guest"], [one["peak"] for one in record["tasks"]["processes"]]
    assert 2 * (16 << 20) < memory["resident"] <= memory["mapped"]
    assert max(peaks) < memory["resident"] < sum(peaks)
    assert memory["table_pages"] > 2 * (16 << 20 >> 21)
