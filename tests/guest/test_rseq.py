"""Restartable sequences: what is written and read of the guest's memory, and when. Whole programs: tasks_rseq.c."""

import struct

from syscall_fakes import BASE, HOLE, FakeProcess

from quire.guest.kernel.rseq import Rseq

RSEQ, SIGNATURE = 334, 0x53053053
AREA, SECTION = BASE + 0x1000, BASE + 0x2000
#: A sequence of 32 bytes, and its abort handler.
START, ABORT = 0x40_0000, BASE + 0x3000


class _Watched:
    """User memory that counts."""

    def __init__(self, process: FakeProcess) -> None:
        self._memory = process.memory
        self.read_bytes = self.writes = 0
        self.read_u32 = process.memory.read_u32

    def read(self, gva: int, n: int) -> bytes:
        self.read_bytes += n
        return self._memory.read(gva, n)

    def read_u64(self, gva: int) -> int:
        self.read_bytes += 8
        return self._memory.read_u64(gva)

    def write(self, gva: int, data: bytes) -> None:
        self.writes += 1
        self._memory.write(gva, data)

    def write_u64(self, gva: int, value: int) -> None:
        self.write(gva, struct.pack("<Q", value))


def _inside(process: FakeProcess, version: int = 0, flags: int = 0, length: int = 32) -> None:
    process.memory.write(SECTION, struct.pack("<IIQQQ", version, flags, START, length, ABORT))
    process.memory.write_u32(ABORT - 4, SIGNATURE)
    process.memory.write_u64(AREA + 8, SECTION)


def test_a_thread_that_comes_back_reads_eight_bytes_and_writes_what_changed() -> None:
    process = FakeProcess()
    memory, own = _Watched(process), Rseq(AREA, 32, SIGNATURE, [])
    costs = []
    for vcpu in (2, 2, 3):
        own.release()
        before = memory.read_bytes, memory.writes
        assert own.due and own.come_back(memory, process.machine.registers, vcpu, 1)  # type: ignore[arg-type]
        costs.append((memory.read_bytes - before[0], memory.writes - before[1]))
        assert struct.unpack("<IIQIII", process.memory.read(AREA, 28)) == (vcpu, vcpu, 0, 0, 1, 0)
    assert costs == [(8, 2), (8, 0), (8, 2)] and not own.due


def test_only_inside_of_a_sequence_rip_moves() -> None:
    for offset in (-1, 0, 31, 32):
        process = FakeProcess()
        _inside(process)
        process.machine.values["rip"] = START + offset
        assert Rseq(AREA, 32, SIGNATURE, []).break_off(process.memory, process.machine.registers)  # type: ignore[arg-type]
        assert process.machine.values["rip"] == (ABORT if 0 <= offset < 32 else START + offset)
        assert process.memory.read_u64(AREA + 8) == 0


def test_what_is_described_wrong_is_refused_and_left() -> None:
    wrong = [{"version": 1}, {"flags": 1}, {"length": 1 << 63}, {"length": (1 << 64) - 1}]
    for words in wrong:
        process = FakeProcess()
        _inside(process, **words)
        process.machine.values["rip"] = START
        assert not Rseq(AREA, 32, SIGNATURE, []).break_off(process.memory, process.machine.registers)  # type: ignore[arg-type]
        assert process.machine.values["rip"] == START and process.memory.read_u64(AREA + 8) == SECTION


def test_numbers_of_threads_that_run_at_once_differ_and_are_the_lowest() -> None:
    process, holders = FakeProcess(), []
    threads = [Rseq(AREA + 32 * number, 32, 0, holders) for number in range(4)]

    def run(number: int) -> int:
        assert threads[number].come_back(process.memory, process.machine.registers, number, 0)  # type: ignore[arg-type]
        return threads[number].number

    assert [run(0), run(1), run(2)] == [0, 1, 2]
    threads[1].release()
    assert [run(3), run(0)] == [1, 0]
    threads[0].release()
    assert run(1) == 0 and len(holders) == 3


def test_what_was_left_in_the_memory_is_no_sequence() -> None:
    process = FakeProcess()
    process.memory.write_u64(AREA + 8, 0x1234)
    assert process.call(RSEQ, AREA, 32, 0, SIGNATURE) == 0
    assert process.memory.read_u64(AREA + 8) == 0 and process.rseq is not None


def test_a_larger_one_must_have_all_and_leaves_by_its_own_length() -> None:
    process = FakeProcess()
    assert process.call(RSEQ, AREA, 96, 0, 5) == 0
    assert process.call(RSEQ, AREA, 32, 1, 5) == -22
    assert process.call(RSEQ, AREA, 96, 1, 5) == 0 and process.rseq is None
    assert process.call(RSEQ, HOLE, 32, 0, 5) == -14 and process.rseq is None
