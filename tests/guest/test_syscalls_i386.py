"""System calls through INT 0x80: numbers against the kernel's own list, and which of them are there."""

import errno
import os
import re
from pathlib import Path

import pytest
from syscall_fakes import STRINGS, FakeProcess

from quire.guest.syscalls.i386 import dispatch_i386, i386_name

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_32.h")
NOTHING = (0,) * 6


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER} is not installed")
def test_numbers_and_names_are_the_kernels() -> None:
    kernel = {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    assert len(kernel) > 400
    assert {number: i386_name(number) for number in kernel} == {
        n: f"i386:{name}" for n, name in kernel.items()
    }


def test_a_call_that_means_the_same_in_both_tables_is_done() -> None:
    process = FakeProcess()
    assert dispatch_i386(process, 20, NOTHING) == process.tid
    assert dispatch_i386(process, 6, (0xFFFF_FFFF, 0, 0, 0, 0, 0)) == -errno.EBADF
    assert dispatch_i386(process, 199, NOTHING) == os.getuid()
    assert dispatch_i386(process, 183, (STRINGS, 1, 0, 0, 0, 0)) == -errno.ERANGE
    assert process.unimplemented == {}


@pytest.mark.parametrize(
    ("number", "name"),
    [(114, "i386:wait4"), (17, "i386:break"), (5000, "i386:unknown"), (1 << 31, "i386:unknown")],
)
def test_any_other_call_is_named_and_not_there(number: int, name: str) -> None:
    process = FakeProcess()
    assert dispatch_i386(process, number, NOTHING) == -errno.ENOSYS
    assert process.unimplemented == {name: 1}


def test_a_sandbox_refuses_what_it_refuses_of_the_64_bit_table() -> None:
    process = FakeProcess(sandbox=True)
    assert dispatch_i386(process, 39, (STRINGS, 0o777, 0, 0, 0, 0)) == -errno.EACCES
