"""Tables of descriptors of processes against a simple model, natively and as a guest: who shares one, who has a copy.

A program in C does what it is told, in up to four processes; the model is checked by the host's own kernel.
"""

import errno
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from limits import PATIENCE
from sampling import some

SOURCE = Path(__file__).parents[1] / "programs" / "probes" / "descriptors.c"
PROCESSES, FILES = 4, 5
OPEN, CLOSE, DUP, DUP2, DUP3, COPY, SET, RANGE, FORK, SHARE, EXEC, EXIT, TABLE, PART = range(14)
CLOEXEC, UNSHARE, MARK = 0o2000000, 2, 4
FD = st.integers(0, 11) | st.sampled_from([-1, 40])
FLAG = st.integers(0, 1)
WHO = st.integers(0, PROCESSES - 1)

#: A descriptor: the file that it is open on, and whether it is closed by execve.
Table = dict[int, tuple[int, int]]


class Driver:
    """The program, run by `words` in `folder`."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.run = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)

    def ask(self, process: int, operation: int, *words: int) -> list[str]:
        """Return the words of the answer."""
        assert self.run.stdin is not None and self.run.stdout is not None
        line = " ".join(map(str, (process, operation, *words, *(0, 0, 0)[len(words) :])))
        self.run.stdin.write(line.encode() + b"\n")
        self.run.stdin.flush()
        assert select.select([self.run.stdout], [], [], PATIENCE)[0], f"no answer to {line}"
        return self.run.stdout.readline().decode().split()

    def close(self) -> None:
        """End it."""
        assert self.run.stdin is not None and self.run.stdout is not None
        self.run.stdin.close()
        try:
            assert self.run.wait(PATIENCE) == 0
        finally:
            self.run.kill()
            self.run.stdout.close()


def _free(table: Table, least: int = 0) -> int:
    return next(number for number in range(least, 1000) if number not in table)


class Model(RuleBasedStateMachine):
    """Processes by their numbers, each with a table; who shares one has the same."""

    driver: Driver

    @initialize()
    def begin(self) -> None:
        self.tables: dict[int, Table] = {0: {}}
        assert self.driver.ask(0, RANGE, 0, 150, 0) == ["0"]

    def teardown(self) -> None:
        for who in getattr(self, "tables", {}):
            if who:
                self.driver.ask(who, EXIT)

    def ask(self, wanted: int, who: int, operation: int, *words: int) -> None:
        assert int(self.driver.ask(who, operation, *words)[0]) == wanted

    def who(self, number: int) -> int:
        """Return one of the processes that are there."""
        return sorted(self.tables)[number % len(self.tables)]

    @rule(number=WHO, file=st.integers(1, FILES), flag=FLAG)
    def open(self, number: int, file: int, flag: int) -> None:
        who = self.who(number)
        made = _free(self.tables[who])
        self.ask(made, who, OPEN, file, flag)
        self.tables[who][made] = file, flag

    @rule(number=WHO, fd=FD)
    def close(self, number: int, fd: int) -> None:
        who = self.who(number)
        found = self.tables[who].pop(fd, None)
        self.ask(-errno.EBADF if found is None else 0, who, CLOSE, fd)

    @rule(number=WHO, fd=FD)
    def dup(self, number: int, fd: int) -> None:
        self.copy(number, fd, 0, 0, DUP)

    @rule(number=WHO, fd=FD, least=st.integers(0, 20), flag=FLAG)
    def duplicate(self, number: int, fd: int, least: int, flag: int) -> None:
        self.copy(number, fd, least, flag, COPY)

    def copy(self, number: int, fd: int, least: int, flag: int, operation: int) -> None:
        who = self.who(number)
        table = self.tables[who]
        made = _free(table, least) if fd in table else -errno.EBADF
        self.ask(made, who, operation, fd, least, flag)
        if made >= 0:
            table[made] = table[fd][0], flag

    @rule(number=WHO, fd=FD, to=FD)
    def dup2(self, number: int, fd: int, to: int) -> None:
        who = self.who(number)
        table = self.tables[who]
        fine = fd in table and to >= 0
        self.ask(to if fine else -errno.EBADF, who, DUP2, fd, to)
        if fine and fd != to:
            table[to] = table[fd][0], 0

    @rule(number=WHO, fd=FD, to=FD, flags=st.sampled_from([0, CLOEXEC, 1]))
    def dup3(self, number: int, fd: int, to: int, flags: int) -> None:
        who = self.who(number)
        table = self.tables[who]
        wrong = errno.EINVAL if fd == to or flags == 1 else errno.EBADF if fd not in table or to < 0 else 0
        self.ask(-wrong if wrong else to, who, DUP3, fd, to, flags)
        if not wrong:
            table[to] = table[fd][0], int(flags == CLOEXEC)

    @rule(number=WHO, fd=FD, flag=FLAG)
    def mark(self, number: int, fd: int, flag: int) -> None:
        who = self.who(number)
        table = self.tables[who]
        self.ask(0 if fd in table else -errno.EBADF, who, SET, fd, flag)
        if fd in table:
            table[fd] = table[fd][0], flag

    @rule(
        number=WHO,
        first=st.integers(0, 12),
        count=st.integers(-1, 12),
        flags=st.sampled_from([0, 2, 4, 6, 1]),
    )
    def close_range(self, number: int, first: int, count: int, flags: int) -> None:
        who = self.who(number)
        last = max(first + count, 0)
        wrong = first > last or flags == 1
        self.ask(-errno.EINVAL if wrong else 0, who, RANGE, first, last, flags)
        if wrong:
            return
        if flags & UNSHARE:
            self.tables[who] = dict(self.tables[who])
        table = self.tables[who]
        for fd in [one for one in table if first <= one <= last]:
            if flags & MARK:
                table[fd] = table[fd][0], 1
            else:
                del table[fd]

    @precondition(lambda self: len(self.tables) < PROCESSES)
    @rule(number=WHO, shares=st.booleans())
    def fork(self, number: int, shares: bool) -> None:
        who = self.who(number)
        made = _free(self.tables)  # type: ignore[arg-type]
        self.ask(0, who, SHARE if shares else FORK, made)
        self.tables[made] = self.tables[who] if shares else dict(self.tables[who])

    @rule(number=WHO)
    def execute(self, number: int) -> None:
        who = self.who(number)
        self.ask(0, who, EXEC)
        self.tables[who] = {fd: one for fd, one in self.tables[who].items() if not one[1]}

    @rule(number=WHO)
    def part(self, number: int) -> None:
        who = self.who(number)
        self.ask(0, who, PART)
        self.tables[who] = dict(self.tables[who])

    @precondition(lambda self: len(self.tables) > 1)
    @rule(number=WHO)
    def exit(self, number: int) -> None:
        who = self.who(number) or max(self.tables)
        self.ask(0, who, EXIT)
        del self.tables[who]

    @invariant()
    def each_has_what_it_should(self) -> None:
        for who, table in getattr(self, "tables", {}).items():
            wanted = [f"{fd}:{file}:{flag}" for fd, (file, flag) in sorted(table.items()) if fd < 48]
            assert self.driver.ask(who, TABLE)[1:] == wanted


def _compare(quire: list[str], tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    for file in range(1, FILES + 1):
        (tmp_path / str(file)).write_bytes(bytes(file))
    program = str(tmp_path / "descriptors")
    subprocess.run([gcc, "-O1", "-w", SOURCE, "-o", program], check=True, timeout=PATIENCE)
    driver = Driver([*quire, program], tmp_path)

    class Machine(Model):
        """Of this program."""

    Machine.driver = driver
    try:
        run_state_machine_as_test(
            Machine, settings=settings(max_examples=some(100, 10), stateful_step_count=25, deadline=None)
        )
    finally:
        driver.close()


def test_tables_of_a_guests_descriptors(tmp_path: Path) -> None:
    _compare([sys.executable, "-P", "-m", "quire", "run", "--report", "none", "--"], tmp_path)


def test_the_model_is_that_of_the_host(tmp_path: Path) -> None:
    _compare([], tmp_path)
