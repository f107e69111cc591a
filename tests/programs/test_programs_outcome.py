"""How runs end: exit statuses, deaths with their explanation, and every refusal of Quire with its whole message."""

import json
import os
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from limits import PATIENCE
from native import (
    MMUS,
    QUIRE,
    environment,
    execute,
    loaded_quire,
    need,
    python,
    quire,
    quire_report,
    quire_text,
)
from sampling import some

pytestmark = pytest.mark.programs

SMALLEST = "is too small or no multiple of 4 KiB: give at least 4 MiB (see quire run --help)"


def elf(bits: int, machine: int, size: int = 4096) -> bytes:
    """Return the start of an ELF program for `machine`, then zeros up to `size`."""
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1, 0]) + bytes(8)
    return (ident + struct.pack("<HHI", 2, machine, 1)).ljust(size, b"\0")


FILES = {
    "data": (
        b"hel\0lo world",
        126,
        "not an ELF program or a script with an interpreter line (starts with 0x68656c00)",
    ),
    "elf-32": (elf(32, 3), 126, "ELF for i386; Quire runs x86-64"),
    "elf-x32": (elf(32, 62), 126, "32-bit ELF; Quire runs 64-bit little-endian x86-64"),
    "elf-arm": (elf(32, 40), 126, "ELF for ARM; Quire runs x86-64"),
    "elf-arm64": (elf(64, 183), 126, "ELF for AArch64; Quire runs x86-64"),
    "elf-short": (elf(64, 62, 30), 126, "ELF is truncated: the file has 0x1e bytes, the header 0x40"),
    "no-name": (b"#!\necho\n", 126, "its #! line names no interpreter"),
    "no-file": (
        b"#!/no/such/interpreter\n",
        127,
        "interpreter /no/such/interpreter: no such file or directory",
    ),
}

OPTIONS = {
    "memory-small": (["--memory", "1M"], "Guest memory of 1_048_576 bytes " + SMALLEST),
    "memory-none": (["--memory", "0"], "Guest memory of 0 bytes " + SMALLEST),
    "memory-word": (
        ["--memory", "abc"],
        "Invalid value for '--memory': 'abc' is not a size: give a number with K, M, G or T, for instance 512M "
        "(see quire run --help)",
    ),
    "shadow": (
        ["--audit-shadow"],
        "--shadow-pages, --shadow-prefetch and --audit-shadow say nothing under --mmu ept: "
        "give --mmu shadow, or leave them out (see quire run --help)",
    ),
    "mmu": (
        ["--mmu", "tlb"],
        "Invalid value for '--mmu': 'tlb' is not one of 'native', 'ept', 'shadow'. (see quire run --help)",
    ),
    "guest-page": (
        ["--guest-page", "1G"],
        "Invalid value for '--guest-page': '1G' is not one of '4K', '2M'. (see quire run --help)",
    ),
    "detail": (
        ["--detail", "some"],
        "Invalid value for '--detail': 'some' is not one of 'exits', 'full'. (see quire run --help)",
    ),
    "seed": (
        ["--seed", "-1"],
        "Invalid value for '--seed': -1 is not in the range 0<=x<=18446744073709551615. (see quire run --help)",
    ),
    "unknown": (["--xyzzy"], "No such option '--xyzzy'. (see quire run --help)"),
}  # fmt: skip


def _refused(argv: list[str], status: int, message: str, *options: str, cwd: Path | None = None) -> None:
    """Assert that quire refuses with exactly one line."""
    outcome = quire(argv, *options, cwd=cwd)
    assert outcome.stderr.decode() == message + "\n"
    assert (outcome.status, outcome.stdout) == (status, b"")


@pytest.mark.parametrize("name", FILES)
def test_file_that_cannot_run(name: str, tmp_path: Path) -> None:
    content, status, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / name).chmod(0o755)
    _refused([f"./{name}"], status, f"quire run: ./{name}: {message}", cwd=tmp_path)


def test_truncated_program(tmp_path: Path) -> None:
    """A real program that was cut inside its program headers, and one cut inside a segment."""
    content = Path(need("true")).read_bytes()
    end = struct.unpack_from("<Q", content, 32)[0] + 56 * struct.unpack_from("<H", content, 56)[0]
    (tmp_path / "short").write_bytes(content[:200])
    (tmp_path / "short").chmod(0o755)
    message = f"quire run: ./short: ELF is truncated: program headers end at {end:#x}, the file at 0xc8"
    _refused(["./short"], 126, message, cwd=tmp_path)
    (tmp_path / "short").write_bytes(content[:0x1800])
    outcome = quire(["./short"], cwd=tmp_path)
    text = r"quire run: \./short: ELF is truncated: segment at 0x\w+ ends at 0x\w+, the file at 0x1800\n"
    assert outcome.status == 126 and re.fullmatch(text, outcome.stderr.decode())


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    missing = "quire run: ./missing: no such file or directory"
    _refused(["./missing"], 127, missing, cwd=tmp_path)
    _refused(["no-such-command-at-all"], 127,
             "quire run: no-such-command-at-all: command not found: it is in no directory of PATH")  # fmt: skip
    _refused([""], 127, "quire run: the command is empty: name a program")
    _refused(["."], 127, "quire run: .: command not found: it is in no directory of PATH", cwd=tmp_path)
    _refused(["./"], 126, "quire run: ./: is a directory, not a program", cwd=tmp_path)
    _refused(["./plain"], 126,
             "quire run: ./plain: permission denied: it is not executable (chmod +x)", cwd=tmp_path)  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_option_that_cannot_be(name: str) -> None:
    options, message = OPTIONS[name]
    _refused(["true"], 125, f"quire run: {message}", *options)


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    """Said before the guest runs: its work is not lost to a mistyped name."""
    for name, why in (("no/such/file", "No such file or directory"), (".", "Is a directory")):
        outcome = quire([need("touch"), "ran"], "-o", name, cwd=tmp_path)
        said = f"cannot write the report to {name!r}: {why}; choose another -o FILE\n"
        assert re.fullmatch(r"quire:? run: " + re.escape(said), outcome.stderr.decode())
        assert outcome.status == 125 and not (tmp_path / "ran").exists()


def test_no_program() -> None:
    done = execute([QUIRE, "run"])
    assert done.status == 125
    assert done.stderr == b"quire run: Missing argument 'PROGRAM'. (see quire run --help)\n"


@pytest.mark.parametrize("status", [0, 77, 255])
def test_exit_status_is_the_guests(status: int) -> None:
    outcome, record = quire_report([need("sh"), "-c", f"exit {status}"])
    assert (outcome.status, outcome.stderr) == (status, b"")
    assert record["outcome"] == {"status": status, "signal": None, "partial": False, "reason": None}


def test_closed_stdout() -> None:
    """A guest without stdout gets EBADF, as natively; Quire itself neither fails nor prints a traceback."""
    echo = need("echo")
    runs = []
    for argv in ([], [QUIRE, "run", "--report", "none", "--"]):
        command = shlex.join([*argv, echo, "hi"]) + " >&-"
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, env=environment(), timeout=PATIENCE, check=False
        )
        runs.append((done.returncode, done.stderr))
    assert runs[0] == runs[1] and runs[0][0] == 1 and b"write error" in runs[0][1]


def test_reader_that_leaves() -> None:
    """The guest writes to a pipe that nobody reads any more: SIGPIPE, status 141, no traceback."""
    process = subprocess.Popen(
        [QUIRE, "run", "--report", "none", "--", need("seq"), "1", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    text = process.stderr.read()
    assert process.wait(timeout=PATIENCE) == 141
    assert text == b"", "a program that its reader left says nothing, as in a shell"


def test_quire_keeps_its_descriptors_to_itself(tmp_path: Path) -> None:
    """The guest finds its own descriptors and no other, with stdin closed as well: 3 is not Quire's memory."""
    script = (
        "import os\n"
        "for n in range(1024):\n"
        "    try: os.fstat(n)\n"
        "    except OSError: continue\n"
        "    os.write(2, b'%d ' % n)\n"
    )
    command = [python(), "-I", "-S", "-c", script]
    runs = []
    for redirect in some(("", "<&-", ">&-"), ("", "<&-")):
        for argv in (command, [QUIRE, "run", "--report", "none", "--", *command]):
            shell = ["/bin/sh", "-c", f"{shlex.join(argv)} {redirect}"]
            runs.append(execute(shell, cwd=tmp_path))
    assert b"0 1 2 " in runs[0].stderr
    assert runs[1::2] == runs[::2]


def _interrupt(argv: list[str], folder: Path, ready: bytes) -> tuple[int, str, dict[str, object]]:
    """Run `argv`, send SIGINT when it has written `ready`; return status, stderr and report."""
    report = folder / "report.json"
    process = subprocess.Popen(
        [QUIRE, "run", "--clock", "host", "--report", "json", "-o", report, "--", *argv],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None
    try:
        assert select.select([process.stdout], [], [], PATIENCE)[0], "the guest did not start"
        assert process.stdout.readline() == ready
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=PATIENCE)
        return status, process.stderr.read().decode(), json.loads(report.read_text())
    finally:
        process.kill()
        process.wait(PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


SPIN = "echo started; while :; do :; done"
SLEEP = (
    "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "print('started', flush=True); time.sleep(3600)"
)
READ = "echo started; read line"


@pytest.mark.parametrize("what", ["loop", "sleep", "read"])
def test_control_c(what: str, tmp_path: Path) -> None:
    """Ctrl-C in a loop, in a sleep and in a read: 130, though each would go on, and a partial report that says so."""
    argv = {
        "loop": ["/bin/sh", "-c", SPIN],
        "sleep": [python(), "-S", "-c", SLEEP],
        "read": ["/bin/sh", "-c", READ],
    }
    status, text, record = _interrupt(argv[what], tmp_path, b"started\n")
    outcome = record["outcome"]
    assert isinstance(outcome, dict)
    assert status == 130
    assert text.startswith("quire run: guest killed by SIGINT: ") and len(text.splitlines()) == 1
    assert (outcome["status"], outcome["signal"], outcome["partial"]) == (130, "SIGINT", True)
    assert record["syscalls"]


def test_partial_is_in_the_table_too(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [QUIRE, "run", "--", "/bin/sh", "-c", SPIN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert re.search(rb"\n  partial +yes  the guest was stopped from outside", text)


CRASH = """
int main(int argc, char **argv) {
    if (argc > 1) ((void (*)(void))0x10000)();
    *(volatile int *)0x123456789abc = 1;
    return 0;
}
"""


@pytest.fixture(scope="session")
def crash(tmp_path_factory: pytest.TempPathFactory) -> str:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("crash")
    (folder / "crash.c").write_text(CRASH)
    subprocess.run(
        [gcc, "-O1", "-w", folder / "crash.c", "-o", folder / "crash"], check=True, timeout=PATIENCE
    )
    return str(folder / "crash")


@pytest.mark.parametrize("mmu", MMUS)
def test_death_by_sigsegv_is_explained(mmu: str, crash: str) -> None:
    """Signal, address, instruction, and each entry that the walk read, in both dimensions."""
    outcome, record = quire_report([crash], "--mmu", mmu)
    assert execute([crash]).status == outcome.status == 139
    lines = outcome.stderr.decode().splitlines()
    reason = "user write: page not present at 0x123456789abc: nothing is mapped there"
    assert lines[0] == f"quire run: guest killed by SIGSEGV: {reason}"
    assert re.fullmatch(r"  at rip 0x[0-9a-f]{16}  c7 00 01 00 00 00  mov dword ptr \[rax\], 1", lines[1])
    how = " (EPT is the memory map here)" if mmu == "shadow" else ""
    assert lines[2] == f"  write of gva 0x0000123456789abc, walked level by level{how}:"
    levels = [line.split("[")[0].split(None, 1)[1].strip() for line in lines[3:-1]]
    nested = ["EPT PML4E", "EPT PDPTE", "EPT PDE", "EPT PTE"] if mmu != "native" else []
    assert levels == [*nested, "PML4E"]
    assert re.search(r"\[ 36\]  at hpa 0x\w+120  0x0{16}  not present$", lines[-2])
    cause = "error code 0x6 (W U): user write: page not present; CR2 = 0x123456789abc"
    assert lines[-1].strip() == f"-> #PF at the PML4E, {cause}"
    assert record["outcome"]["reason"].endswith(reason) and record["outcome"]["signal"] == "SIGSEGV"


def test_death_by_a_wild_jump_is_explained(crash: str) -> None:
    outcome = quire([crash, "jump"], "--report", "none")
    lines = outcome.stderr.decode().splitlines()
    assert outcome.status == 139
    assert lines[1] == "  at rip 0x0000000000010000  (no code is mapped there)"
    assert lines[2] == "  fetch of gva 0x0000000000010000, walked level by level:"


def test_memory_exhausted_is_explained() -> None:
    """A guest that wants more than --memory dies of it, and the text names the option."""
    argv = [
        python(),
        "-S",
        "-c",
        "print('before', flush=True); x = bytearray(64 << 20); x[::4096] = x[::4096]",
    ]
    outcome, record = quire_report(argv, "--memory", "32M")
    assert (outcome.status, outcome.stdout) == (137, b"before\n")
    assert outcome.stderr == b"quire run: guest killed by SIGKILL: guest memory exhausted (--memory SIZE)\n"
    assert record["outcome"]["signal"] == "SIGKILL"


def _examples(*command: str) -> list[str]:
    text = execute([*loaded_quire(), *command, "--help"], env={"COLUMNS": "200"}).stdout.decode()
    block = text.split("Examples:\n", 1)[1].split("\n\n", 1)[0]
    return [line.strip() for line in block.splitlines()]


@pytest.mark.parametrize("command", [(), ("run",)], ids=["quire", "quire run"])
def test_examples_of_the_help_run(command: tuple[str, ...], tmp_path: Path) -> None:
    """Every line under "Examples" works as it stands."""
    examples = _examples(*command)
    assert len(examples) >= 2 and all(line.startswith(("quire run ", "quire compare ")) for line in examples)
    for number, line in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = shlex.split(line)
        if (file := words[-1]).startswith("/etc/") and not os.path.exists(file):
            pytest.skip(f"this machine has no {file}")
        outcome = execute([*loaded_quire(), *words[1:]], cwd=folder)
        assert outcome.status == 0, outcome.stderr.decode()
        if "-o" in words:
            report = json.loads((folder / words[words.index("-o") + 1]).read_text())
            assert report["outcome"]["status"] == 0 and outcome.stderr == b""
        elif words[1] == "run" and "none" not in words:
            assert outcome.stderr.startswith(b"quire run: ")


def test_no_report_leaves_stderr_to_the_guest() -> None:
    outcome, text = quire_text([need("cat"), "no such file"], "--report", "none")
    assert outcome.status == 1 and text == ""
    assert outcome == execute([need("cat"), "no such file"])


ILLEGAL = '#include <stdio.h>\nint main(void) { __asm__ volatile("vpaddd %ymm0,%ymm1,%ymm2"); return puts("after"); }'


def test_an_instruction_that_the_engine_lacks_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Of the first process with all of its death, of another in one line."""
    (tmp_path / "avx.c").write_text(ILLEGAL)
    subprocess.run([need("gcc"), "avx.c", "-o", "avx"], cwd=tmp_path, check=True, timeout=PATIENCE)
    advice = (
        "avx uses AVX, which this engine lacks and CPUID does not claim: take a build for x86-64-v2 "
        "(gcc -march=x86-64-v2, without -mavx)"
    )
    alone = quire(["./avx"], "--report", "none", cwd=tmp_path)
    lines = alone.stderr.decode().splitlines()
    assert alone.status == 128 + signal.SIGILL and len(lines) == 3
    assert re.fullmatch("quire run: guest killed by SIGILL: #UD at rip 0x[0-9a-f]+", lines[0])
    assert re.fullmatch(r"  at rip 0x[0-9a-f]{16}  c5 f5 fe d0  vpaddd ymm2, ymm1, ymm0", lines[1])
    assert lines[2] == f"  {advice}"
    beside = quire(["sh", "-c", "./avx; ./avx; echo $?"], "--report", "none", cwd=tmp_path)
    assert beside.stdout == b"132\n"
    assert beside.stderr.decode().count(f"quire run: {advice}\n") == 1
