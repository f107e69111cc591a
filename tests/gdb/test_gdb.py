"""A real gdb at a guest that boots: registers, memory by linear and by physical address, breakpoints, steps, vCPUs."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from limits import PATIENCE
from small_bzimage import small_bzimage

pytestmark = pytest.mark.timeout(2 * PATIENCE)

#: A kernel of its own: an image that looks like a bzImage and counts in RAX, entered 0x200 bytes into its second part.
CODE = bytes.fromhex("48c7c005000000 48ffc0 48ffc0 ebf8")  # mov rax, 5; 1: inc rax; inc rax; jmp 1b
MEMORY = 64 << 20


@pytest.fixture
def debug(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs gdb's commands at a guest, and gives what gdb said."""
    gdb = shutil.which("gdb")
    if gdb is None:
        pytest.skip("this machine has no gdb")
    kernel = tmp_path / "kernel"

    def debugged(*commands: str, code: bytes = CODE, options: tuple[str, ...] = ()) -> str:
        kernel.write_bytes(small_bzimage(code))
        command = [sys.executable, "-P", "-m", "quire", "boot", "--kernel", kernel, "--memory", "64M"]
        command += ["--gdb", "0", "--report", "none", *options]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as quire:
            try:
                assert quire.stderr is not None
                line = next(one for one in quire.stderr if "waiting for gdb" in one)
                port = line.rsplit(":", 1)[1].strip()
                first = ("set confirm off", "set architecture i386:x86-64", f"target remote localhost:{port}")
                words = [word for one in (*first, *commands, "kill") for word in ("-ex", one)]
                done = subprocess.run(
                    [gdb, "-batch", "-nx", *words], capture_output=True, text=True, timeout=PATIENCE, check=False
                )
                quire.wait(PATIENCE)
            finally:
                quire.kill()
        return done.stdout + done.stderr

    return debugged


@pytest.mark.parametrize("mmu", ["native", "ept"])
def test_registers_memory_and_steps(debug: Callable[..., str], mmu: str) -> None:
    said = debug(
        "p/x $rip", "x/3i $rip", "stepi", "p $rax", "stepi", "p $rax", "p/x $cr0", "p $cs",
        "set $rbx = 0x1234", "p/x $rbx", "x/gx 0x2000",
        "set var *(long*)0x9000 = 0x1122334455667788", "x/gx 0x9000",
        "maint packet Qqemu.PhyMemMode:1", "x/gx 0x9000",
        "set $xmm1.uint128 = 7", "p $xmm1.uint128",
        options=("--mmu", mmu),
    )  # fmt: skip
    assert re.findall(r"^\$\d+ = (.*)$", said, re.MULTILINE) == [
        "0x1000200", "5", "6", "0x80010033", "16", "0x1234", "7",
    ]  # fmt: skip
    assert "mov    $0x5,%rax" in said
    assert said.count("0x1122334455667788") == 2
    assert "0x2000:\t0x0000000000003003" in said or "0x2000:\t0x0000000000003023" in said


def test_breakpoints_and_going_on(debug: Callable[..., str]) -> None:
    said = debug("break *0x1000207", "continue", "p $rax", "continue", "p $rax", "delete", "stepi", "p $rax")
    assert re.findall(r"^\$\d+ = (.*)$", said, re.MULTILINE) == ["5", "7", "8"]
    assert said.count("Breakpoint 1, 0x") == 2


def test_vcpus_are_threads(debug: Callable[..., str]) -> None:
    said = debug("info threads", "thread 2", "p/x $rip", "thread 1", "p/x $rip", options=("--vcpus", "2"))
    assert "vCPU 0" in said and "vCPU 1" in said
    assert re.findall(r"^\$\d+ = (.*)$", said, re.MULTILINE) == ["0xfff0", "0x1000200"]
