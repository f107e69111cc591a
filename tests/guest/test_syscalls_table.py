"""The table of system calls against the kernel's own list, and how calls that are not there are counted."""

import errno
import re
from pathlib import Path

import pytest
from syscall_fakes import BASE, FakeProcess

from quire.errors import InternalError
from quire.guest.syscalls import NO_RESULT, SYSCALLS, syscall_name
from quire.guest.syscalls.table import absent

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


@pytest.mark.skipif(not HEADER.exists(), reason=f"{HEADER} is not installed")
def test_numbers_and_names_are_the_kernels() -> None:
    kernel = {int(n): name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    ours = {number: entry.name for number, entry in SYSCALLS.items()}
    assert {number: ours.get(number) for number in kernel} == kernel
    assert all(number > max(kernel) for number in ours.keys() - kernel.keys())


def test_entries_are_consistent() -> None:
    assert all(number == entry.number for number, entry in SYSCALLS.items())
    names = [entry.name for entry in SYSCALLS.values()]
    assert len(names) == len(set(names))
    assert all(len(entry.kinds) <= 6 for entry in SYSCALLS.values())


def test_a_number_is_declared_once() -> None:
    with pytest.raises(InternalError):
        absent(0, "read_again")


def test_unknown_and_absent_calls_are_counted() -> None:
    process = FakeProcess()
    assert process.call(99999) == -errno.ENOSYS
    assert process.call(101) == process.call(101) == -errno.ENOSYS
    assert process.call(56) == -errno.ENOSYS
    assert process.unimplemented == {
        "syscall_99999": 1,
        "ptrace": 2,
        "clone (threads and processes come in a later version)": 1,
    }
    assert syscall_name(0) == "read" and syscall_name(-1) == "syscall_-1"


def test_only_the_low_half_of_rax_counts() -> None:
    assert FakeProcess().call((1 << 32) | 39) > 0
    assert FakeProcess().call(0xFFFFFFFF) == -errno.ENOSYS


@pytest.mark.parametrize("number", [60, 231])
def test_exit(number: int) -> None:
    process = FakeProcess()
    assert process.call(number, 0x1FF03) is NO_RESULT
    assert process.exit_status == 3


@pytest.mark.parametrize("number", sorted(SYSCALLS))
@pytest.mark.parametrize("value", [0, (1 << 64) - 1, 1 << 47, 900])
def test_no_call_raises_for_hostile_registers(number: int, value: int) -> None:
    """Every argument the same wild number: a result or -errno comes back, never an exception."""
    harmless = {15, 34, 60, 231, 95, 33, 292, 37, 112, 109, 3, 436, 162, 32, 130, 7, 23, 270, 271, 128, 61}
    ids = {105, 106, 113, 114, 117, 119, 122, 123, 116, 141, 62}
    if number in harmless | ids:
        pytest.skip("changes or ends this process, or waits")
    process = FakeProcess()
    result = process.call(number, *[value] * 6)
    assert isinstance(result, int)


def test_buffers_are_bounded() -> None:
    """A length of 2^62 neither allocates nor writes beyond what is there."""
    process = FakeProcess()
    assert process.call(79, BASE, 1 << 62) > 0
    assert process.call(318, BASE, 1 << 62, 0) == 60 * 4096
