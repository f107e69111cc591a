"""The serial port: an 8250 with the FIFOs of a 16550A, its line as fast as its guest (PC16550D §8).

What the guest sends is at :attr:`SerialPort.output` at once; what is put in waits until the guest reads it. Not
modelled: speed, parity and framing errors, breaks, modem status changes.
"""

from collections import deque
from collections.abc import Callable

from quire.arch.layout import Layout, bit, bits, ignored, reserved

__all__ = ["COM1", "COM1_PIN", "SERIAL_PORTS", "SerialPort"]

#: The first serial port of a PC: its ports, its pin.
COM1, SERIAL_PORTS, COM1_PIN = 0x3F8, 8, 4
_DATA, _IER, _IIR, _LCR, _MCR, _LSR, _MSR, _SCRATCH = range(8)

INTERRUPT_ENABLE = Layout(
    "INTERRUPT_ENABLE",
    8,
    "PC16550D §8.6",
    (
        bit(0, "received", "data are there"),
        bit(1, "empty", "the transmitter has nothing left"),
        bit(2, "line", "errors"),
        bit(3, "modem", "modem lines change"),
        reserved(4, 7),
    ),
)
LINE_CONTROL = Layout(
    "LINE_CONTROL",
    8,
    "PC16550D §8.1",
    (
        bits(0, 1, "bits", "length of a character"),
        bit(2, "stop", "two stop bits"),
        bits(3, 5, "parity", "parity"),
        bit(6, "break", "the line is held"),
        bit(7, "divisor", "the first two registers are those of the divisor"),
    ),
)
MODEM_CONTROL = Layout(
    "MODEM_CONTROL",
    8,
    "PC16550D §8.7",
    (
        bit(0, "DTR", "data terminal ready"),
        bit(1, "RTS", "request to send"),
        bit(2, "OUT1", "output 1"),
        bit(3, "OUT2", "output 2: on a PC, the gate of the interrupt"),
        bit(4, "loop", "what is sent is received"),
        reserved(5, 7),
    ),
)
FIFO_CONTROL = Layout(
    "FIFO_CONTROL",
    8,
    "PC16550D §8.4",
    (
        bit(0, "on", "both FIFOs"),
        bit(1, "clear_received", "forget what was received"),
        bit(2, "clear_sent", "forget what is to be sent"),
        bit(3, "dma", "DMA mode"),
        ignored(4, 5),
        bits(6, 7, "trigger", "how many bytes make an interrupt"),
    ),
)
LINE_STATUS = Layout(
    "LINE_STATUS",
    8,
    "PC16550D §8.3",
    (
        bit(0, "ready", "data are there"),
        bit(1, "overrun", "data were lost"),
        bit(2, "parity", "parity error"),
        bit(3, "framing", "framing error"),
        bit(4, "break", "the line was held"),
        bit(5, "holding_empty", "the transmitter takes data"),
        bit(6, "empty", "everything was sent"),
        bit(7, "fifo_error", "an error in the FIFO"),
    ),
)
_DIVISOR = LINE_CONTROL.mask("divisor")
_RECEIVED, _EMPTY = INTERRUPT_ENABLE.mask("received"), INTERRUPT_ENABLE.mask("empty")
_LOOP, _GATE = MODEM_CONTROL.mask("loop"), MODEM_CONTROL.mask("OUT2")
_SENT, _READY = LINE_STATUS.mask("holding_empty", "empty"), LINE_STATUS.mask("ready")
_MOST_LOOPED = 4096
_FIFO_ON = FIFO_CONTROL.mask("on")
#: Of the interrupt identification (PC16550D §8.5): nothing, the transmitter, data; the FIFOs are on.
_NOTHING, _ID_EMPTY, _ID_RECEIVED, _ID_FIFO = 1, 2, 4, 0xC0
#: What the modem lines say: carrier, data set ready, clear to send.
_CONNECTED = 0xB0


class SerialPort:
    """One port. Calls `sent` with each byte, :attr:`changed` when its interrupt may be another than before."""

    def __init__(self, sent: Callable[[int], None]) -> None:
        self._sent = sent
        self.changed: Callable[[], None] = lambda: None
        self._input: deque[int] = deque()
        self._enable = self._line = self._modem = self._fifo = self._scratch = 0
        self._divisor = 12  # 9600 baud
        self._was_empty = False  # an interrupt tells that the transmitter has nothing left

    @property
    def wants_input(self) -> bool:
        """Whether the guest has opened the port for reading, and has read all that was put in."""
        return bool(self._enable & _RECEIVED) and not self._input

    def put(self, data: bytes) -> None:
        """Let the guest receive `data`."""
        self._input += data
        self.changed()

    def interrupts(self) -> bool:
        """Whether its line is up."""
        return bool(self._modem & _GATE) and self._cause() != _NOTHING

    def read(self, offset: int, size: int) -> int:
        """Return what IN from its ports reads."""
        del size
        if offset < 2 and self._line & _DIVISOR:
            return self._divisor >> 8 * offset & 0xFF
        if offset == _DATA:
            value = self._input.popleft() if self._input else 0
            self.changed()
            return value
        if offset == _IIR:
            return self._identify()
        if offset == _LSR:
            return _SENT | (_READY if self._input else 0)
        if offset == _MSR:
            return self._modem_lines()
        return {_IER: self._enable, _LCR: self._line, _MCR: self._modem, _SCRATCH: self._scratch}[offset]

    def write(self, offset: int, value: int, size: int) -> None:
        """Take what OUT to its ports writes."""
        del size
        value &= 0xFF
        if offset < 2 and self._line & _DIVISOR:
            self._divisor = self._divisor & 0xFF00 >> 8 * offset | value << 8 * offset
        elif offset == _DATA:
            self._send(value)
        elif offset == _IER:
            if value & _EMPTY & ~self._enable:
                self._was_empty = True
            self._enable = value & ~INTERRUPT_ENABLE.reserved_mask
        elif offset == _IIR:
            self._fifo = value & _FIFO_ON
            if FIFO_CONTROL.get(value, "clear_received"):
                self._input.clear()
        elif offset == _LCR:
            self._line = value
        elif offset == _MCR:
            self._modem = value & ~MODEM_CONTROL.reserved_mask
        elif offset == _SCRATCH:
            self._scratch = value
        self.changed()

    def _send(self, value: int) -> None:
        if self._modem & _LOOP:
            if len(self._input) < _MOST_LOOPED:  # a guest that sends to itself for ever
                self._input.append(value)
        else:
            self._sent(value)
        self._was_empty = True

    def _cause(self) -> int:
        """Return the interrupt that is identified first."""
        if self._enable & _RECEIVED and self._input:
            return _ID_RECEIVED
        return _ID_EMPTY if self._enable & _EMPTY and self._was_empty else _NOTHING

    def _identify(self) -> int:
        cause = self._cause()
        if cause == _ID_EMPTY:
            self._was_empty = False
            self.changed()
        return cause | (_ID_FIFO if self._fifo else 0)

    def _modem_lines(self) -> int:
        if not self._modem & _LOOP:
            return _CONNECTED
        said = MODEM_CONTROL.decode(self._modem)
        return said["RTS"] << 4 | said["DTR"] << 5 | said["OUT1"] << 6 | said["OUT2"] << 7
