"""System V IPC, call by call: numbers that a guest controls are checked first, and what it holds is counted."""

import errno
import os
import struct

import pytest
from syscall_fakes import BASE, HOLE, FakeProcess

from quire.guest.kernel.credentials import Ids
from quire.guest.syscalls.state import thread_state

SHMGET, SHMAT, SHMCTL, SEMGET, SEMOP, SEMCTL, MSGGET, MSGSND, MSGRCV, MSGCTL = (
    29, 30, 31, 64, 65, 66, 68, 69, 70, 71,
)  # fmt: skip
SEMTIMEDOP = 220
NOWAIT, CREAT = 0o4000, 0o1000
MINUS = (1 << 64) - 1


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def operation(process: FakeProcess, *operations: tuple[int, int, int]) -> int:
    process.memory.write(BASE, b"".join(struct.pack("<Hhh", *one) for one in operations))
    return BASE


def test_sizes_of_segments(process: FakeProcess) -> None:
    assert process.call(SHMGET, 0, 0, 0o600) == -errno.EINVAL
    for size in ((1 << 63), (1 << 63) + 1, MINUS, MINUS - (1 << 24)):
        assert process.call(SHMGET, 0, size, 0o600) == process.call(SHMGET, 0, size, 0o10600) == -errno.EINVAL
    process.space.allowance.at_once = 1 << 30
    assert process.call(SHMGET, 0, (1 << 30) + 1, 0o600) == -errno.ENOMEM
    assert process.call(SHMGET, 0, (1 << 30) + 1, 0o10600) >= 0


def test_numbers_of_no_object(process: FakeProcess) -> None:
    for number in (0, 1, 1 << 15, 0x7FFF_FFFF, MINUS, 1 << 31):
        assert process.call(SHMAT, number, 0, 0) == -errno.EINVAL
        assert process.call(SHMCTL, number, 2, BASE) == -errno.EINVAL
        assert process.call(SEMOP, number, operation(process, (0, 1, 0)), 1) == -errno.EINVAL
        assert process.call(SEMCTL, number, 0, 12) == -errno.EINVAL
        assert process.call(MSGSND, number, process.words(BASE, 1), 0, 0) == -errno.EINVAL
        assert process.call(MSGRCV, number, BASE, 8, 0, NOWAIT) == -errno.EINVAL
        assert process.call(MSGCTL, number, 0, 0) == -errno.EINVAL


def test_an_identifier_is_not_used_again_at_once(process: FakeProcess) -> None:
    first = process.call(SEMGET, 0, 1, 0o600)
    assert process.call(SEMCTL, first, 0, 0) == 0
    seen = {first}
    for _ in range(200):
        made = process.call(SEMGET, 0, 1, 0o600)
        assert made not in seen
        seen.add(made)
        assert process.call(SEMCTL, made, 0, 0) == 0
    assert process.call(SEMCTL, first, 0, 12) == -errno.EINVAL


def test_objects_of_each_kind_have_a_limit(process: FakeProcess) -> None:
    made = [process.call(SHMGET, 0, 1, 0o600) for _ in range(4096)]
    assert len(set(made)) == 4096 and min(made) >= 0
    assert process.call(SHMGET, 0, 1, 0o600) == -errno.ENOSPC
    assert process.call(SHMCTL, made[77], 0, 0) == 0
    assert process.call(SHMGET, 0, 1, 0o600) >= 0


def test_what_is_held_is_counted_against_the_guests_memory(process: FakeProcess) -> None:
    made: list[int] = []
    while (one := process.call(SEMGET, 0, 32000, 0o600)) >= 0:
        made.append(one)
    assert one == -errno.ENOMEM
    assert 200 < len(made) * 32000 * 8 >> 18 <= 256  # of the 64 MiB that there are
    for one in made:
        assert process.call(SEMCTL, one, 0, 0) == 0
    assert process.machine.left == 64 << 20


def test_messages_are_counted_until_they_are_taken(process: FakeProcess) -> None:
    queue = process.call(MSGGET, 0, 0o600)
    process.words(BASE, 5)
    for _ in range(2):
        assert process.call(MSGSND, queue, BASE, 8192, 0) == 0
    assert process.machine.left < 64 << 20
    assert process.call(MSGSND, queue, BASE, 1, NOWAIT) == -errno.EAGAIN
    for _ in range(2):
        assert process.call(MSGRCV, queue, BASE, 8192, -5 & MINUS, NOWAIT) == 8192
    assert process.machine.left == 64 << 20


def test_rights_go_by_mode(process: FakeProcess) -> None:
    queue = process.call(MSGGET, 77, CREAT | 0o640)
    state = thread_state(process)  # type: ignore[arg-type]
    others = Ids(4000, 4000, 4000, 4000)
    own = state.credentials
    process.words(BASE, 5)
    stranger = type(own)(others, others, (), root=False)
    group = type(own)(others, own.groups, (), root=False)
    for who, send, look, remove in (
        (stranger, -errno.EACCES, -errno.EACCES, -errno.EPERM),
        (group, -errno.EACCES, 0, -errno.EPERM),
        (own, 0, 0, 0),
    ):
        state.credentials = who
        assert process.call(MSGSND, queue, BASE, 8, 0) == send
        assert process.call(MSGCTL, queue, 2, BASE + 4096) == look
        if who is stranger:
            assert process.call(MSGGET, 77, 0o400) == -errno.EACCES
            assert process.call(MSGGET, 77, 0) == queue
        assert process.call(MSGCTL, queue, 0, 0) == remove


def test_hostile_operations(process: FakeProcess) -> None:
    one = process.call(SEMGET, 0, 2, 0o600)
    assert process.call(SEMOP, one, BASE, 0) == -errno.EINVAL
    assert process.call(SEMOP, one, BASE, 501) == -errno.E2BIG
    assert process.call(SEMOP, one, BASE, (1 << 32) - 1) == -errno.E2BIG
    assert process.call(SEMOP, one, HOLE, 1) == -errno.EFAULT
    assert process.call(SEMOP, one, operation(process, (2, 1, 0)), 1) == -errno.EFBIG
    assert process.call(SEMOP, one, operation(process, (65535, 1, 0)), 1) == -errno.EFBIG
    whole = operation(process, *[(0, 1, 0)] * 500)
    assert process.call(SEMOP, one, whole, 500) == 0
    assert process.call(SEMCTL, one, 0, 12) == 500
    assert process.call(SEMOP, one, operation(process, (0, 32767, 0)), 1) == -errno.ERANGE
    for _ in range(2):  # no adjustment may become larger than a value can be
        assert process.call(SEMOP, one, operation(process, (1, 16383, 0x1000)), 1) == 0
    assert process.call(SEMOP, one, operation(process, (1, -32766, 0), (1, 3, 0x1000)), 2) == -errno.ERANGE


def test_a_wait_ends_by_time(process: FakeProcess) -> None:
    one = process.call(SEMGET, 0, 1, 0o600)
    process.words(BASE + 64, 0, 2_000_000)
    assert process.call(SEMTIMEDOP, one, operation(process, (0, -1, 0)), 1, BASE + 64) == -errno.EAGAIN
    process.words(BASE + 64, -1, 0)
    assert process.call(SEMTIMEDOP, one, operation(process, (0, -1, 0)), 1, BASE + 64) == -errno.EINVAL


def test_the_lists_of_all_objects_are_the_guests(process: FakeProcess) -> None:
    own = thread_state(process).credentials  # type: ignore[arg-type]
    user, group = own.users.effective, own.groups.effective
    found = [process.call(SHMGET, -7, 5000, CREAT | 0o640), process.call(SEMGET, 8, 3, CREAT | 0o600)]
    found.append(process.call(MSGGET, 9, CREAT | 0o622))
    process.words(BASE, 5)
    assert found == [0, 0, 0] and process.call(MSGSND, 0, BASE, 40, 0) == 0
    ids = [user, group, user, group]
    for name, wanted in (
        ("shm", [-7, 0, 640, 5000, process.process.pid, 0, 0, *ids]),
        ("sem", [8, 0, 600, 3, *ids]),
        ("msg", [9, 0, 622, 40, 1, process.process.pid, 0, *ids]),
    ):
        descriptor = process.call(2, process.path(f"/proc/sysvipc/{name}"), os.O_RDONLY)
        assert descriptor >= 0
        text = process.memory.read(BASE, process.call(0, descriptor, BASE, 65536)).decode()
        titles, line = text.splitlines()
        with open(f"/proc/sysvipc/{name}", encoding="ascii") as file:
            assert titles == file.readline().rstrip("\n")
        assert [int(word) for word in line.split()][: len(wanted)] == wanted
        assert len(line.split()) == len(titles.split())
        os.close(descriptor)


def test_structures_have_the_kernels_layout(process: FakeProcess) -> None:
    assert process.call(SHMGET, 0x1234, 4097, CREAT | 0o604) == 0
    assert process.call(SHMCTL, 0, 2, BASE) == 0
    words = struct.unpack("<iIIIIIHHIQQ4QIIQQQ", process.memory.read(BASE, 112))
    assert (words[0], words[5], words[11], words[15]) == (0x1234, 0o604, 4097, process.process.pid)
    assert process.call(SHMCTL, 0, 3, BASE) == 0
    assert struct.unpack("<9Q", process.memory.read(BASE, 72))[1:4] == (1, 4096, 4096)
    assert process.call(SHMCTL, 0, 14, BASE) == 0
    assert struct.unpack("<2Q", process.memory.read(BASE, 16)) == (1, 2)
    assert process.call(SHMCTL, 0, 13, BASE) == 0 and process.call(SHMCTL, 1, 13, BASE) == -errno.EINVAL
    assert process.call(SHMCTL, 0, 2, HOLE) == -errno.EFAULT


def test_a_message_is_copied_by_its_number_and_stays(process: FakeProcess) -> None:
    """MSG_COPY, as a kernel of Linux answered the same calls."""
    queue = process.call(MSGGET, 0, 0o600)
    for kind, text in ((5, b"one\0"), (9, b"three\0")):
        process.memory.write(BASE, struct.pack("<q", kind) + text)
        assert process.call(MSGSND, queue, BASE, len(text), 0) == 0
    cut, excepted, copy = 0o10000, 0o20000, 0o40000

    def ask(number: int, size: int = 16, flags: int = NOWAIT) -> int:
        return process.call(MSGRCV, queue, BASE, size, number & MINUS, flags | copy)

    assert ask(0) == 4 and process.memory.read(BASE, 12) == struct.pack("<q", 5) + b"one\0"
    assert ask(1) == 6 and process.memory.read(BASE, 8) == struct.pack("<q", 9)
    assert ask(2) == ask(-1) == -errno.ENOMSG
    assert ask(0, flags=0) == ask(0, flags=NOWAIT | excepted) == -errno.EINVAL
    assert ask(0, 2) == -errno.E2BIG and ask(0, 2, NOWAIT | cut) == -errno.EINVAL
    assert ask(0) == 4 and process.call(MSGRCV, queue, BASE, 16, 0, NOWAIT) == 4 and ask(0) == 6
