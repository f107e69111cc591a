"""The table of system calls against the kernel's own list, and how calls that are not there are counted."""

import errno
import os
import re
from pathlib import Path

import pytest
from own_process import results_apart
from syscall_fakes import BASE, HIGH, FakeProcess

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
    assert process.call(278) == -errno.ENOSYS
    assert process.unimplemented == {
        "syscall_99999": 1,
        "ptrace": 2,
        "vmsplice": 1,
    }
    assert process.heard == [
        "syscall_99999",
        "ptrace",
        "vmsplice",
    ]
    assert syscall_name(0) == "read" and syscall_name(-1) == "syscall_-1"


def test_only_the_low_half_of_rax_counts() -> None:
    assert FakeProcess().call((1 << 32) | 39) > 0
    assert FakeProcess().call(0xFFFFFFFF) == -errno.ENOSYS


@pytest.mark.parametrize("number", [60, 231])
def test_exit(number: int) -> None:
    process = FakeProcess()
    assert process.call(number, 0x1FF03) is NO_RESULT
    assert process.exit_status == 3


#: Calls that wait, that end the process, or that reach other processes and the whole machine.
LEFT_OUT = {7, 15, 23, 34, 61, 62, 128, 130, 162, 270, 271}
#: Calls after which a process is not what it was: each is made in a process of its own.
CHANGING = {3, 32, 33, 37, 95, 105, 106, 109, 112, 113, 114, 116, 117, 119, 122, 123, 141, 292, 436}
WILD = (0, (1 << 64) - 1, 1 << 47, HIGH)


@pytest.mark.parametrize("value", WILD)
def test_no_call_raises_for_hostile_registers(value: int, tmp_path: Path) -> None:
    """Every argument the same wild number: a result or -errno comes back, never an exception."""
    calls = [(number, (value,) * 6) for number in sorted(SYSCALLS) if number not in LEFT_OUT | CHANGING]
    wrong = {
        SYSCALLS[number].name: one
        for (number, _), one in results_apart(calls, tmp_path)
        if not is_result(number, one)
    }
    assert not wrong


@pytest.mark.parametrize("value", WILD)
@pytest.mark.parametrize("number", sorted(CHANGING))
def test_no_call_that_changes_the_process_raises(number: int, value: int, tmp_path: Path) -> None:
    ((_, result),) = results_apart([(number, (value,) * 6)], tmp_path)
    assert is_result(number, result)


def is_result(number: int, result: object) -> bool:
    """Whether a call came back: with a number, or, of those that end the guest, with none."""
    return isinstance(result, int) or (number in (60, 231) and result == f"no number: {NO_RESULT}")


def test_an_exception_and_an_end_would_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def wild(process: FakeProcess, number: int, *arguments: int) -> int:
        if number == 3:
            os._exit(7)
        return 5 if number else 1 // 0

    monkeypatch.setattr(FakeProcess, "call", wild)
    results = [result for _, result in results_apart([(1, ()), (0, ()), (3, ()), (1, ())], tmp_path)]
    assert results == [
        5,
        "no number: ZeroDivisionError: integer division or modulo by zero",
        "the process ended with 7",
    ]


def test_buffers_are_bounded() -> None:
    """A length of 2^62 neither allocates nor writes beyond what is there."""
    process = FakeProcess()
    assert process.call(79, BASE, 1 << 62) > 0
    assert process.call(318, BASE, 1 << 62, 0) == 60 * 4096
