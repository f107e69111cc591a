"""The serial port by its registers: bytes in order, interrupts as pending and enabled, what each register keeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.devices import SerialPort

DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH = range(8)
RECEIVED, EMPTY = 1, 2
GATE, LOOP = 8, 16
NOTHING, IS_EMPTY, IS_RECEIVED = 1, 2, 4


class Line:
    """A port, what it has sent, and its line as whoever is told of changes saw it last."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.port = SerialPort(self.sent.append)
        self.level = False
        self.port.changed = self.look
        self.port.write(MCR, GATE, 1)

    def look(self) -> None:
        self.level = self.port.interrupts()

    def read(self, offset: int) -> int:
        value = self.port.read(offset, 1)
        assert self.level == self.port.interrupts()
        return value

    def write(self, offset: int, value: int) -> None:
        self.port.write(offset, value, 1)
        assert self.level == self.port.interrupts()


def test_after_reset():
    port = SerialPort(lambda byte: None)
    assert [port.read(offset, 1) for offset in range(8)] == [0, 0, NOTHING, 0, 0, 0x60, 0xB0, 0]
    assert not port.interrupts() and not port.wants_input


def test_bytes_go_out_and_come_in_in_order():
    line = Line()
    for byte in b"out":
        line.write(DATA, byte)
    line.port.put(b"in")
    line.port.put(b"!")
    received = b""
    while line.read(LSR) & 1:
        received += bytes((line.read(DATA),))
    assert (bytes(line.sent), received) == (b"out", b"in!")
    assert line.read(DATA) == 0


def test_a_received_byte_interrupts_until_it_is_read():
    line = Line()
    line.port.put(b"ab")
    assert not line.level and line.read(IIR) == NOTHING
    line.write(IER, RECEIVED)
    assert line.level and line.read(IIR) == line.read(IIR) == IS_RECEIVED
    line.read(DATA)
    assert line.level
    line.read(DATA)
    assert not line.level and line.read(IIR) == NOTHING


def test_what_came_while_interrupts_were_masked_is_told_afterwards():
    """A kernel masks them around each line that it prints."""
    line = Line()
    line.write(IER, RECEIVED)
    line.write(IER, 0)
    line.port.put(b"x")
    assert not line.level
    line.write(IER, RECEIVED)
    assert line.level and line.read(IIR) == IS_RECEIVED


def test_the_transmitter_tells_once_that_it_is_empty():
    line = Line()
    line.write(IER, EMPTY)
    assert line.level and line.read(IIR) == IS_EMPTY
    assert not line.level and line.read(IIR) == NOTHING
    line.write(DATA, 1)
    assert line.level
    line.write(IER, 0)
    assert not line.level
    line.write(IER, EMPTY)
    assert line.level and line.read(IIR) == IS_EMPTY and not line.level


def test_enabling_it_once_more_tells_nothing_new():
    line = Line()
    line.write(IER, EMPTY)
    line.read(IIR)
    line.write(IER, EMPTY | RECEIVED)
    assert not line.level and line.read(IIR) == NOTHING


def test_data_are_told_before_the_transmitter():
    line = Line()
    line.write(IER, RECEIVED | EMPTY)
    line.port.put(b"x")
    assert line.read(IIR) == IS_RECEIVED
    line.read(DATA)
    assert line.read(IIR) == IS_EMPTY


def test_without_the_gate_there_is_no_interrupt():
    line = Line()
    line.write(MCR, 0)
    line.write(IER, EMPTY)
    assert not line.level and line.read(IIR) == IS_EMPTY


def test_the_divisor_is_behind_its_bit():
    line = Line()
    line.write(LCR, 0x83)
    assert (line.read(0), line.read(1)) == (12, 0)
    line.write(0, 0x34)
    line.write(1, 0x12)
    assert (line.read(0), line.read(1)) == (0x34, 0x12) and not line.sent
    line.write(LCR, 3)
    assert line.read(LCR) == 3 and line.read(IER) == 0 and line.read(DATA) == 0


def test_a_loop_receives_what_it_sends_and_shows_its_own_lines():
    line = Line()
    line.write(MCR, LOOP | GATE | 1)
    line.write(DATA, 0x5A)
    assert not line.sent and line.read(DATA) == 0x5A
    assert [_looped(line, bits) for bits in (1, 2, 4, 8, 15)] == [0x20, 0x10, 0x40, 0x80, 0xF0]
    line.write(MCR, GATE)
    assert line.read(MSR) == 0xB0


def _looped(line: Line, bits: int) -> int:
    line.write(MCR, LOOP | bits)
    return line.read(MSR)


def test_fifos_are_told_of_and_cleared():
    line = Line()
    line.write(IIR, 1)
    assert line.read(IIR) == 0xC0 | NOTHING
    line.port.put(b"abc")
    line.write(IIR, 1 | 2)
    assert line.read(LSR) == 0x60
    line.write(IIR, 0)
    assert line.read(IIR) == NOTHING


def test_input_is_wanted_by_who_listens_and_has_read_all():
    line = Line()
    assert not line.port.wants_input
    line.write(IER, RECEIVED)
    assert line.port.wants_input
    line.port.put(b"x")
    assert not line.port.wants_input
    line.read(DATA)
    assert line.port.wants_input


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 0xFFFFFFFF), st.sampled_from([1, 2, 4]))))
def test_any_writes_leave_a_port_that_answers(writes):
    line = Line()
    for offset, value, size in writes:
        line.port.write(offset, value & (1 << 8 * size) - 1, size)
        assert line.level == line.port.interrupts()
        assert all(0 <= line.port.read(one, 1) <= 0xFF for one in range(8))
    line.write(LCR, 0)
    assert line.read(IER) & 0xF0 == 0 and line.read(MCR) & 0xE0 == 0
    line.write(SCRATCH, 0x77)
    assert line.read(SCRATCH) == 0x77


def test_a_guest_that_sends_to_itself_for_ever_takes_no_more_memory() -> None:
    port = SerialPort(lambda value: None)
    port.write(4, 0x10, 1)
    for _ in range(5000):
        port.write(0, 0x41, 1)
    got = 0
    while port.read(5, 1) & 1:
        port.read(0, 1)
        got += 1
    assert got == 4096
