"""The CMOS clock of a PC: the date, in decimal digits, by the machine's clock (MC146818 §Time, calendar and alarm).

It has no memory beside, no alarm and no interrupt: what else is read there is 0.
"""

from datetime import datetime, timedelta

from quire.devices.clock import Clock

__all__ = ["CMOS", "CmosClock"]

#: The first of its two ports: the number of a register, then its value.
CMOS = 0x70
_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR = 0, 2, 4, 6, 7, 8, 9
_A, _B, _D, _CENTURY = 0x0A, 0x0B, 0x0D, 0x32
#: The divider runs, no update is under way; hours count to 24; the battery is good.
_RUNS, _HOURS_24, _VALID = 0x26, 0x02, 0x80
_NMI_OFF = 0x80  # of the register's number


class CmosClock:
    """Shows `start`, in UTC, and what has passed on `clock` since."""

    def __init__(self, clock: Clock, start: datetime) -> None:
        self._clock, self._start = clock, start
        self._register = 0

    def read(self, offset: int, size: int) -> int:
        """Return what IN reads."""
        del size
        return self._value() if offset else self._register

    def write(self, offset: int, value: int, size: int) -> None:
        """Choose a register; nothing can be set."""
        del size
        if not offset:
            self._register = value & ~_NMI_OFF & 0xFF

    def _value(self) -> int:
        fixed = {_A: _RUNS, _B: _HOURS_24, _D: _VALID}.get(self._register)
        if fixed is not None:
            return fixed
        try:
            now = self._start + timedelta(microseconds=self._clock.now() // 1000)
        except OverflowError:  # a guest that slept for so long
            now = datetime.max
        number = {
            _SECONDS: now.second,
            _MINUTES: now.minute,
            _HOURS: now.hour,
            _WEEKDAY: now.isoweekday() % 7 + 1,
            _DAY: now.day,
            _MONTH: now.month,
            _YEAR: now.year % 100,
            _CENTURY: now.year // 100,
        }.get(self._register, 0)
        return number // 10 << 4 | number % 10
